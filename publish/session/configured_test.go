package session_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// A region or an endpoint to which nothing can be sent is refused under the name of where it was set, unless another one is used.
func TestConfiguredPlacesToWhichNothingCanBeSent(t *testing.T) {
	files := filepath.Join(t.TempDir(), "config")
	text := "[default]\nregion = eu_west\n[profile lab]\nregion = eu-west-1\nendpoint_url = minio:9000\n"
	if err := os.WriteFile(files, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options session.Options
		env     map[string]string
		want    string // at the beginning of the error
	}{
		"all is well":      {session.Options{}, map[string]string{"AWS_REGION": "us-east-1"}, ""},
		"a variable":       {session.Options{}, map[string]string{"AWS_REGION": "us_east_1"}, `AWS_REGION or AWS_DEFAULT_REGION: region "us_east_1": want letters`},
		"another variable": {session.Options{}, map[string]string{"AWS_DEFAULT_REGION": "us-east-1\n"}, `AWS_REGION or AWS_DEFAULT_REGION: region "us-east-1\n": `},
		"not used":         {session.Options{}, map[string]string{"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "x y"}, ""},
		"a flag":           {session.Options{Region: "us-east-1"}, map[string]string{"AWS_REGION": "us_east_1"}, ""},
		"a profile":        {session.Options{}, nil, `profile default: region "eu_west": `},
		"an endpoint":      {session.Options{Region: "x"}, map[string]string{"AWS_ENDPOINT_URL_S3": "127.0.0.1:9000"}, "AWS_ENDPOINT_URL_S3: endpoint"},
		"two mistakes":     {session.Options{}, map[string]string{"AWS_REGION": "a b", "AWS_ENDPOINT_URL": "x"}, "AWS_REGION or AWS_DEFAULT_REGION: region \"a b\": want letters, digits and hyphens, such as us-east-1\nAWS_ENDPOINT_URL: "},
		"its profile":      {session.Options{Profile: "lab"}, nil, `profile lab: endpoint "minio:9000": want http`},
		"endpoints of no use": {session.Options{Region: "x"}, map[string]string{
			"AWS_ENDPOINT_URL": "x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"} {
				t.Setenv(name, "")
			}
			t.Setenv("AWS_CONFIG_FILE", files)
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", files+".none")
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			err := c.options.CheckConfigured(context.Background())
			var setting *session.SettingError
			if (err == nil) != (c.want == "") || err != nil && (!strings.HasPrefix(err.Error(), c.want) || !errors.As(err, &setting)) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if _, loadErr := session.Config(context.Background(), c.options); (loadErr == nil) != (err == nil) {
				t.Errorf("Config: %v", loadErr)
			}
		})
	}
}
