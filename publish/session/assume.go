package session

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// An assumer exchanges tokens, or other credentials, for credentials of a role.
type assumer struct {
	role     *Role
	sts      *sts.Client
	retrying func(attempt, most int, err error) // see Options
}

func newAssumer(cfg aws.Config, r *Role, retrying func(attempt, most int, err error)) *assumer {
	return &assumer{role: r, retrying: retrying, sts: sts.NewFromConfig(cfg, func(o *sts.Options) {
		if r.Token != nil {
			o.Credentials = aws.AnonymousCredentials{} // the token is the identity
		}
		o.Retryer = aws.NopRetryer{} // the SDK's retries would send the same token again
		if o.Region == "" {
			o.Region = homes[r.partition()]
		}
		if o.Region == "" {
			o.Region = homes["aws"]
		}
	})}
}

const (
	// assumeTimeout bounds all attempts together.
	assumeTimeout = 150 * time.Second
	// stsTimeout bounds one request.
	stsTimeout = 15 * time.Second

	firstPause   = time.Second
	longestAgain = 16 * time.Second
)

// deniedPauses are the pauses after AccessDenied. They allow for a new role or policy that IAM does not know
// everywhere yet. They are few, because the reason is nearly always another one.
var deniedPauses = []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second}

// assume makes up to the given number of attempts, each with its own token. It fails with an *AuthError, unless
// ctx is done.
func (a *assumer) assume(ctx context.Context, attempts int) (lease, error) {
	patient, cancel := context.WithTimeout(ctx, assumeTimeout)
	defer cancel()
	for n := 1; ; n++ {
		l, tried, err := a.attempt(patient)
		if err == nil {
			a.role.log().Info("credentials renewed", "role", a.role.ARN, "valid until", l.creds.Expires.UTC().Format(time.RFC3339), "attempt", n)
			return l, nil
		}
		if ctx.Err() != nil {
			return lease{}, ctx.Err()
		}
		pause, again := pauseAfter(err, n)
		if !again || n >= attempts || patient.Err() != nil {
			return lease{}, a.explain(err, tried, n)
		}
		a.role.log().Info("role not assumed, trying again", "attempt", n, "pause", pause.Round(time.Millisecond).String(), "reason", strings.TrimPrefix(codeOf(err)+": "+said(err), ": "))
		if a.retrying != nil {
			a.retrying(n+1, attempts, err)
		}
		if smithytime.SleepWithContext(patient, pause) != nil && ctx.Err() != nil {
			return lease{}, ctx.Err()
		}
	}
}

// A try describes an attempt, for its diagnosis.
type try struct {
	claims *Claims
	skew   time.Duration // by which the issuer's clock is ahead of the local one
}

// attempt gets a token and sends it to STS, once.
func (a *assumer) attempt(ctx context.Context) (lease, try, error) {
	if a.role.Token == nil {
		l, err := a.delegated(ctx)
		return l, try{}, err
	}
	token, err := a.role.Token.Token(ctx, a.role.audience())
	if err != nil {
		return lease{}, try{}, &tokenError{err}
	}
	a.role.secret(token)
	claims, err := readClaims(token)
	if err != nil {
		return lease{}, try{}, &tokenError{err}
	}
	t := try{claims: claims, skew: a.skew(claims)}
	ctx, cancel := context.WithTimeout(ctx, stsTimeout)
	defer cancel()
	in := &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          &a.role.ARN,
		RoleSessionName:  &a.role.SessionName,
		DurationSeconds:  aws.Int32(int32(a.role.duration() / time.Second)),
		WebIdentityToken: &token,
	}
	if a.role.Policy != "" {
		in.Policy = &a.role.Policy
	}
	out, err := a.sts.AssumeRoleWithWebIdentity(ctx, in)
	if err != nil {
		return lease{}, t, err
	}
	l, err := a.accept(out.Credentials, out.AssumedRoleUser, out.ResultMetadata)
	return l, t, err
}

