// Package credentials knows how credentials fail at AWS, whichever service it is that says so: what
// it knows of is a mirror.ErrCredentials.
package credentials

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Tagged marks what goes wrong when credentials are got, which the SDK does not.
func Tagged(p aws.CredentialsProvider) aws.CredentialsProvider {
	if p == nil || aws.IsCredentialsProvider(p, (*aws.AnonymousCredentials)(nil)) {
		return p
	}
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := p.Retrieve(ctx)
		if err != nil && ctx.Err() == nil {
			return c, fmt.Errorf("%w: %w", mirror.ErrCredentials, err)
		}
		return c, err
	})
}

// refusals are what services call credentials that are wrong, or no longer right. Each has words of
// its own, and none means anything else by those of another.
var refusals = map[string]bool{
	"AuthFailure":                 true,
	"ExpiredToken":                true,
	"ExpiredTokenException":       true,
	"IncompleteSignature":         true,
	"InvalidAccessKeyId":          true,
	"InvalidClientTokenId":        true,
	"InvalidSecurity":             true,
	"InvalidSignatureException":   true,
	"InvalidToken":                true,
	"MissingAuthenticationToken":  true,
	"NotSignedUp":                 true,
	"OptInRequired":               true,
	"RequestExpired":              true,
	"RequestTimeTooSkewed":        true,
	"SignatureDoesNotMatch":       true,
	"TokenRefreshRequired":        true,
	"UnrecognizedClientException": true,
}

// Refused reports whether the code of an error says that a service does not accept the credentials of
// a request. That they do not permit it is another matter.
func Refused(code string) bool { return refusals[code] }
