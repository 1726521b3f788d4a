package network

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

// A copy between two accounts and regions uses the credentials of each side for that side only. If either are wrong, the error says
// which side refused.
func TestACopyBetweenTwoAccounts(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	staging := s3server.StartAs(t, "eu-west-1", "stagingaccount", "secretofstaging")
	production := s3server.StartAs(t, "us-east-1", "productionaccount", "secretofproduction")
	from, to := staging.Bucket(t), production.Bucket(t)
	config := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[staging]\naws_access_key_id = %s\naws_secret_access_key = %s\n[production]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		staging.Access, staging.Secret, production.Access, production.Secret)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + t.TempDir(), "AWS_SHARED_CREDENTIALS_FILE=" + config, "AWS_CONFIG_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true"}
	run := func(args ...string) program.Result {
		t.Helper()
		r, err := program.Run(env, bin, args...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run("--profile", "staging", "--endpoint-url", staging.Endpoint, "--region", staging.Region, "../testdata/v3-signed", "s3://"+from+"/noble"); r.Code != 0 {
		t.Fatal(r)
	}
	copying := func(fromProfile, toProfile string) program.Result {
		t.Helper()
		args := []string{"copy", "--from-endpoint-url", staging.Endpoint, "--from-region", staging.Region, "--endpoint-url", production.Endpoint, "--region", production.Region, "--profile", toProfile}
		if fromProfile != "" {
			args = append(args, "--from-profile", fromProfile)
		}
		return run(append(args, "s3://"+from+"/noble", "s3://"+to+"/noble")...)
	}
	for _, wrong := range []struct{ from, to, at string }{
		{"", "production", "s3://" + from},           // those for TO do not open FROM
		{"production", "production", "s3://" + from}, // nor do they if they are named
		{"staging", "staging", "s3://" + to},
	} {
		if r := copying(wrong.from, wrong.to); r.Code != 3 || !strings.Contains(r.Stderr, wrong.at) {
			t.Errorf("from as %q, to as %q: %v, want exit code 3 and %s", wrong.from, wrong.to, r, wrong.at)
		}
		if left, err := os.ReadDir(production.Path(to)); err != nil || len(left) > 0 {
			t.Errorf("from as %q, to as %q: %v is there, %v", wrong.from, wrong.to, left, err)
		}
	}
	for i, want := range []string{"published 11 packages", "nothing to do"} {
		if r := copying("staging", "production"); r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("copy %d: %v", i+1, r)
		}
	}
	if m := reader.V3(reader.Dir(filepath.Join(production.Path(to), "noble"))); !m.Works() || len(m.Specs) != 11 {
		t.Errorf("the copy: %v", m)
	}
}
