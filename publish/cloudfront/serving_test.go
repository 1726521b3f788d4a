package cloudfront_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	static "github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
)

// listed is a list of distributions in the words of CloudFront.
const listed = `<?xml version="1.0"?><DistributionList xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/">
<IsTruncated>%t</IsTruncated><NextMarker>%s</NextMarker><Items>
<DistributionSummary><Id>%s</Id><DomainName>d1.cloudfront.net</DomainName><Aliases>%s</Aliases>
<Origins><Quantity>1</Quantity><Items><Origin><Id>o</Id><DomainName>%s</DomainName><OriginPath>%s</OriginPath></Origin></Items></Origins>
</DistributionSummary></Items></DistributionList>`

func TestTheDistributionsThatServeABucket(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("Marker") {
		case "":
			fmt.Fprintf(w, listed, true, "2", "E1", "<Quantity>1</Quantity><Items><CNAME>cache.example.org</CNAME></Items>", "my-cache.s3.eu-central-1.amazonaws.com", "/noble")
		case "2":
			fmt.Fprintf(w, listed, true, "3", "E2", "<Quantity>0</Quantity>", "my-cache-of-another.s3.amazonaws.com", "")
		default:
			fmt.Fprintf(w, listed, false, "", "E3", "<Quantity>0</Quantity>", "my-cache.s3.amazonaws.com", "")
		}
	}))
	defer s.Close()
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: &s.URL, Credentials: static.NewStaticCredentialsProvider("a", "b", "")}
	got, err := cloudfront.Serving(t.Context(), cfg, "my-cache")
	want := []cloudfront.Distribution{{ID: "E1", Host: "cache.example.org", Path: "/noble"}, {ID: "E3", Host: "d1.cloudfront.net"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	s.Close()
	if _, err := cloudfront.Serving(t.Context(), cfg, "my-cache"); err == nil {
		t.Error("a server that is away serves nothing, without an error")
	}
}
