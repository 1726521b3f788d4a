package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// Exit codes are an interface, and each error that a user can mend says how.
func TestExitCodesAndHints(t *testing.T) {
	bad := []buildcache.Finding{{Severity: buildcache.Error, File: "f", Reason: "bad"}}
	held, found := &buildcache.FindingsError{Findings: bad, Held: true}, &buildcache.FindingsError{Findings: bad}
	for _, row := range []struct {
		err  error
		code int
		hint string // a part of it
	}{
		{nil, ExitDone, ""},
		{errors.New("anything"), ExitUpload, "can be reached, then run again"},
		{Fail(ExitUsage, errors.New("usage")), ExitUsage, "--help"},
		{Fail(ExitSource, fs.ErrNotExist), ExitSource, "misspelt"},
		{mirror.ErrCredentials, ExitCredentials, "AWS_PROFILE"},
		{&mirror.DeniedError{Action: "s3:PutObject", Name: "bucket/a"}, ExitUpload, "allow s3:PutObject on bucket/a"},
		{&mirror.DeniedError{Action: "write", Name: "v3/layout.json"}, ExitUpload, "ls -ld"},
		{&mirror.DeniedError{Action: "GET", Name: "v3/layout.json"}, ExitUpload, "let the server answer requests for v3/layout.json"},
		{target.ErrNotVisible, ExitVerification, "--public-url is where clients find DESTINATION"},
		{&mirror.DeniedError{Action: "cloudfront:CreateInvalidation", Name: "E1"}, ExitUpload, "allow cloudfront:CreateInvalidation on E1"},
		{&mirror.RegionError{Bucket: "b", Asked: "us-east-1", Region: "eu-west-1"}, ExitUpload, "--region eu-west-1"},
		{mirror.ErrNoBucket, ExitUpload, "create the bucket"},
		{mirror.ErrFull, ExitUpload, "make room"},
		{syscall.ENOSPC, ExitUpload, "make room"},
		{mirror.ErrExist, ExitUpload, "verify --deep"},
		{held, ExitSource, "--keep-going"},
		{found, ExitSource, "mend or rebuild what is named"},
		{source.ErrNothing, ExitSource, "SOURCE is the directory of a mirror"},
		{buildcache.ErrNoMirror, ExitSource, "build_cache"},
		{blob.ErrChanged, ExitSource, "nothing writes to SOURCE"},
		{&index.VersionError{Got: 9, Want: 8}, ExitIndex, "update this program"},
		{reindex.ErrUnresolved, ExitIndex, "publish index DESTINATION"},
		{fmt.Errorf("%w: %w", target.ErrNotInvalidated, cloudfront.ErrNoDistribution), ExitInvalidation, "--distribution-id"},
		{context.DeadlineExceeded, ExitTimeout, "run again"},
		{ErrTimeout, ExitTimeout, "run again"},
		{SignalError{syscall.SIGINT}, 130, "run again"},
		{SignalError{syscall.SIGTERM}, 143, "run again"},
		{errors.Join(Fail(ExitInvalidation, errors.New("cdn")), errors.New("other")), ExitInvalidation, "run again"},
	} {
		for _, err := range []error{row.err, fmt.Errorf("put v3/layout.json: %w", row.err)} {
			if row.err == nil {
				err = nil
			}
			if got := ExitCode(err); got != row.code {
				t.Errorf("%v: exit code %d, want %d", err, got, row.code)
			}
			if got := Hint(err); err != nil && (got == "") != (row.hint == "") || !strings.Contains(Hint(err), row.hint) {
				t.Errorf("%v: hint is %q, want %q", err, got, row.hint)
			}
		}
	}
}
