package session

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// A TokenFile is a file in which another program keeps a valid token: Kubernetes, SPIFFE or another CI. It is read
// for each attempt, so that the latest token is used.
type TokenFile string

// Token implements TokenSource. The program that writes the file decides the audience.
func (f TokenFile) Token(context.Context, string) (string, error) {
	text, err := userfile.Read(string(f))
	if err != nil {
		return "", fmt.Errorf("web identity token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("web identity token: %s is empty", string(f))
	}
	return token, nil
}

// Skew returns 0, because a token issued some time ago does not reveal the clock of its issuer.
func (f TokenFile) Skew() time.Duration { return 0 }

// Check returns the claims of the token in the file. An expired token is an error.
func (f TokenFile) Check(ctx context.Context) (*Claims, error) {
	token, err := f.Token(ctx, "")
	if err != nil {
		return nil, err
	}
	c, err := readClaims(token)
	if err != nil {
		return nil, fmt.Errorf("web identity token: %s: %w", string(f), err)
	}
	if late := time.Since(c.Expires); !c.Expires.IsZero() && late > 0 {
		return c, fmt.Errorf("web identity token: that in %s has expired %s ago", string(f), late.Round(time.Second))
	}
	return c, nil
}

// delegated assumes the role once, with the existing credentials.
func (a *assumer) delegated(ctx context.Context) (lease, error) {
	ctx, cancel := context.WithTimeout(ctx, stsTimeout)
	defer cancel()
	if _, err := a.sts.Options().Credentials.Retrieve(ctx); err != nil {
		return lease{}, &tokenError{err}
	}
	in := &sts.AssumeRoleInput{RoleArn: &a.role.ARN, RoleSessionName: &a.role.SessionName, DurationSeconds: aws.Int32(int32(a.role.duration() / time.Second))}
	if a.role.Policy != "" {
		in.Policy = &a.role.Policy
	}
	out, err := a.sts.AssumeRole(ctx, in)
	if err != nil {
		return lease{}, err
	}
	return a.accept(out.Credentials, out.AssumedRoleUser, out.ResultMetadata)
}

// ofJob reports whether a role is assumed for a job on GitHub. More is then known than STS says.
func (r *Role) ofJob() bool {
	_, kept := r.Token.(TokenFile)
	return r.Token != nil && !kept
}

// onHost explains a failure outside of a job on GitHub.
func (d *diagnosis) onHost() {
	d.Problem = d.tried(d.said)
	switch {
	case d.Code == "":
		d.Code, d.Problem = NoAnswer, d.tried("STS cannot be reached: "+d.said)
		d.hint("this host must reach sts.%s.amazonaws.com on port 443", d.region)
	case d.Claims != nil && (d.Code == "AccessDenied" || d.Code == "InvalidIdentityToken"):
		d.hint("the role must trust tokens of %s for sub %s and aud %s, and its account have that identity provider", d.Claims.Issuer, d.Claims.Subject, strings.Join(d.Claims.Audience, ", "))
	case d.Claims != nil && strings.HasPrefix(d.Code, "ExpiredToken"):
		d.hint("the token has expired at %s: the program that writes its file no longer renews it", d.Claims.Expires.UTC().Format(time.RFC3339))
	case d.Code == "AccessDenied":
		d.hint("the trust policy of the role must name the principal that assumes it, which needs sts:AssumeRole on the role")
	}
}
