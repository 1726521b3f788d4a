package policy

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestFromHTTP(t *testing.T) {
	whole := map[string]string{"s3:ObjectCreationOperation": "true"}
	part := map[string]string{"s3:ObjectCreationOperation": "false"}
	prefix := map[string]string{"s3:prefix": "p/"}
	for _, row := range []struct {
		method, url, header string
		action, resource    string
		keys                map[string]string
	}{
		{"GET", "/b/p/x?x-id=GetObject", "", "s3:GetObject", "arn:aws:s3:::b/p/x", nil},
		{"HEAD", "/b/p/x", "", "s3:GetObject", "arn:aws:s3:::b/p/x", nil},
		{"GET", "/b/p/a%2Bb%25", "", "s3:GetObject", "arn:aws:s3:::b/p/a+b%", nil},
		{"GET", "/b/p/x?attributes", "", "s3:GetObjectAttributes", "arn:aws:s3:::b/p/x", nil},
		{"PUT", "/b/p/x?x-id=PutObject", "", "s3:PutObject", "arn:aws:s3:::b/p/x", whole},
		{"PUT", "/b/p/x", "If-None-Match", "s3:PutObject", "arn:aws:s3:::b/p/x", map[string]string{"s3:ObjectCreationOperation": "true", "s3:if-none-match": "*"}},
		{"PUT", "/b/p/x", "If-Match", "s3:PutObject", "arn:aws:s3:::b/p/x", map[string]string{"s3:ObjectCreationOperation": "true", "s3:if-match": "*"}},
		{"POST", "/b/p/x?uploads", "", "s3:PutObject", "arn:aws:s3:::b/p/x", part},
		{"PUT", "/b/p/x?partNumber=1&uploadId=u", "", "s3:PutObject", "arn:aws:s3:::b/p/x", part},
		{"POST", "/b/p/x?uploadId=u", "If-None-Match", "s3:PutObject", "arn:aws:s3:::b/p/x", map[string]string{"s3:ObjectCreationOperation": "true", "s3:if-none-match": "*"}},
		{"GET", "/b/p/x?uploadId=u", "", "s3:ListMultipartUploadParts", "arn:aws:s3:::b/p/x", nil},
		{"DELETE", "/b/p/x?uploadId=u", "", "s3:AbortMultipartUpload", "arn:aws:s3:::b/p/x", nil},
		{"DELETE", "/b/p/x", "", "s3:DeleteObject", "arn:aws:s3:::b/p/x", nil},
		{"GET", "/b?list-type=2&prefix=p%2F", "", "s3:ListBucket", "arn:aws:s3:::b", prefix},
		{"GET", "/b?list-type=2", "", "s3:ListBucket", "arn:aws:s3:::b", nil},
		{"GET", "/b/?versions&prefix=p%2F", "", "s3:ListBucketVersions", "arn:aws:s3:::b", prefix},
		{"GET", "/b?uploads&prefix=p%2F", "", "s3:ListBucketMultipartUploads", "arn:aws:s3:::b", nil},
		{"GET", "/b?location", "", "s3:GetBucketLocation", "arn:aws:s3:::b", nil},
		{"HEAD", "/b", "", "s3:ListBucket", "arn:aws:s3:::b", nil},
		{"POST", "/2020-05-31/distribution/E1/invalidation", "", "cloudfront:CreateInvalidation", "arn:aws:cloudfront::1:distribution/E1", nil},
		{"GET", "/2020-05-31/distribution/E1/invalidation/I2", "", "cloudfront:GetInvalidation", "arn:aws:cloudfront::1:distribution/E1", nil},
		{"GET", "/2020-05-31/distribution/E1", "", "cloudfront:GetDistribution", "arn:aws:cloudfront::1:distribution/E1", nil},
	} {
		t.Run(row.method+" "+row.url, func(t *testing.T) {
			r := httptest.NewRequest(row.method, "http://localhost"+row.url, nil)
			if row.header != "" {
				r.Header.Set(row.header, "*")
			}
			got, err := FromHTTP(r, "1")
			if err != nil || got.Action != row.action || got.Resource != row.resource || !maps.Equal(got.Keys, row.keys) {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
}

func TestFromHTTPOverlooksNothing(t *testing.T) {
	for _, row := range [][2]string{
		{http.MethodPost, "/b?delete"}, {http.MethodPut, "/b/x?tagging"}, {http.MethodPut, "/b?policy"}, {http.MethodGet, "/"},
		{http.MethodPut, "/2020-05-31/distribution/E1/config"}, {http.MethodPost, "/"},
	} {
		if got, err := FromHTTP(httptest.NewRequest(row[0], "http://localhost"+row[1], nil), "1"); err == nil {
			t.Errorf("%v was taken for %v", row, got)
		}
	}
}
