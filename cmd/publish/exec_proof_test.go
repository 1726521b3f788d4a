package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/wrap"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// execAround runs publish exec around a command that leaves a file, and reports whether it did.
func execAround(t *testing.T, env clitest.Variables, args ...string) (code int, ran bool, stderr string) {
	t.Helper()
	built := filepath.Join(t.TempDir(), "built")
	args = append(append([]string{"exec"}, args...), "--", "touch", built)
	code, _, stderr = execute(t, env, args...)
	_, err := os.Lstat(built)
	return code, err == nil, stderr
}

// publish exec starts a command only if what it builds can be published, and says at once why not.
func TestExecProvesBeforeItStartsTheCommand(t *testing.T) {
	for _, row := range []struct {
		name string
		o    s3test.Options
		hook func(*http.Request) s3test.Fault
		args []string
		code int
		want string
	}{
		{"credentials that are not accepted", s3test.Options{}, s3test.Always("ListObjectsV2", s3test.Refuse(403, "InvalidAccessKeyId")), nil, cli.ExitCredentials, "hint: set AWS_PROFILE"},
		{"no bucket", s3test.Options{}, s3test.Always("ListObjectsV2", s3test.Refuse(404, "NoSuchBucket")), nil, cli.ExitUpload, "create the bucket"},
		{"no permission to list", s3test.Options{}, s3test.Always("ListObjectsV2", s3test.Refuse(403, "AccessDenied")), nil, cli.ExitUpload, "s3:ListBucket"},
		{"no permission to list, in a dry run", s3test.Options{}, s3test.Always("ListObjectsV2", s3test.Refuse(403, "AccessDenied")), []string{"--dry-run"}, cli.ExitUpload, "s3:ListBucket"},
		{"no permission to read", s3test.Options{}, s3test.Always("GetObject", s3test.Refuse(403, "AccessDenied")), nil, cli.ExitUpload, "s3:GetObject"},
		{"no permission to write", s3test.Options{}, s3test.Always("PutObject", s3test.Refuse(403, "AccessDenied")), nil, cli.ExitUpload, "s3:PutObject"},
		{"conditions ignored", s3test.Options{Ignores: []string{"If-Match"}}, nil, nil, cli.ExitUpload, "--unsafe-single-writer"},
		{"conditions not implemented", s3test.Options{}, s3test.Always("PutObject", s3test.Refuse(501, "NotImplemented")), nil, cli.ExitUpload, "docs/stores.md"},
		{"listings without end", s3test.Options{}, s3test.Always("ListObjectsV2", s3test.EmptyPages), nil, cli.ExitUpload, "fault of the storage"},
		{"a distribution that is none", s3test.Options{}, nil, []string{"--distribution-id", "not one"}, cli.ExitUsage, "distribution"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			server := s3test.New(row.o)
			defer server.Close()
			server.Put("noble/"+layout.V3Index, []byte("an index"), false)
			server.Hook(row.hook)
			code, ran, said := execAround(t, nil, append(row.args, "--endpoint-url", server.URL, t.TempDir(), "s3://bucket/noble")...)
			if code != row.code || ran || !strings.Contains(said, row.want) {
				t.Errorf("exit %d, the command ran: %v, said:\n%s", code, ran, said)
			}
		})
	}
}

// Without credentials the exit code is that of publish, and nothing is asked of the destination.
func TestExecWithoutCredentialsBuildsNothing(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	code, ran, said := execAround(t, nil, "--endpoint-url", "http://127.0.0.1:9", t.TempDir(), "s3://bucket/x")
	if code != cli.ExitCredentials || ran || !strings.Contains(said, "COMMAND was not started") {
		t.Errorf("exit %d, the command ran: %v, said:\n%s", code, ran, said)
	}
}

// A directory that cannot be written to is found out before the command, too.
func TestExecProvesADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	clitest.Write(t, file, "")
	if code, ran, said := execAround(t, nil, t.TempDir(), "file://"+file+"/mirror"); code != cli.ExitUpload || ran {
		t.Errorf("exit %d, the command ran: %v, said:\n%s", code, ran, said)
	}
	if code, ran, said := execAround(t, nil, "--allow-empty", t.TempDir(), "file://"+t.TempDir()); code != cli.ExitDone || !ran {
		t.Errorf("exit %d, the command ran: %v, said:\n%s", code, ran, said)
	}
}

// A command that has built nothing is no success, unless that is allowed.
func TestExecOfACommandThatBuildsNothing(t *testing.T) {
	code, ran, said := execAround(t, nil, t.TempDir(), "file://"+t.TempDir())
	if code != cli.ExitSource || !ran || !strings.Contains(said, "holds no package that is selected: the command has built nothing\nhint: let the command push into that directory, or give --allow-empty\n") {
		t.Errorf("exit %d, the command ran: %v, said:\n%s", code, ran, said)
	}
}

// What publish exec tries before the command leaves nothing behind, and a dry run tries no write.
func TestExecProvesWithoutWriting(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for _, dry := range []string{"--dry-run=false", "--dry-run"} {
		server := s3test.New(s3test.Options{})
		defer server.Close()
		// A source without a mirror: nothing is published by what comes after the proof.
		_, _, said := execAround(t, nil, dry, "--endpoint-url", server.URL, t.TempDir(), "s3://bucket/noble")
		tried := 0
		for _, e := range server.Log() {
			if e.Mutates() {
				tried++
			}
			if e.Key != "" {
				if _, stored := server.Object(e.Key); stored {
					t.Errorf("%s: %s is left behind", dry, e.Key)
				}
			}
		}
		if want := map[string]int{"--dry-run=false": 1, "--dry-run": 0}[dry]; tried != want {
			t.Errorf("%s: %d writes were tried, want %d\n%s", dry, tried, want, said)
		}
		if v := server.Violations(); len(v) > 0 {
			t.Errorf("this should never have been sent: %v", v)
		}
	}
}

// At Amazon S3, which obeys conditions, a write that must be refused says whether writing is permitted.
func TestWritesAreProvedAtAmazon(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(s3test.Options{})
	defer server.Close()
	to, err := target.Open(t.Context(), "s3://bucket/noble", target.Config{S3: s3.Options{EndpointURL: server.URL}}, target.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	// A store of which nothing is to be proved, as Amazon's is.
	unsuspected := struct{ target.Store }{to.Mirror("")}
	for _, there := range []string{"", `{"signing": "gpg"}`, `{"signing": "other"}`} {
		if there != "" {
			server.Put("noble/v3/layout.json", []byte(there), false)
		}
		if err := wrap.ProveWrites(t.Context(), unsuspected); err != nil {
			t.Errorf("with %q: %v", there, err)
		}
		if got, _ := server.Object("noble/v3/layout.json"); string(got) != there {
			t.Errorf("%q became %q", there, got)
		}
	}
	server.Hook(s3test.Always("PutObject", s3test.Refuse(403, "AccessDenied")))
	if err := wrap.ProveWrites(t.Context(), unsuspected); cli.ExitCode(err) != cli.ExitUpload || !strings.Contains(strings.Join(cli.Hints(err), ""), "s3:PutObject") {
		t.Errorf("without permission: %v", err)
	}
}
