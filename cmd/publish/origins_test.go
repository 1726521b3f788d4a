package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// What is wrong with FROM is said of FROM, with the flags of FROM, and not of TO.
func TestMistakesAboutFROMNameItAndItsFlags(t *testing.T) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_PROFILE": "", "AWS_REGION": "us-east-1"} {
		t.Setenv(name, value)
	}
	s3 := s3test.New(s3test.Options{})
	defer s3.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	defer tls.Close()
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	defer moved.Close()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	whole := spack(t, "v3-signed")
	for _, row := range []struct {
		name string
		args string // without TO
		hook func(*http.Request) s3test.Fault
		code int
		want []string
	}{
		{"an endpoint without a scheme", "--from-endpoint-url foo s3://bucket/x", nil, cli.ExitUsage, []string{"FROM: --from-endpoint-url: endpoint \"foo\""}},
		{"an endpoint and a region", "--from-endpoint-url foo --from-region x/y s3://bucket/x", nil, cli.ExitUsage, []string{"FROM: --from-endpoint-url: ", "FROM: --from-region \"x/y\""}},
		{"the bucket in the endpoint", "--from-endpoint-url " + s3.URL + "/bucket s3://bucket/x", nil, cli.ExitUsage, []string{"FROM: --from-endpoint-url: ", "want " + s3.URL}},
		{"a profile that is not there", "--from-profile nosuch s3://bucket/x", nil, cli.ExitCredentials, []string{"FROM: ", "another profile with --from-profile, or"}},
		{"a region", "--from-region x/y s3://bucket/x", nil, cli.ExitUsage, []string{"FROM: --from-region \"x/y\""}},
		{"another region", "--from-region eu-west-1 --from-endpoint-url " + moved.URL + " s3://bucket/x", nil, cli.ExitUpload, []string{"FROM: ", "hint: give --from-region eu-north-1"}},
		{"a bucket that is not there", "--from-endpoint-url " + s3.URL + " s3://bucket/x", s3test.Always("GetObject", s3test.Refuse(404, "NoSuchBucket")), cli.ExitUpload, []string{"FROM: ", "hint: correct FROM, or"}},
		{"keys that are not known", "--from-endpoint-url " + s3.URL + " s3://bucket/x", s3test.Always("GetObject", s3test.Refuse(403, "InvalidAccessKeyId")), cli.ExitCredentials, []string{"FROM: ", "hint: give --from-profile, or set AWS_PROFILE"}},
		{"a name of no bucket", "s3://Bucket/x", nil, cli.ExitUsage, []string{"publish: FROM s3://Bucket/x: "}},
		{"http asked by https", "--from-endpoint-url https" + strings.TrimPrefix(plain.URL, "http") + " s3://bucket/x", nil, cli.ExitUpload, []string{"FROM: ", "hint: give --from-endpoint-url " + plain.URL}},
		{"what is no S3", "--from-endpoint-url " + plain.URL + " s3://bucket/x", nil, cli.ExitUpload, []string{"FROM: ", "hint: --from-endpoint-url names the S3 itself"}},
		{"a certificate", "--from-endpoint-url " + tls.URL + " s3://bucket/x", nil, cli.ExitUpload, []string{"FROM: ", "is not trusted"}},
		{"TO's endpoint, which FROM has too", "--endpoint-url " + plain.URL + " s3://bucket/x", nil, cli.ExitUpload, []string{"FROM: ", "hint: --endpoint-url names the S3 itself"}},
		{"a web server that speaks http", "https" + strings.TrimPrefix(plain.URL, "http") + "/x", nil, cli.ExitUpload, []string{"FROM: ", "want " + plain.URL}},
		{"the certificate of a web server", tls.URL + "/x", nil, cli.ExitUpload, []string{"FROM: ", "is not trusted"}},
		{"no mirror", plain.URL + "/x", nil, cli.ExitSource, []string{"FROM: ", "no index of a Spack mirror"}},
		{"a file", file, nil, cli.ExitUsage, []string{"publish: FROM " + file + " is a file"}},
		{"one more mirror, and its bucket", "--from s3://Bucket/x " + whole, nil, cli.ExitUsage, []string{"publish: --from s3://Bucket/x: "}},
		{"one more mirror, that is not there", "--from-endpoint-url " + s3.URL + " --from s3://bucket/x " + whole, s3test.Always("GetObject", s3test.Refuse(404, "NoSuchBucket")), cli.ExitUpload, []string{"--from s3://bucket/x: ", "hint: correct --from s3://bucket/x, or"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s3.Hook(row.hook)
			to := filepath.Join(t.TempDir(), "to")
			code, _, stderr := execute(t, nil, append(append([]string{"copy"}, strings.Fields(row.args)...), to)...)
			if code != row.code {
				t.Errorf("exit %d, want %d", code, row.code)
			}
			for _, want := range row.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("want %q: %s", want, stderr)
				}
			}
			if _, err := os.Stat(to); err == nil {
				t.Error("something was written")
			}
		})
	}
}

