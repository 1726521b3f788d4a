package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// Nothing of the machine that runs the tests may show.
func bare(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func TestTheEnvironmentGivesCredentialsAndRegion(t *testing.T) {
	bare(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "eu-north-1")
	cfg, err := session.Config(context.Background(), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	creds, err := cfg.Credentials.Retrieve(context.Background())
	if err != nil || creds.AccessKeyID != "AKIA" {
		t.Errorf("credentials %v, %v", creds.AccessKeyID, err)
	}
	if cfg.Region != "eu-north-1" {
		t.Errorf("region %q", cfg.Region)
	}
	cfg, err = session.Config(context.Background(), session.Options{Region: "eu-west-1"})
	if err != nil || cfg.Region != "eu-west-1" {
		t.Errorf("a region that is given must win: %q, %v", cfg.Region, err)
	}
}

// The SDK would use the next credentials that it finds.
func TestHalfOfAnAccessKeyIsNoCredential(t *testing.T) {
	for _, c := range []struct{ name, id, secret, profile, option, want string }{
		{"no secret", "AKIA", "", "", "", "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both or none"},
		{"no ID", "", "secret", "", "", "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not: set both or none"},
		{"both", "AKIA", "secret", "", "", ""},
		{"none", "", "", "", "", ""},
		{"a profile in the environment", "AKIA", "", "ci", "", ""},
		{"a profile that was given", "AKIA", "", "", "ci", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bare(t)
			file := filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(file, []byte("[ci]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_ACCESS_KEY_ID", c.id)
			t.Setenv("AWS_SECRET_ACCESS_KEY", c.secret)
			t.Setenv("AWS_PROFILE", c.profile)
			_, err := session.Config(t.Context(), session.Options{Profile: c.option})
			if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
				t.Errorf("%s, want %q", got, c.want)
			}
		})
	}
}

// What is wrong with a profile is said of it, and not in the SDK's words.
func TestProfilesThatGiveNoCredentials(t *testing.T) {
	bare(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"credentials": "[half]\naws_access_key_id = a\n",
		"config":      "[profile sso]\nsso_session = foo\nsso_account_id = 123456789012\nsso_role_name = r\nregion = us-east-1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	for profile, want := range map[string]string{"half": "it has half of an access key", "sso": "the section [sso-session ...] that its sso_session names is not there"} {
		_, err := session.Config(t.Context(), session.Options{Profile: profile})
		if known := (*session.ProfileError)(nil); !errors.As(err, &known) || known.Problem == "" || !strings.HasPrefix(known.Problem, want) {
			t.Errorf("%s: %v", profile, err)
		}
	}
}

func TestAsManyIdleConnectionsAsRequests(t *testing.T) {
	bare(t)
	cfg, err := session.Config(context.Background(), session.Options{Concurrency: 200})
	if err != nil {
		t.Fatal(err)
	}
	tr := session.TransportOf(cfg)
	if tr.MaxIdleConnsPerHost != 200 || (tr.MaxIdleConns != 0 && tr.MaxIdleConns < 200) {
		t.Errorf("idle connections: %d a host, %d in all", tr.MaxIdleConnsPerHost, tr.MaxIdleConns)
	}
	if tr.ResponseHeaderTimeout == 0 {
		t.Error("an answer may take for ever")
	}
	if tr.ForceAttemptHTTP2 {
		t.Error("HTTP/2 would send all parts over one connection")
	}
}

func TestTheSDKWritesNoLogOfItsOwn(t *testing.T) {
	bare(t)
	cfg, err := session.Config(context.Background(), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := cfg.Logger.(logging.Nop); !ok {
		t.Errorf("the logger is %T", cfg.Logger)
	}
}

func TestWhatIsRetried(t *testing.T) {
	bare(t)
	cfg, err := session.Config(context.Background(), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := cfg.Retryer()
	if n := r.MaxAttempts(); n != 10 {
		t.Errorf("%d attempts", n)
	}
	for status, want := range map[int]bool{400: false, 403: false, 404: false, 408: true, 409: false, 412: false, 500: true, 502: true, 503: true} {
		err := &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      &smithy.GenericAPIError{Code: http.StatusText(status)},
		}
		if got := r.IsErrorRetryable(err); got != want {
			t.Errorf("%d is retried: %v, want %v", status, got, want)
		}
	}
	// An outage must not use up a budget that requests share.
	for range 1000 {
		if _, err := r.GetRetryToken(context.Background(), errors.New("unavailable")); err != nil {
			t.Fatal(err)
		}
	}
}
