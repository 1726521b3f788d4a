package credentials_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// That there are no credentials is told apart from all else, and from not having waited for them.
func TestTagged(t *testing.T) {
	none := errors.New("no profile of that name")
	failing := credentials.Tagged(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, none }))
	if _, err := failing.Retrieve(t.Context()); !errors.Is(err, mirror.ErrCredentials) || !errors.Is(err, none) {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := failing.Retrieve(ctx); errors.Is(err, mirror.ErrCredentials) {
		t.Errorf("nobody waited, and the error is %v", err)
	}
	good := credentials.Tagged(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a"}, nil
	}))
	if c, err := good.Retrieve(t.Context()); err != nil || c.AccessKeyID != "a" {
		t.Errorf("%v, %v", c, err)
	}
	// Who signs nothing needs none.
	if p := credentials.Tagged(aws.AnonymousCredentials{}); !aws.IsCredentialsProvider(p, (*aws.AnonymousCredentials)(nil)) {
		t.Errorf("%T", p)
	}
	if p := credentials.Tagged(nil); p != nil {
		t.Errorf("%T", p)
	}
}

func TestRefused(t *testing.T) {
	for code, want := range map[string]bool{"ExpiredToken": true, "InvalidAccessKeyId": true, "InvalidClientTokenId": true, "AccessDenied": false, "SlowDown": false, "": false} {
		if credentials.Refused(code) != want {
			t.Errorf("%s: %t", code, !want)
		}
	}
}
