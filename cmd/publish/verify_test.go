package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// A store whose answers cannot be relied upon says nothing about the packages in it: the mirror cannot
// be checked, and none of it is called damaged.
func TestVerifyOfAFaultyStoreFindsNoDamage(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(s3test.Options{})
	defer server.Close()
	if code, _, said := execute(t, nil, "--endpoint-url", server.URL, clitest.Spack(t, "v3-signed"), "s3://bucket/noble"); code != cli.ExitDone {
		t.Fatal(said)
	}
	for name, row := range map[string]struct {
		fault s3test.Fault
		at    string // in the path of the request
	}{
		"no length of any object":  {s3test.NoLength, "/noble/"},
		"no length of one package": {s3test.NoLength, "/spec/zlib/"},
		"no length of blobs":       {s3test.NoLength, "/blobs/"},
		"a redirect":               {s3test.Refuse(307, "TemporaryRedirect").With("Location", "http://127.0.0.1:9/x"), "/spec/zlib/"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Hook(func(r *http.Request) s3test.Fault {
				if strings.Contains(r.URL.Path, row.at) {
					return row.fault
				}
				return s3test.None
			})
			code, stdout, stderr := execute(t, nil, "verify", "--deep", "--endpoint-url", server.URL, "s3://bucket/noble")
			if code != cli.ExitUpload || strings.Contains(stdout, "damaged") || !strings.Contains(stderr, "fault of the storage") {
				t.Errorf("exit %d:\n%s%s", code, stdout, stderr)
			}
		})
	}
}

// What neither a mirror nor its upstream offers is mended by publishing it, as the report says, and not by another index.
func TestTheRepairOfWhatNoUpstreamOffersMendsIt(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		source, whole, less, at := spack(t, fixture), t.TempDir(), t.TempDir(), t.TempDir()
		for _, args := range [][]string{
			{"--include", "gcc-runtime,zlib,openssl", source, whole},
			{"--include", "gcc-runtime", source, less},
			{"--upstream", whole, "--include", "munge", source, at},
		} {
			if code, _, said := execute(t, nil, args...); code != cli.ExitDone {
				t.Fatal(said)
			}
		}
		code, stdout, _ := execute(t, nil, "verify", "--upstream", less, at)
		if code != cli.ExitVerification || strings.Contains(stdout, "publish index") {
			t.Errorf("%s: exit %d: %s", fixture, code, stdout)
		}
		_, repair, _ := strings.Cut(stdout, "to repair it:\n")
		for line := range strings.Lines(repair) {
			line, _, _ = strings.Cut(line, "#")
			args := strings.Fields(strings.Replace(line, "SOURCE", source, 1))
			if code, stdout, stderr := execute(t, nil, args[1:]...); code != cli.ExitDone {
				t.Errorf("%s: %s: exit %d: %s%s", fixture, line, code, stdout, stderr)
			}
		}
		if !strings.Contains(repair, "publish --include /") || !strings.Contains(repair, "verify --upstream ") {
			t.Errorf("%s: %s", fixture, repair)
		}
	}
}

// The report names what mends a view, and who publishes into it before gets the exit code of what is damaged.
func TestTheRepairOfAViewMendsIt(t *testing.T) {
	at := t.TempDir()
	for _, args := range [][]string{{spack(t, "v3-signed"), at}, {"view", "set", at, "site/login", "zlib"}} {
		if code, _, said := execute(t, nil, args...); code != cli.ExitDone {
			t.Fatal(said)
		}
	}
	pointer := filepath.Join(at, layout.V3View("site/login"))
	write(t, pointer, "{")
	code, _, stderr := execute(t, nil, "--view", "site/login", spack(t, "v3-signed"), at)
	if code != cli.ExitSource || strings.Count(stderr, "the view site/login is damaged") != 1 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	_, stdout, _ := execute(t, nil, "verify", at)
	_, repair, _ := strings.Cut(stdout, "to repair it:\n")
	if !strings.HasPrefix(repair, "  publish view set "+at+" site/login PACKAGE ...  # ") || strings.Contains(repair, "publish index") {
		t.Errorf("%s", stdout)
	}
	for line := range strings.Lines(repair) {
		line, _, _ = strings.Cut(line, "#")
		args := strings.Fields(strings.Replace(line, "PACKAGE ...", "zlib", 1))
		if code, stdout, stderr := execute(t, nil, args[1:]...); code != cli.ExitDone {
			t.Errorf("%s: exit %d: %s%s", line, code, stdout, stderr)
		}
	}
	write(t, pointer, `{"version":4,"data":[]}`)
	if code, _, stderr := execute(t, nil, "view", "set", at, "site/login", "zlib"); code != cli.ExitIndex {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
