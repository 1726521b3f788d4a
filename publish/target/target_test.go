package target

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// A destination in S3 is taken as Spack and the AWS CLI take it.
func TestDestinationsInS3AreTakenLiterally(t *testing.T) {
	for where, want := range map[string][2]string{
		"s3://bucket":                    {"bucket", ""},
		"s3://bucket/":                   {"bucket", ""},
		"s3://bucket/noble/spack/":       {"bucket", "noble/spack"},
		"s3://bucket/pct%20x":            {"bucket", "pct%20x"},
		"s3://bucket/100%":               {"bucket", "100%"},
		"s3://bucket/a b+c":              {"bucket", "a b+c"},
		"s3://bucket/größe":              {"bucket", "größe"},
		"S3://bucket/x":                  {"bucket", "x"},
		"s3://ap-0123456789-s3alias/x":   {"ap-0123456789-s3alias", "x"},
		"s3://tenant:bucket/x":           {"tenant:bucket", "x"},
		"s3://bucket.with.dots/x:y@z=1&": {"bucket.with.dots", "x:y@z=1&"},
	} {
		bucket, prefix, err := BucketAndPrefix(where)
		if err != nil || bucket != want[0] || prefix != want[1] {
			t.Errorf("%s: got %q, %q, %v", where, bucket, prefix, err)
		}
	}
}

// A network that is away is no misuse of the command line.
func TestAnUnreachableBucketIsNoUsageError(t *testing.T) {
	for _, row := range []struct {
		err   error
		usage bool
	}{
		{&url.Error{Op: "Head", URL: "https://bucket.s3.amazonaws.com/", Err: errors.New("connection refused")}, false},
		{&url.Error{Op: "parse", URL: "x", Err: errors.New("no scheme")}, true},
		{errors.New("part size 1: S3 takes 5 MiB to 5 GiB"), true},
	} {
		var usage *ConfigError
		if is := errors.As(openError(fmt.Errorf("open s3://bucket: %w", row.err)), &usage); is != row.usage {
			t.Errorf("%v: wrong usage is %v, want %v", row.err, is, row.usage)
		}
	}
}

// A role is assumed with the token of a file, in a session that has a name, and what is wrong with it is said by
// setting.
func TestRoleOfAConfig(t *testing.T) {
	c := Config{Role: "arn:aws:iam::123456789012:role/publisher", TokenFile: "/run/token"}
	role, err := c.assumed(nil)
	if err != nil || role.Name() != "publisher" || role.Token != session.TokenFile("/run/token") || !strings.HasPrefix(role.SessionName, "slurm-factory-publish") {
		t.Errorf("%+v, %v", role, err)
	}
	for name, c := range map[string]Config{
		"web-identity-token-file": {TokenFile: "/run/token"},
		"role-session-name":       {Role: c.Role, RoleSession: "a b"},
		"role-to-assume":          {Role: "publisher"},
		"public-url":              {CDN: CDNConfig{PublicURL: "cache.example.org"}},
		"endpoint-url":            {S3: s3.Options{EndpointURL: "127.0.0.1:9000"}},
	} {
		if all := field.Each(c.Validate()); len(all) != 1 || field.Name(all[0]) != name {
			t.Errorf("%s: %q", name, all)
		}
	}
}
