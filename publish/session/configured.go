package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/vantagecompute/slurm-factory-publish/publish/endpoint"
)

// A SettingError reports a region or an endpoint of the AWS configuration to which no request can be sent.
type SettingError struct {
	Setting string // a variable, or a key of a profile
	Err     error
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// CheckConfigured checks the region and the endpoints of the environment and of the profile. It returns a
// SettingError for each to which no request can be sent. It makes no request.
func (o Options) CheckConfigured(ctx context.Context) error {
	env, err := config.NewEnvConfig()
	if err != nil {
		return nil // Config returns the error
	}
	shared, profile := o.shared(ctx, env)
	var wrong []error
	check := func(setting, value string, err func(string) error) {
		if value == "" {
			return
		}
		if err := err(value); err != nil {
			wrong = append(wrong, &SettingError{setting, err})
		}
	}
	region := func(name string) error {
		if err := endpoint.CheckRegion(name); err != nil {
			return fmt.Errorf("region %q: %w", name, err)
		}
		return nil
	}
	switch {
	case o.Region != "":
	case env.Region != "":
		check("AWS_REGION or AWS_DEFAULT_REGION", env.Region, region)
	default:
		check("profile "+profile, shared.Region, region)
	}
	if env.IgnoreConfiguredEndpoints == nil || !*env.IgnoreConfiguredEndpoints {
		check("AWS_ENDPOINT_URL", env.BaseEndpoint, endpoint.Check)
		check("profile "+profile, shared.BaseEndpoint, endpoint.Check)
		for _, service := range []string{"S3", "STS", "CloudFront", "KMS", "SQS"} {
			url, _, _ := env.GetServiceBaseEndpoint(ctx, service)
			check("AWS_ENDPOINT_URL_"+strings.ToUpper(service), url, endpoint.Check)
			url, _, _ = shared.GetServiceBaseEndpoint(ctx, service)
			check("profile "+profile, url, endpoint.Check)
		}
	}
	return errors.Join(wrong...)
}
