package session

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// tidied removes spaces and line breaks around credentials. A key pasted into a secret often ends with a line
// break, which no request can carry. Nothing else is changed. A value that is still not a valid credential is an
// error that names it without showing it.
type tidied struct{ aws.CredentialsProvider }

// tidy returns a provider of tidied credentials.
func tidy(p aws.CredentialsProvider) aws.CredentialsProvider {
	if p == nil || aws.IsCredentialsProvider(p, (*aws.AnonymousCredentials)(nil)) {
		return p
	}
	return tidied{p}
}

// Retrieve implements aws.CredentialsProvider.
func (t tidied) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := t.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, err
	}
	for _, part := range []struct {
		name string // in the environment
		text *string
	}{{"AWS_ACCESS_KEY_ID", &c.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", &c.SecretAccessKey}, {"AWS_SESSION_TOKEN", &c.SessionToken}} {
		*part.text = strings.TrimSpace(*part.text)
		if strings.ContainsFunc(*part.text, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) || unicode.IsControl(r) }) {
			return aws.Credentials{}, fmt.Errorf("%s (%s) has a space, a line break or another character in it that no credential has: copy it again", part.name, c.Source)
		}
	}
	return c, nil
}