// A tokenError reports that there was no token to send to STS. The token source has already retried.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// skew returns by how much the issuer's clock is ahead of the local one: as measured by the token source, or else
// by the time at which the token says it was issued.
func (a *assumer) skew(c *Claims) time.Duration {
	if told, ok := a.role.Token.(interface{ Skew() time.Duration }); ok {
		return told.Skew()
	}
	if c.IssuedAt.IsZero() {
		return 0
	}
	return time.Until(c.IssuedAt)
}

// An accountError reports that the role is in an account that is not allowed.
type accountError struct{ account string }

func (e *accountError) Error() string {
	if e.account == "" {
		return "the account of the role is unknown"
	}
	return "the role is in account " + e.account
}

var (
	errNoCredentials = errors.New("the answer has no credentials")
	errExpired       = errors.New("the answer has credentials that have expired")
)

// accept makes a lease of an answer of STS, if its account is allowed.
func (a *assumer) accept(c *types.Credentials, user *types.AssumedRoleUser, answer smithymiddleware.Metadata) (lease, error) {
	if c == nil || aws.ToString(c.AccessKeyId) == "" || aws.ToString(c.SecretAccessKey) == "" || c.Expiration == nil {
		return lease{}, errNoCredentials
	}
	for _, s := range []*string{c.AccessKeyId, c.SecretAccessKey, c.SessionToken} {
		a.role.secret(aws.ToString(s))
	}
	account := ""
	if user != nil {
		if arn := strings.Split(aws.ToString(user.Arn), ":"); len(arn) > 4 {
			account = arn[4]
		}
	}
	if !a.role.allows(account) {
		return lease{}, &accountError{account}
	}
	creds := aws.Credentials{
		AccessKeyID:     *c.AccessKeyId,
		SecretAccessKey: *c.SecretAccessKey,
		SessionToken:    aws.ToString(c.SessionToken),
		Source:          "assumed role",
		CanExpire:       true,
		Expires:         *c.Expiration,
		AccountID:       account,
	}
	left := life(*c.Expiration, answer)
	if left <= 0 {
		return lease{}, errExpired
	}
	return newLease(creds, left), nil
}

// maxSkew is the largest clock difference that is ignored.
const maxSkew = 30 * time.Second

// life returns how long credentials are valid. If the local clock is wrong, the clock of STS decides.
func life(expires time.Time, answer smithymiddleware.Metadata) time.Duration {
	theirs, ok := middleware.GetServerTime(answer)
	if ok && time.Until(theirs).Abs() > maxSkew {
		return expires.Sub(theirs)
	}
	return time.Until(expires)
}

// pauseAfter returns how long to wait after the n-th failed attempt, and whether another attempt may succeed.
func pauseAfter(err error, n int) (time.Duration, bool) {
	var failed *tokenError
	var account *accountError
	var untrusted *mirror.CertificateError
	switch code := codeOf(err); {
	case errors.As(err, &failed), errors.As(err, &account), errors.As(err, &untrusted):
		return 0, false
	case code == "AccessDenied":
		if n > len(deniedPauses) {
			return 0, false
		}
		return deniedPauses[n-1], true
	case code == "InvalidIdentityToken":
		return again(n), strings.Contains(err.Error(), "retrieve verification key")
	case transient[code], throttled(err), statusOf(err) >= 500, code == "":
		return again(n), true
	}
	return 0, false
}

// transient lists the codes of refusals that another attempt with another token may avoid.
var transient = map[string]bool{
	"IDPCommunicationError": true,
	"ExpiredTokenException": true,
	"ExpiredToken":          true,
	"InternalFailure":       true,
	"ServiceUnavailable":    true,
}

func again(n int) time.Duration {
	d := min(firstPause<<(n-1), longestAgain)
	return d/2 + jitter(d/2)
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func statusOf(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}
