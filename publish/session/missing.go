package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// A ProfileError reports a profile of the AWS configuration that has no usable credentials.
type ProfileError struct {
	Profile string
	Problem string
	MFA     bool     // it needs a code from a device, which this program does not ask for
	Known   []string // the existing profiles, sorted
	Err     error
}

func (e *ProfileError) Error() string {
	known := "there is no profile at all"
	if len(e.Known) > 0 {
		known = "the profiles are " + strings.Join(e.Known, ", ")
	}
	return fmt.Sprintf("profile %s: %s; %s", e.Profile, e.Problem, known)
}

func (e *ProfileError) Unwrap() error { return e.Err }

// explainProfile returns a ProfileError if err concerns a profile, and err itself otherwise.
func explainProfile(profile string, err error) error {
	env, envErr := config.NewEnvConfig()
	if envErr != nil {
		return err
	}
	if profile == "" {
		profile = env.SharedConfigProfile
	}
	if profile == "" {
		profile = "default"
	}
	e := &ProfileError{Profile: profile, Err: err, Known: profiles(env)}
	var missing config.SharedConfigProfileNotExistError
	var assume config.SharedConfigAssumeRoleError
	var mfa config.AssumeRoleTokenProviderNotSetError
	switch {
	case errors.As(err, &mfa):
		e.MFA, e.Problem = true, "its role wants a code of an MFA device, which is not asked for"
	case errors.As(err, &assume):
		e.Problem = fmt.Sprintf("the source_profile of its role %s leads to no credentials: it is missing, has none, or leads back to this profile", assume.RoleARN)
	case errors.As(err, &missing):
		e.Problem = "there is none of that name"
	case strings.Contains(err.Error(), "partial credentials found"):
		e.Problem = "it has half of an access key: aws_access_key_id and aws_secret_access_key belong together"
	case strings.Contains(err.Error(), "failed to find SSO session section"):
		e.Problem = "the section [sso-session ...] that its sso_session names is not there"
	default:
		return err
	}
	return e
}

var section = regexp.MustCompile(`(?m)^\s*\[\s*(?:profile\s+)?([^\]\s][^\]]*?)\s*\]`)

// profiles returns the names of the profiles in the shared files. It ignores files that cannot be read.
func profiles(env config.EnvConfig) []string {
	var names []string
	for _, file := range []string{or(env.SharedConfigFile, config.DefaultSharedConfigFilename()), or(env.SharedCredentialsFile, config.DefaultSharedCredentialsFilename())} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, m := range section.FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(m[1], "sso-session ") && !strings.HasPrefix(m[1], "services ") {
				names = append(names, strings.Trim(m[1], `"'`))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// checkKey refuses an environment that has half of an access key and names no profile. The SDK would silently
// ignore it and use the next credentials that it finds.
func checkKey(cfg aws.Config) error {
	for _, source := range cfg.ConfigSources {
		if env, ok := source.(config.EnvConfig); ok && (env.Credentials.HasKeys() || env.SharedConfigProfile != "") {
			return nil
		}
	}
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	switch {
	case id != "" && secret == "":
		return errors.New("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both or none")
	case id == "" && secret != "":
		return errors.New("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not: set both or none")
	}
	return nil
}

// A missingError lists the places where credentials were looked for.
type missingError struct {
	error   // of the SDK; it names only the last place
	problem string
}

func (e missingError) Error() string { return e.problem }
func (e missingError) Unwrap() error { return e.error }

// explained returns a missingError if the SDK's error names only the metadata service of the machine.
type explained struct {
	aws.CredentialsProvider
	profile string
}

// explain returns a provider whose errors name what is missing.
func explain(p aws.CredentialsProvider, profile string) aws.CredentialsProvider {
	if p == nil || aws.IsCredentialsProvider(p, (*aws.AnonymousCredentials)(nil)) {
		return p
	}
	return explained{p, profile}
}

// Retrieve implements aws.CredentialsProvider.
func (p explained) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := p.CredentialsProvider.Retrieve(ctx)
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "no EC2 IMDS role found") {
		return c, err
	}
	return c, missingError{err, fmt.Sprintf("there are none in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, none in profile %s, and this machine has no role", or(p.profile, "default"))}
}
