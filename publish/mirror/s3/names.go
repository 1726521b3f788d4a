package s3

import (
	"fmt"
	"path"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

// checkNoBucket refuses an endpoint whose path ends in the name of the bucket, because the client appends the
// bucket.
func checkNoBucket(endpoint, bucket string) error {
	u, err := redact.Parse(endpoint)
	if err != nil || bucket == "" || path.Base(u.Path) != bucket {
		return nil
	}
	return fmt.Errorf("endpoint %q: it must not contain the bucket, which is appended: want %s", redact.URL(endpoint), u.Scheme+"://"+u.Host+strings.TrimSuffix(path.Dir(u.Path), "/"))
}
