package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/nofile"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// Exit codes are an interface: see docs/exit-codes.md.
const (
	ExitDone         = 0 // published, unchanged, or a dry run
	ExitInternal     = 1
	ExitUsage        = 2
	ExitCredentials  = 3 // there are none, or they are not accepted
	ExitSource       = 4 // the source is invalid, or something in it is
	ExitUpload       = 5
	ExitIndex        = 6 // an index could not be replaced
	ExitInvalidation = 7 // published, but caches may serve the old index
	ExitVerification = 8 // damage found, or published and not seen through the public URL
	ExitTimeout      = 124
	ExitSignal       = 128 // and the number of the signal
)

// A failure is an error of a kind that has an exit code of its own.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// IsUsage reports whether an error is about how the program was called or configured.
func IsUsage(err error) bool { return ExitCode(err) == ExitUsage }

// Fail gives an error an exit code.
func Fail(code int, err error) error {
	if err == nil {
		return nil
	}
	return &failure{code, err}
}

// ErrNoTempDir: there is no place for the socket and the queue of publish exec.
var ErrNoTempDir = errors.New("no directory for temporary files")

// ErrReported: what went wrong has been printed as a result.
var ErrReported = errors.New("reported")

func ExitCode(err error) int {
	var stopped SignalError
	var known *failure
	var found *buildcache.FindingsError
	var version *index.VersionError
	var unwritten *outputError
	var config *target.ConfigError
	switch {
	case err == nil:
		return ExitDone
	case defect.StackOf(err) != "":
		return ExitInternal
	case errors.As(err, &stopped):
		return ExitSignal + int(stopped.Signal)
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout
	case errors.As(err, &known):
		return known.code
	case errors.As(err, &config):
		return ExitUsage
	case errors.Is(err, target.ErrNotInvalidated):
		return ExitInvalidation
	case errors.Is(err, target.ErrNotVisible):
		return ExitVerification
	case errors.As(err, &unwritten):
		return ExitInternal
	case errors.Is(err, mirror.ErrCredentials):
		return ExitCredentials
	case errors.Is(err, events.ErrNoQueue):
		return ExitUsage
	case errors.As(err, &found), errors.Is(err, source.ErrNothing), errors.Is(err, buildcache.ErrNoMirror), errors.Is(err, blob.ErrChanged):
		return ExitSource
	case errors.Is(err, reindex.ErrUnresolved), errors.As(err, &version):
		return ExitIndex
	}
	return ExitUpload
}

var classes = map[int]string{
	ExitInternal: "internal", ExitUsage: "config", ExitCredentials: "auth", ExitSource: "source", ExitUpload: "upload",
	ExitIndex: "index", ExitInvalidation: "invalidation", ExitVerification: "verify", ExitTimeout: "timeout",
}

// ClassOf is the class of failure that an exit code stands for; empty for success, and
// for what was cancelled, which is nobody's failure.
func ClassOf(code int) string { return classes[code] }

