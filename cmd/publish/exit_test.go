package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Exit codes are an interface, and each error that a user can mend says how.
func TestExitCodesAndHints(t *testing.T) {
	bad := []publish.Finding{{Severity: publish.Error, File: "f", Reason: "bad"}}
	held, found := &publish.FindingsError{Findings: bad, Held: true}, &publish.FindingsError{Findings: bad}
	for _, row := range []struct {
		err  error
		code int
		hint string // a part of it
	}{
		{nil, exitDone, ""},
		{errors.New("anything"), exitUpload, "can be reached, then run again"},
		{fail(exitUsage, errors.New("usage")), exitUsage, "--help"},
		{fail(exitSource, fs.ErrNotExist), exitSource, "misspelt"},
		{mirror.ErrCredentials, exitCredentials, "AWS_PROFILE"},
		{&mirror.DeniedError{Action: "s3:PutObject", Name: "bucket/a"}, exitUpload, "allow s3:PutObject on bucket/a"},
		{&mirror.DeniedError{Action: "write", Name: "v3/layout.json"}, exitUpload, "ls -ld"},
		{&mirror.DeniedError{Action: "GET", Name: "v3/layout.json"}, exitUpload, "let the server answer requests for v3/layout.json"},
		{fail(exitVerification, errNotVisible), exitVerification, "--public-url is where clients find DESTINATION"},
		{&mirror.DeniedError{Action: "cloudfront:CreateInvalidation", Name: "E1"}, exitUpload, "allow cloudfront:CreateInvalidation on E1"},
		{&mirror.RegionError{Bucket: "b", Asked: "us-east-1", Region: "eu-west-1"}, exitUpload, "--region eu-west-1"},
		{mirror.ErrNoBucket, exitUpload, "create the bucket"},
		{mirror.ErrFull, exitUpload, "make room"},
		{syscall.ENOSPC, exitUpload, "make room"},
		{mirror.ErrExist, exitUpload, "verify --deep"},
		{held, exitSource, "--keep-going"},
		{found, exitSource, "mend or rebuild what is named"},
		{publish.ErrSource, exitSource, "SOURCE is the directory of a mirror"},
		{publish.ErrNoMirror, exitSource, "build_cache"},
		{blob.ErrChanged, exitSource, "nothing writes to SOURCE"},
		{&index.VersionError{Got: 9, Want: 8}, exitIndex, "update this program"},
		{publish.ErrUnresolved, exitIndex, "publish index DESTINATION"},
		{fail(exitInvalidation, cloudfront.ErrNoDistribution), exitInvalidation, "--distribution-id"},
		{context.DeadlineExceeded, exitTimeout, "run again"},
		{errTimeout, exitTimeout, "run again"},
		{errSignal{syscall.SIGINT}, 130, "run again"},
		{errSignal{syscall.SIGTERM}, 143, "run again"},
		{errors.Join(fail(exitInvalidation, errors.New("cdn")), errors.New("other")), exitInvalidation, "run again"},
	} {
		for _, err := range []error{row.err, fmt.Errorf("put v3/layout.json: %w", row.err)} {
			if row.err == nil {
				err = nil
			}
			if got := exitCode(err); got != row.code {
				t.Errorf("%v: exit code %d, want %d", err, got, row.code)
			}
			if got := hint(err); err != nil && (got == "") != (row.hint == "") || !strings.Contains(hint(err), row.hint) {
				t.Errorf("%v: hint is %q, want %q", err, got, row.hint)
			}
		}
	}
}

// What goes wrong with a source, as a user sees it.
func TestExitCodesOfRuns(t *testing.T) {
	destination := "file://" + t.TempDir() + "/mirror"
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nosuch", destination}, exitSource, "hint: look for a misspelt path"},
		{[]string{t.TempDir(), destination}, exitSource, "holds no Spack mirror"},
		{[]string{"--require-signed", spack(t, "v3-unsigned"), destination}, exitSource, "11 problems"},
		{[]string{"--dry-run", "--require-signed", spack(t, "v3-unsigned"), destination}, exitSource, "11 problems"},
		{[]string{"--expect-os", "rocky9", "--include", "zlib", spack(t, "v3-unsigned"), destination}, exitSource, "built for the os ubuntu22.04"},
		{[]string{"--timeout", "1ns", spack(t, "v3-unsigned"), destination}, exitTimeout, "--timeout has passed"},
		{[]string{"version"}, exitDone, ""},
		{[]string{"version", "x"}, exitUsage, "1 argument, want: publish version"},
		{[]string{"man"}, exitUsage, "0 arguments, want: publish man DIRECTORY"},
		{[]string{"verify", "a", "b"}, exitUsage, "2 arguments, want: publish verify DESTINATION|URL"},
	} {
		code, _, errs := execute(t, nil, row.args...)
		if code != row.code || !strings.Contains(errs, row.want) {
			t.Errorf("%q: exit code %d: %s", row.args, code, errs)
		}
	}
}

// Too few or too many arguments are a usage error, whichever layer counts them.
func TestWrongArgumentsAreWrongUsage(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"push"}, "no PATH: want publish push [flags] PATH..."},
		{[]string{"push", "--wait"}, "no PATH"},
		{[]string{"action", "x"}, `unknown command "x" for "publish action"`},
		{[]string{"completion", "bash", "x"}, `unknown command "x" for "publish completion bash"`},
		{[]string{"index"}, "0 arguments, want: publish index DESTINATION"},
		{[]string{"bench"}, "0 arguments"},
		{[]string{"indexer"}, "0 arguments"},
		{[]string{"verify"}, "0 arguments"},
		{[]string{"status", "x"}, "1 argument"},
		{[]string{"drain", "x"}, "1 argument"},
		{[]string{"daemon", "x"}, "1 argument"},
		{[]string{"doctor", "x", "y"}, "2 arguments"},
		{[]string{"exec"}, "no COMMAND"},
		{[]string{"retry", "x"}, `"x" is no ID`},
		{[]string{"push", "--sideways"}, "unknown flag: --sideways"},
	} {
		code, _, errs := execute(t, nil, row.args...)
		if code != exitUsage || !strings.Contains(errs, row.want) {
			t.Errorf("%q: exit code %d: %s", row.args, code, errs)
		}
	}
}
