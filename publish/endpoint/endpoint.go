// Package endpoint says how addresses and regions of services may be written. It makes no request.
package endpoint

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

// Check refuses what is no address of a service. A password in it would do nothing but be shown: requests are signed.
func Check(endpoint string) error {
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
	case u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("endpoint %q: want http://host or https://host", shown)
	case strings.ContainsAny(endpoint, "?#"):
		return fmt.Errorf("endpoint %q: it must not have a query or a fragment: want %s", shown, u.Scheme+"://"+u.Host+u.Path)
	}
	return nil
}

// region is what the SDK takes as a region: it may become a part of the name of a host.
var region = regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`)

// CheckRegion refuses what no region can be called, also by stores that are not Amazon's.
func CheckRegion(name string) error {
	if !region.MatchString(name) {
		return errors.New("want letters, digits and hyphens, such as us-east-1")
	}
	return nil
}
