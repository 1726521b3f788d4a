package s3

import (
	"fmt"
	"path"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

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
