package session_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

var usual = session.Scope{
	Bucket: "slurm-factory-spack-buildcache-4b670", Prefix: "noble/spack",
	Distribution: "E2QWRUHAPOMQZL", Account: sessiontest.Account,
}

func TestSessionPolicies(t *testing.T) {
	reading, elsewhere, alias, cn, minio := usual, usual, usual, usual, usual
	minio = (&session.Role{ARN: "arn:minio:iam:::role/github"}).Scope(minio)
	minio.Account = usual.Account
	reading.ReadOnly = true
	elsewhere.KMSKey = "arn:aws:kms:eu-north-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	alias.KMSKey = "alias/cache"
	signs, signsByARN, looksOnly := usual, usual, reading
	signs.SigningKey, looksOnly.SigningKey = "alias/release", "alias/release"
	signsByARN.SigningKey = "arn:aws:kms:eu-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	cn.Partition, cn.KMSKey = "aws-cn", "1234abcd-12ab-34cd-56ef-1234567890ab"
	const (
		list = `{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::slurm-factory-spack-buildcache-4b670","Condition":{"StringLike":{"s3:prefix":"noble/spack/*"}}},` +
			`{"Effect":"Allow","Action":"s3:ListBucketMultipartUploads","Resource":"arn:aws:s3:::slurm-factory-spack-buildcache-4b670"}`
		write = `{"Version":"2012-10-17","Statement":[` +
			`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"Resource":"arn:aws:s3:::slurm-factory-spack-buildcache-4b670/noble/spack/*"},` + list + `,` +
			`{"Effect":"Allow","Action":["cloudfront:CreateInvalidation","cloudfront:GetInvalidation"],"Resource":"arn:aws:cloudfront::123456789012:distribution/E2QWRUHAPOMQZL"},`
		decrypt = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":{"StringLike":{"kms:ViaService":"s3.*"}}}`
	)
	for name, row := range map[string]struct {
		scope session.Scope
		want  string
	}{
		"to publish": {usual, write +
			`{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*","Condition":{"StringLike":{"kms:ViaService":"s3.*"}}}]}`},
		"to look": {reading, `{"Version":"2012-10-17","Statement":[` +
			`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::slurm-factory-spack-buildcache-4b670/noble/spack/*"},` + list + `,` + decrypt + `]}`},
		"a key": {elsewhere, write + decrypt +
			`,{"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"arn:aws:kms:eu-north-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab"}]}`},
		"an alias": {alias, write + decrypt +
			`,{"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/cache"}}}]}`},
		"an alias that signs": {signs, write + `{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*","Condition":{"StringLike":{"kms:ViaService":"s3.*"}}}` +
			`,{"Effect":"Allow","Action":"kms:Sign","Resource":"*","Condition":{"StringEquals":{"kms:RequestAlias":"alias/release"}}}]}`},
		"a key that signs": {signsByARN, write + `{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*","Condition":{"StringLike":{"kms:ViaService":"s3.*"}}}` +
			`,{"Effect":"Allow","Action":"kms:Sign","Resource":"arn:aws:kms:eu-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"}]}`},
		"to look, without signing": {looksOnly, `{"Version":"2012-10-17","Statement":[` +
			`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::slurm-factory-spack-buildcache-4b670/noble/spack/*"},` + list + `,` + decrypt + `]}`},
		"MinIO": {minio, strings.TrimSuffix(write, ",") + "]}"},
		"China": {cn, strings.ReplaceAll(write+decrypt+
			`,{"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"arn:aws:kms:*:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"}]}`, "arn:aws:", "arn:aws-cn:")},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, session.SessionPolicy(row.scope)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	if n := len(session.SessionPolicy(usual)); n > 1000 {
		t.Errorf("%d characters for usual names", n)
	}
}

func TestScopeOfARole(t *testing.T) {
	r := session.Role{ARN: "arn:aws-us-gov:iam::210987654321:role/ci/publish"}
	got := r.Scope(session.Scope{Bucket: "b", Distribution: "E1"})
	if got.Account != "210987654321" || got.Partition != "aws-us-gov" {
		t.Errorf("%+v", got)
	}
}

// A limited is a session with a policy, to be asked what it may do.
type limited struct {
	server  *sessiontest.Server
	session sessiontest.Session
}

func limit(t fataler, scope session.Scope) limited {
	server, err := sessiontest.Handler("https://sts.example", sessiontest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Begin(session.SessionPolicy(scope))
	if err != nil {
		t.Fatalf("%v\n%s", err, session.SessionPolicy(scope))
	}
	return limited{server, s}
}

type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

func (l limited) may(method, path, query string) bool {
	u := &url.URL{Scheme: "https", Host: "aws.example", Path: path, RawQuery: query}
	r := &http.Request{Method: method, URL: u, Header: http.Header{}}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20000101/us-east-1/s3/aws4_request", l.session.AccessKey))
	r.Header.Set("X-Amz-Security-Token", l.session.Token)
	return l.server.Check(r) == nil
}

func TestWhatASessionMayDo(t *testing.T) {
	scope := session.Scope{Bucket: "b", Prefix: "noble/spack", Distribution: "E1", Account: sessiontest.Account}
	looking := scope
	looking.ReadOnly = true
	publish, look := limit(t, scope), limit(t, looking)
	for _, row := range []struct {
		method, path, query string
		publish, look       bool
	}{
		{"GET", "/b/noble/spack/v3/layout.json", "", true, true},
		{"HEAD", "/b/noble/spack/v3/layout.json", "", true, true},
		{"PUT", "/b/noble/spack/v3/layout.json", "", true, false},
		{"POST", "/b/noble/spack/blob", "uploads", true, false},
		{"PUT", "/b/noble/spack/blob", "partNumber=1&uploadId=u", true, false},
		{"POST", "/b/noble/spack/blob", "uploadId=u", true, false},
		{"GET", "/b/noble/spack/blob", "uploadId=u", true, false},
		{"DELETE", "/b/noble/spack/blob", "uploadId=u", true, false},
		{"DELETE", "/b/noble/spack/blob", "", false, false},
		{"GET", "/b", "list-type=2&prefix=noble%2Fspack%2F", true, true},
		{"GET", "/b", "list-type=2&prefix=noble%2Fspack%2Fv3%2F", true, true},
		{"GET", "/b", "uploads&prefix=noble%2Fspack%2F", true, true},
		// Neighbours.
		{"GET", "/b/noble/spack2/v3/layout.json", "", false, false},
		{"PUT", "/b/noble/spack2/v3/layout.json", "", false, false},
		{"PUT", "/b/noble/spack", "", false, false},
		{"PUT", "/b/jammy/spack/v3/layout.json", "", false, false},
		{"PUT", "/b/jammy/noble/spack/v3/layout.json", "", false, false},
		{"PUT", "/b2/noble/spack/v3/layout.json", "", false, false},
		{"GET", "/b", "list-type=2&prefix=noble%2Fspack", false, false},
		{"GET", "/b", "list-type=2&prefix=noble%2Fspack2%2F", false, false},
		{"GET", "/b", "list-type=2", false, false},
		{"POST", "/2020-05-31/distribution/E1/invalidation", "", true, false},
		{"GET", "/2020-05-31/distribution/E1/invalidation/I1", "", true, false},
		{"POST", "/2020-05-31/distribution/E2/invalidation", "", false, false},
		{"GET", "/2020-05-31/distribution/E1/config", "", false, false},
	} {
		for who, is := range map[string]struct{ may, want bool }{
			"publishes": {publish.may(row.method, row.path, row.query), row.publish},
			"looks":     {look.may(row.method, row.path, row.query), row.look},
		} {
			if is.may != is.want {
				t.Errorf("who %s may %s %s?%s: %v", who, row.method, row.path, row.query, is.may)
			}
		}
	}
}

func TestTheWholeBucket(t *testing.T) {
	l := limit(t, session.Scope{Bucket: "b"})
	if !l.may("PUT", "/b/x", "") || !l.may("GET", "/b", "list-type=2") || l.may("PUT", "/c/x", "") {
		t.Errorf("%s", l.session.Policy)
	}
}

// The longest names that S3 and the others permit fit, too. What is cut off widens the
// scope, and never narrows it.
func TestTheLongestNames(t *testing.T) {
	for name, prefix := range map[string]string{
		"letters":      strings.Repeat("p", 1024),
		"wildcards":    strings.Repeat("*", 1024),
		"quotes":       strings.Repeat(`"`, 1024),
		"no Latin-1":   "p/" + strings.Repeat("漢", 340),
		"control":      "p/" + strings.Repeat("\x01", 1022),
		"backslashes":  strings.Repeat(`\`, 1024),
		"directories":  strings.Repeat("p/", 511) + "p",
		"just fitting": strings.Repeat("p", 560),
	} {
		t.Run(name, func(t *testing.T) {
			scope := session.Scope{
				Bucket: strings.Repeat("b", 63), Prefix: prefix,
				Distribution: strings.Repeat("E", 32), Account: sessiontest.Account,
				KMSKey:     "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-" + strings.Repeat("0", 32),
				SigningKey: "alias/" + strings.Repeat("a", 250),
				Partition:  "aws-us-gov",
			}
			policy := session.SessionPolicy(scope)
			if n := utf8.RuneCountInString(policy); n > 2048 || !json.Valid([]byte(policy)) {
				t.Fatalf("%d characters: %s", n, policy)
			}
			scope.Partition = "aws" // that of the role
			l := limit(t, scope)
			if !l.may("PUT", "/"+scope.Bucket+"/"+prefix+"/v3/layout.json", "") {
				t.Errorf("it may not write:\n%s", policy)
			}
			if !l.may("GET", "/"+scope.Bucket, "list-type=2&prefix="+url.QueryEscape(prefix+"/")) {
				t.Errorf("it may not list:\n%s", policy)
			}
			if l.may("PUT", "/"+scope.Bucket+"/elsewhere/v3/layout.json", "") {
				t.Errorf("it may write elsewhere:\n%s", policy)
			}
		})
	}
}

// Whatever a prefix is called: its names are in the scope, and no name is that does not
// begin with it, as long as all of it can be written.
func TestScopesOfAnyPrefix(t *testing.T) {
	name := rapid.StringMatching(`[a-c*?${}"\\<&é ]{1,6}(/[a-c*?$]{1,4})?`)
	rapid.Check(t, func(t *rapid.T) {
		prefix := strings.Trim(name.Draw(t, "prefix"), "/")
		other := strings.Trim(name.Draw(t, "other"), "/")
		l := limit(t, session.Scope{Bucket: "b", Prefix: prefix})
		if !l.may("PUT", "/b/"+prefix+"/"+other, "") || !l.may("GET", "/b", "list-type=2&prefix="+url.QueryEscape(prefix+"/"+other)) {
			t.Fatalf("%q is not in the scope of %q", prefix+"/"+other, prefix)
		}
		if in := strings.HasPrefix(other, prefix+"/"); l.may("PUT", "/b/"+other, "") != in {
			t.Fatalf("%q is in the scope of %q: %v", other, prefix, !in)
		}
	})
}
