// Package credentials recognizes errors about credentials from any AWS service, so that they become a
// mirror.ErrCredentials.
package credentials

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Tagged returns a provider that marks its errors with an Error. The SDK does not mark them.
func Tagged(p aws.CredentialsProvider) aws.CredentialsProvider {
	if p == nil || aws.IsCredentialsProvider(p, (*aws.AnonymousCredentials)(nil)) {
		return p
	}
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := p.Retrieve(ctx)
		if err != nil && ctx.Err() == nil {
			return c, &Error{err}
		}
		return c, err
	})
}

// An Error is the reason why there are no credentials. It matches mirror.ErrCredentials.
type Error struct{ Err error }

func (e *Error) Error() string { return mirror.ErrCredentials.Error() + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, mirror.ErrCredentials) hold.
func (e *Error) Is(target error) bool { return target == mirror.ErrCredentials }

// refusals are the error codes for credentials that are wrong or no longer valid. Services have different codes,
// but no code has another meaning at another service.
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
	"XAdminUserNotFound":          true, // versitygw
}

// Refused reports whether an error code says that a service does not accept the credentials of a request. It is
// false for credentials without the permission for the request.
func Refused(code string) bool { return refusals[code] }
