package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/resume"
	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
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
		{errors.New("anything"), ExitUpload, ""},
		{&url.Error{Op: "Put", URL: "https://b.s3.amazonaws.com/a", Err: errors.New("EOF")}, ExitUpload, "can be reached, then run again"},
		{status(503), ExitUpload, "can be reached, then run again"},
		{status(418), ExitUpload, ""},
		{&net.DNSError{Name: "minio.example", IsNotFound: true}, ExitUpload, "no address is known for minio.example"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ExitUpload, "nothing listens there"},
		{&mirror.ProxyError{Proxy: "http://proxy:3128", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, ExitUpload, "correct HTTPS_PROXY"},
		{&url.Error{Op: "Get", URL: "https://minio", Err: http.ErrSchemeMismatch}, ExitUpload, "give --endpoint-url with http://"},
		{&fs.PathError{Op: "mkdir", Path: "/mnt/x", Err: syscall.EROFS}, ExitUpload, "mounted read-only"},
		{&mirror.CertificateError{}, ExitUpload, "the error names the settings"},
		{&target.ConfigError{Err: errors.New("a setting")}, ExitUsage, "--help"},
		{fmt.Errorf("rotate: %w", &sign.UnfitError{Err: sign.ErrExpired}), ExitUsage, "sign with another key"},
		{sign.ErrExpired, ExitCredentials, "extend the key"},
		{&session.AuthError{Code: "AccessDenied", Hints: []string{"trust this job"}}, ExitCredentials, "trust this job"},
		{&daemon.OutsideError{Sources: []string{"/srv/a", "/srv/b"}}, ExitUsage, "/srv/a, /srv/b"},
		{arrival.ErrNoDocument, ExitUsage, "name the manifest"},
		{daemon.ErrStopping, ExitUpload, "when it runs"},
		{queue.ErrFull, ExitUpload, "make room in state_dir"},
		{&api.Error{Status: 422, Message: "no document", Hint: "name a manifest"}, ExitUsage, "name a manifest"},
		{&api.Error{Status: 500, Message: "broken"}, ExitUpload, ""},
		{fmt.Errorf("doctor: %w", Fail(ExitUpload, errors.New("1 of 5 checks failed"))), ExitUpload, ""},
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
		{found, ExitSource, "repair or rebuild the named packages"},
		{source.ErrNothing, ExitSource, "SOURCE is the directory of a mirror"},
		{buildcache.ErrNoMirror, ExitSource, "build_cache"},
		{notice.ErrAtWork, ExitIndex, "it ends by itself"},
		{notice.ErrLate, ExitIndex, "nearer to the storage"},
		{blob.ErrChanged, ExitSource, "nothing writes to SOURCE"},
		{&index.VersionError{Got: 9, Want: 8}, ExitIndex, "update this program"},
		{conflict.ErrUnresolved, ExitIndex, "publish index DESTINATION"},
		{fmt.Errorf("files: put a.asc: %w", mirror.ErrConflict), ExitUpload, "run again"},
		{fmt.Errorf("%w: %w", target.ErrNotInvalidated, cloudfront.ErrNoDistribution), ExitInvalidation, "--distribution-id"},
		{context.DeadlineExceeded, ExitTimeout, "run again"},
		{ErrTimeout, ExitTimeout, "run again"},
		{SignalError{syscall.SIGINT}, 130, "run again"},
		{SignalError{syscall.SIGTERM}, 143, "run again"},
		{errors.Join(fmt.Errorf("%w: cdn", target.ErrNotInvalidated), errors.New("other")), ExitInvalidation, "run again"},
	} {
		for _, err := range []error{row.err, fmt.Errorf("put v3/layout.json: %w", row.err)} {
			if row.err == nil {
				err = nil
			}
			if got := ExitCode(err); got != row.code {
				t.Errorf("%v: exit code %d, want %d", err, got, row.code)
			}
			got := strings.Join(Hints(err), "\n")
			if (got == "") != (row.hint == "") || !strings.Contains(got, row.hint) {
				t.Errorf("%v: hint is %q, want %q", err, got, row.hint)
			}
		}
	}
}

// status is an answer of a server.
type status int

func (s status) Error() string       { return fmt.Sprint("status ", int(s)) }
func (s status) HTTPStatusCode() int { return int(s) }

// A hint names settings as the front end does that shows it.
func TestHintsAreInTheWordsOfTheFrontEnd(t *testing.T) {
	w := CommandLine
	w.Setting = func(name string) string { return strings.ReplaceAll(name, "-", "_") }
	w.Source = "source"
	w.Denied = func(*mirror.DeniedError) string { return "ask the owner of the bucket" }
	for err, want := range map[error]string{
		&mirror.RegionError{Bucket: "b", Asked: "us-east-1", Region: "eu-west-1"}: "give region eu-west-1",
		source.ErrNothing:     "source is the directory of a mirror",
		target.ErrNotVisible:  "see that public_url is where",
		&mirror.DeniedError{}: "ask the owner of the bucket",
	} {
		if got := strings.Join(HintsIn(err, w), "\n"); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// A run of the daemon that has failed is tried again soon, or rarely, or in smaller parts.
func TestWhatBecomesOfARun(t *testing.T) {
	for _, row := range []struct {
		err  error
		want Repeating
	}{
		{errors.New("anything"), Later}, {status(503), Later}, {status(400), Suspect}, {mirror.ErrExist, Suspect},
		{&mirror.DeniedError{Action: "s3:PutObject"}, Lasting}, {mirror.ErrCredentials, Lasting}, {mirror.ErrNoBucket, Lasting},
		{&mirror.RegionError{}, Lasting}, {&index.VersionError{Got: 9, Want: 8}, Lasting}, {&target.ConfigError{Err: errors.New("x")}, Lasting},
	} {
		if got := Repeat(fmt.Errorf("put a: %w", row.err)); got != row.want {
			t.Errorf("%v: %d, want %d", row.err, got, row.want)
		}
	}
}

// After a command that leaves nothing behind, such as an export, no hint says that something stays or is resumed, whatever has failed.
func TestHintsPromiseNothingWhereNothingStays(t *testing.T) {
	for _, err := range []error{
		&url.Error{Op: "Get", URL: "https://b.s3.amazonaws.com/a", Err: errors.New("EOF")}, status(503), SignalError{syscall.SIGTERM}, ErrTimeout, mirror.ErrCredentials,
		&net.DNSError{Name: "x", Err: "connect: " + syscall.ENETUNREACH.Error()},
		&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, syscall.ENOSPC, mirror.ErrFull,
		&mirror.ProxyError{Proxy: "http://proxy:3128", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, blob.ErrChanged,
	} {
		promised := func(err error) bool {
			hint := strings.Join(Hints(err), "; ")
			if hint == "" {
				t.Errorf("%v: no hint", err)
			}
			return strings.Contains(hint, "what is complete") || strings.Contains(hint, "resumes") || strings.Contains(hint, "goes on") || strings.Contains(hint, "the index names")
		}
		if !promised(err) {
			t.Errorf("%v: nothing is promised after any command: %q", err, Hints(err))
		}
		if promised(resume.Nothing(err)) {
			t.Errorf("%v: %q", err, Hints(resume.Nothing(err)))
		}
		if ExitCode(err) != ExitCode(resume.Nothing(err)) {
			t.Errorf("%v: another exit code", err)
		}
	}
}
