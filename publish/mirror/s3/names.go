package s3

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

// directoryBucket matches the names of buckets, and of access points to buckets, of S3 Express One Zone.
var directoryBucket = regexp.MustCompile(`--(x|xa)-s3$`)

// CheckBucket refuses buckets that cannot hold a mirror, by their names.
func CheckBucket(name string) error {
	if directoryBucket.MatchString(name) {
		return fmt.Errorf("%s is a directory bucket of S3 Express One Zone, which cannot hold a mirror, because it lists keys in no order: use a general purpose bucket", name)
	}
	return nil
}

var accessPoint = regexp.MustCompile(`^arn:[a-z-]+:s3:([a-z0-9-]*):([0-9]*):accesspoint[:/]([a-zA-Z0-9.-]+)`)

// CheckARN refuses an ARN, which may be followed by a prefix, in the place of a bucket's name, and says which name to
// give instead. Spack cannot read from an ARN.
func CheckARN(name string) error {
	if !strings.HasPrefix(name, "arn:") {
		return nil
	}
	point := accessPoint.FindStringSubmatch(name)
	switch {
	case point == nil:
		return errors.New("an ARN is no name of a bucket, and Spack cannot read from it: give the name of the bucket")
	case point[1] == "":
		return errors.New("a multi-region access point has no alias that is the name of a bucket, and Spack cannot read from it: give the name of one of its buckets")
	}
	return fmt.Errorf("an ARN is no name of a bucket, and Spack cannot read from it: give the alias of the access point, %s-...-s3alias, which `aws s3control get-access-point --region %s --account-id %s --name %s --query Alias` shows",
		point[3], point[1], point[2], point[3])
}

// checkNoBucket refuses an endpoint whose path ends in the name of the bucket, which is appended to it.
func checkNoBucket(endpoint, bucket string) error {
	u, err := redact.Parse(endpoint)
	if err != nil || bucket == "" || path.Base(u.Path) != bucket {
		return nil
	}
	return fmt.Errorf("endpoint %q: it must not contain the bucket, which is appended: want %s", redact.URL(endpoint), u.Scheme+"://"+u.Host+strings.TrimSuffix(path.Dir(u.Path), "/"))
}

// checkEndpoint refuses what is no endpoint. A password in it would do nothing but be shown: requests are
// signed.
func checkEndpoint(endpoint string) error {
	u, err := redact.Parse(endpoint)
	if err != nil && !strings.Contains(endpoint, "://") && !redact.Has(endpoint) {
		return fmt.Errorf("endpoint %q: want http:// or https:// in front of it", endpoint)
	}
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	switch shown := redact.URL(endpoint); {
	case redact.Has(endpoint):
		return fmt.Errorf("endpoint %q: it must not have a user or a password: S3 takes access keys, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", shown)
	case u.Host == "" && u.Scheme == "" || !strings.Contains(endpoint, "://"):
		return fmt.Errorf("endpoint %q: want http:// or https:// in front of it", shown)
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("endpoint %q: want http://host or https://host", shown)
	}
	return nil
}
