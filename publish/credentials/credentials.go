// Package credentials knows how credentials fail at AWS, whichever service it is that says so: what
// it knows of is a mirror.ErrCredentials.
package credentials

import (
	"context"

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
			return c, &Error{err}
		}
		return c, err
	})
}

// An Error says why there are no credentials. It matches mirror.ErrCredentials.
type Error struct{ Err error }

func (e *Error) Error() string { return mirror.ErrCredentials.Error() + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, mirror.ErrCredentials) hold.
func (e *Error) Is(target error) bool { return target == mirror.ErrCredentials }

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
	"XAdminUserNotFound":          true, // versitygw
}

// Refused reports whether the code of an error says that a service does not accept the credentials of
// a request. That they do not permit it is another matter.
func Refused(code string) bool { return refusals[code] }