// Where FROM refuses, the hint says how credentials for FROM are given, and not how those for TO are: TO's stay as they are.
func TestCredentialsOfFROMThatAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write(t, file, "[staging]\naws_access_key_id = AKIASTAGING\naws_secret_access_key = secret\n[other]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = staging\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n")
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": file, "AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "", "AWS_REGION": "us-east-1"} {
		t.Setenv(name, value)
	}
	s3 := s3test.New(s3test.Options{})
	defer s3.Close()
	for _, row := range []struct {
		args, code string
		want       string
	}{
		{"--from-profile staging", "ExpiredToken", "hint: log in again for the profile that --from-profile names, or name another one"},
		{"--from-profile staging", "InvalidAccessKeyId", "hint: log in again for the profile that --from-profile names, or name another one"},
		{"--from-profile staging", "AccessDenied", "for the credentials of --from-profile (for AWS"},
		{"--from-profile other", "AccessDenied", "and name that with --from-profile"},
		{"--from-profile stagin", "AccessDenied", "hint: did you mean --from-profile staging?"},
		{"--from-profile elsewhere", "AccessDenied", "hint: name another profile with --from-profile, or correct"},
		{"", "ExpiredToken", "hint: give --from-profile, or set AWS_PROFILE"},
		{"", "AccessDenied", "for the credentials in use (for AWS: in the role's policy), or give --from-profile with others"},
	} {
		s3.Hook(func(*http.Request) s3test.Fault { return s3test.Refuse(403, row.code) })
		args := append([]string{"copy", "--from-endpoint-url", s3.URL}, strings.Fields(row.args)...)
		code, _, stderr := execute(t, nil, append(args, "s3://bucket/x", filepath.Join(t.TempDir(), "to"))...)
		if code == cli.ExitDone || !strings.Contains(stderr, "publish: FROM: ") || !strings.Contains(stderr, row.want) {
			t.Errorf("%s, %s: want %q: %s", row.args, row.code, row.want, stderr)
		}
		if row.args != "" && strings.Contains(stderr, "AWS_PROFILE") {
			t.Errorf("%s, %s: the hint names the way of TO: %s", row.args, row.code, stderr)
		}
	}
}