// Hint says what to do about an error; empty where the error says it all.
func Hint(err error) string {
	var denied *mirror.DeniedError
	var region *mirror.RegionError
	var condition *mirror.ConditionError
	var untrusted *mirror.CertificateError
	var version *index.VersionError
	var found *buildcache.FindingsError
	var unwritten *outputError
	if errors.As(err, &unwritten) {
		return "what was done is done: run again with a standard output that takes the result; what is published is not sent again"
	}
	if defect.StackOf(err) != "" {
		return "what is complete stays, and the index names nothing that is missing; please report this with the lines that follow"
	}
	if h := daemonHint(err); h != "" {
		return h
	}
	switch {
	case errors.As(err, &found) && found.Held:
		return "mend or rebuild what is named, or publish the rest with --keep-going"
	case errors.As(err, &found):
		return "mend or rebuild what is named"
	case errors.As(err, &version) && version.Newer():
		return "update this program: it will not replace an index that it cannot read"
	case errors.As(err, &region):
		return "give --region " + shell.Quote(region.Region)
	case errors.As(err, &denied) && strings.HasPrefix(denied.Action, "cloudfront:"):
		return fmt.Sprintf("allow %s on %s for this role", denied.Action, denied.Name)
	case errors.As(err, &denied) && denied.Action == http.MethodGet:
		return "clients need no credentials: let the server answer requests for " + denied.Name
	case errors.As(err, &denied) && !strings.Contains(denied.Action, ":"):
		return "let the user that runs this " + denied.Action + " there: `ls -ld` shows whose the directory is"
	case errors.As(err, &denied):
		return fmt.Sprintf("allow %s on %s for the credentials in use (for AWS: in the role's policy)", denied.Action, denied.Name)
	case errors.Is(err, mirror.ErrCredentials):
		return "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again; what is complete stays, the next run goes on from there"
	case errors.Is(err, mirror.ErrNoBucket):
		return "create the bucket first, or correct DESTINATION"
	case errors.As(err, &untrusted):
		return "the error names the settings; they hold for everything that is asked: S3, STS, CloudFront, --public-url and `publish verify https://`"
	case errors.As(err, &condition):
		return "use a store that obeys conditions: docs/stores.md says which do. Only if nothing else ever writes to this mirror, Spack included, give --unsafe-single-writer"
	case errors.Is(err, mirror.ErrFault):
		return "this storage does not answer as Amazon S3 does, so nothing can be relied upon: docs/stores.md says which are known to work"
	case errors.Is(err, syscall.EMFILE):
		return fmt.Sprintf("%d files may be open: raise that with `ulimit -n`, or LimitNOFILE= of the service, or give a smaller --concurrency", nofile.Limit())
	case errors.Is(err, syscall.ENFILE):
		return "the machine has too many files open: see fs.file-max"
	case errors.Is(err, mirror.ErrFull), errors.Is(err, syscall.ENOSPC):
		return "make room and run again: the mirror is intact, and what is complete is not sent again"
	case errors.Is(err, cloudfront.ErrNoDistribution):
		return "--distribution-id takes the id (E...), not the domain name; `aws cloudfront list-distributions` shows it"
	case errors.Is(err, events.ErrNoQueue):
		return "--queue takes what `aws sqs get-queue-url` shows; with our stack it is the output IndexerQueueUrl"
	case errors.Is(err, reindex.ErrUnresolved):
		return "run `publish index DESTINATION` when fewer publishers are at work"
	case errors.Is(err, buildcache.ErrNoMirror):
		return "name the directory of a mirror, or one above several: where v3 and blobs, or build_cache, are"
	case errors.Is(err, source.ErrNothing):
		return "SOURCE is the directory of a mirror, or one above several: what `spack mirror add` would take"
	case errors.Is(err, ErrNoTempDir):
		return "set TMPDIR to a directory that is there and that you may write to, or unset it"
	case errors.Is(err, fs.ErrNotExist):
		return "look for a misspelt path"
	case errors.Is(err, blob.ErrChanged):
		return "publish when nothing writes to SOURCE any more; what is complete stays"
	case errors.Is(err, mirror.ErrExist):
		return "an object that never changes has other content than it should: run `publish verify --deep DESTINATION`"
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "run again: what is complete stays, the rest resumes"
	case errors.Is(err, target.ErrNotVisible):
		return "see that --public-url is where clients find DESTINATION; if a cache is in between, give --distribution-id, or look at the Cache-Control that it obeys"
	case ExitCode(err) > ExitSignal:
		return "the index names nothing that is not there; run again and the rest resumes"
	case ExitCode(err) == ExitInvalidation:
		return "run again: what was not invalidated will be; until then caches follow the object's own Cache-Control"
	case ExitCode(err) == ExitUpload:
		return "see that the destination can be reached, then run again: what is complete stays, the rest resumes"
	case ExitCode(err) == ExitUsage && !strings.Contains(err.Error(), "--help"):
		return "`publish --help`, and that of each command, says what there is"
	}
	return ""
}

// daemonHint is what to do about an error of a daemon, or about one that does not answer.
func daemonHint(err error) string {
	var said *api.Error
	switch {
	case errors.As(err, &said):
		return said.Hint
	case errors.Is(err, api.ErrNoDaemon):
		return "start it (`publish daemon --config FILE`, or systemctl start slurm-factory-publish), or name its socket with --socket"
	case errors.Is(err, queue.ErrInUse):
		return "another daemon runs with this state_dir; each needs one of its own"
	case errors.Is(err, queue.ErrDamaged):
		return "move queue.db, queue.db-wal and queue.db-shm out of state_dir and start again: what is not published is found in the sources. Only what had failed, and what caches are still to be told, is forgotten"
	case errors.Is(err, queue.ErrNewer):
		return "update this program: it will not change a queue that it does not understand"
	case errors.Is(err, queue.ErrReadOnly):
		return "let the user that runs the daemon write to state_dir: `ls -ld` shows whose it is"
	case errors.Is(err, queue.ErrDisk):
		return "see with `dmesg` and `mount` what is wrong with the disk of state_dir, and start again: what was accepted is still there"
	case errors.Is(err, queue.ErrFull):
		return "make room in state_dir and start again: what was accepted is still there"
	}
	return ""
}