// Where nothing listens, the hint says which flag has the address. The program would try for seconds.
func TestAPortOfFROMThatIsClosed(t *testing.T) {
	from, err := dir.Open(t.TempDir(), dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := new(origins)
	at.add(from.Mirror(""), field.Place{Name: "FROM", Settings: (&copying{}).flags()}, from.Close)
	defer at.close()
	err = at.blamed(fmt.Errorf("v3: %w", &transfer.ReadError{From: at.readers[0], Err: syscall.ECONNREFUSED}))
	if hint := strings.Join(cli.Hints(err), ""); !strings.HasPrefix(err.Error(), "FROM: ") || !strings.Contains(hint, "in --from-endpoint-url") {
		t.Errorf("%v; hint: %s", err, hint)
	}
}

// An index of FROM that is damaged is invalid content, of a copy, of an export and of a view that another one is to become.
func TestADamagedIndexIsInvalidContent(t *testing.T) {
	for _, row := range []struct {
		damage func(from, pointer string) error
		want   string
	}{
		{func(_, pointer string) error { return os.WriteFile(pointer, []byte("{}"), 0o644) }, "unexpected EOF"},
		{func(from, _ string) error { return os.RemoveAll(filepath.Join(from, "blobs")) }, "no such object"},
	} {
		from := t.TempDir()
		for _, args := range [][]string{{spack(t, "v3-signed"), from}, {"view", "set", from, "tested", "zlib"}} {
			if code, _, stderr := execute(t, nil, args...); code != cli.ExitDone {
				t.Fatal(stderr)
			}
		}
		pointers := filepath.Join(from, filepath.Dir(layout.V3Index))
		for _, view := range []string{"", "tested"} {
			if err := row.damage(from, filepath.Join(pointers, view, "index.manifest.json")); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "to")
			runs := [][]string{{"copy", from, to}, {"export", from, to + ".tar"}}
			if view != "" {
				runs = [][]string{{"copy", "--view", view, from, to}, {"export", "--view", view, from, to + ".tar"}, {"view", "set", from, "current", "--from", view}}
			}
			for _, args := range runs {
				code, _, stderr := execute(t, nil, args...)
				if code != cli.ExitSource || !strings.Contains(stderr, row.want) || !strings.Contains(stderr, "hint: `publish verify`") {
					t.Errorf("%v: exit %d, want %d and %q: %s", args, code, cli.ExitSource, row.want, stderr)
				}
			}
		}
	}
}

// Two S3 servers may have buckets of one name: what is copied, and the evidence of a promotion, say which one it was.
func TestTheEndpointOfFROMIsSaid(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	staging, production := s3test.New(s3test.Options{}), s3test.New(s3test.Options{})
	defer staging.Close()
	defer production.Close()
	must := func(args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := execute(t, nil, args...)
		if code != cli.ExitDone {
			t.Fatalf("%v: exit %d: %s", args, code, stderr)
		}
		return stdout, stderr
	}
	must("--endpoint-url", staging.URL, "--include", "zlib,gcc-runtime", spack(t, "v3-signed"), "s3://bucket")
	report, said := must("copy", "--json", "--require-signed", "--from-endpoint-url", staging.URL, "--endpoint-url", production.URL, "s3://bucket", "s3://bucket")
	shown, _ := must("show", "--endpoint-url", production.URL, "s3://bucket", "zlib")
	evidence, _ := must("show", "--json", "--endpoint-url", production.URL, "s3://bucket", "zlib")
	for what, row := range map[string]struct{ text, want string }{
		"the header":   {said, "s3://bucket at " + staging.URL + " -> s3://bucket\n"},
		"the report":   {report, `"source_endpoint": "` + staging.URL + `"`},
		"show":         {shown, "from s3://bucket at " + staging.URL},
		"show, a JSON": {evidence, `"from_endpoint": "` + staging.URL + `"`},
	} {
		if !strings.Contains(row.text, row.want) {
			t.Errorf("%s: want %q: %s", what, row.want, row.text)
		}
	}
}

// What a view lacks is said of the view, and whether the mirror offers it outside of it.
func TestWhatAViewLacksIsSaidOfTheView(t *testing.T) {
	from := t.TempDir()
	for _, args := range [][]string{{spack(t, "v3-signed"), from}, {"view", "set", from, "tested", "zlib"}} {
		if code, _, stderr := execute(t, nil, args...); code != cli.ExitDone {
			t.Fatal(stderr)
		}
	}
	for selected, want := range map[string]string{
		"munge":    "nothing in the view tested matches \"munge\", only outside of it: munge/7mkbpyy",
		"/7mkbpyy": "nothing in the view tested matches \"/7mkbpyy\", only outside of it: munge/7mkbpyy",
		"munje":    "no package is called munje, did you mean munge?",
		clitest.Root("publish/lockfile/testdata/v6.lock"): "munge@0.5.16/7mkbpyy is selected, and not offered by the view tested, only outside of it",
	} {
		code, _, stderr := execute(t, nil, "copy", "--view", "tested", from, t.TempDir(), selected)
		if code != cli.ExitSource || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, want %q: %s", selected, code, want, stderr)
		}
	}
}
