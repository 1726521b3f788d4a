package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/catalog"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/nofile"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/gpg"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// A row says what follows from the errors that it covers.
type row struct {
	covers  func(error) bool
	code    func(error) int                   // nil, or 0: the rows below decide
	repeat  Repeating                         // whether a run of the daemon is retried
	hints   func(err error, w Words) []string // nil, or none: the rows below decide. {name} is a setting
	general bool                              // the hint says how the run ended; the hint of a cause takes precedence
}

// is covers errors that are declared as values. With code 0 the rows below decide.
func is(code int, sentinels ...error) row {
	return when(func(err error) bool {
		return slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) })
	}, code)
}

// when covers errors for which a function returns true.
func when(covers func(error) bool, code int) row {
	return row{covers: covers, code: func(error) int { return code }}
}

// as covers errors of a type. hint may be nil.
func as[E error](code int, hint func(err E, w Words) string) row {
	return typed(func(E) int { return code }, func(err E, w Words) []string {
		if hint == nil {
			return nil
		}
		if h := hint(err, w); h != "" {
			return []string{h}
		}
		return nil
	})
}

// typed is as for errors that have several codes or hints.
func typed[E error](code func(E) int, hints func(E, Words) []string) row {
	find := func(err error) (e E, ok bool) { return e, errors.As(err, &e) }
	return row{
		covers: func(err error) bool { _, ok := find(err); return ok },
		code:   func(err error) int { e, _ := find(err); return code(e) },
		hints:  func(err error, w Words) []string { e, _ := find(err); return hints(e, w) },
	}
}

// hint sets the hint of a row.
func (r row) hint(text string) row {
	r.hints = func(error, Words) []string { return []string{text} }
	return r
}

// ending sets a hint that says how the run ended.
func (r row) ending(text string) row {
	r = r.hint(text)
	r.general = true
	return r
}

// then sets whether a run of the daemon is retried.
func (r row) then(what Repeating) row {
	r.repeat = what
	return r
}

// failures is the table of failures: exit code, what becomes of a run, and hint. Its order counts: how a run ended
// comes before its cause, and a special cause before a general one.
var failures = []row{
	as(0, func(err *hinted, _ Words) string { return err.hint }),

	// How a run ended.
	as[*outputError](ExitInternal, nil).
		hint("the work is done, only the result is lost: run again with another standard output; published packages are not sent again"),
	when(func(err error) bool { return defect.StackOf(err) != "" }, ExitInternal).
		hint("[[what is complete stays, and the index names nothing that is missing; ]]please report this with the lines that follow"),
	typed(func(err SignalError) int { return ExitSignal + int(err.Signal) }, none).
		ending("[[the index names nothing that is not there; run again and the rest resumes|run again]]"),
	is(ExitTimeout, ErrTimeout, context.DeadlineExceeded).
		ending("[[run again: what is complete stays, the rest resumes|give more time with {timeout}]]"),
	typed(func(err *failure) int { return err.code }, none),
	as[*target.ConfigError](ExitUsage, nil),
	is(ExitInvalidation, target.ErrNotInvalidated).
		ending("run again: what was not invalidated will be; until then caches follow the object's own Cache-Control"),
	is(ExitVerification, target.ErrNotVisible).
		ending("see that {public-url} is where clients find {destination}; if a cache is in between, give {distribution-id}, or look at the Cache-Control that it obeys"),

	is(ExitCatalog, catalog.ErrBehind).
		ending("the packages are published and in the index; run `publish catalog` for {destination} when the cause is mended, or publish again"),

	// The daemon and its queue.
	as(ExitUsage, func(err *daemon.OutsideError, _ Words) string {
		return "the daemon publishes only packages below the sources of its mirrors: " + strings.Join(err.Sources, ", ")
	}),
	is(ExitUsage, arrival.ErrNoDocument).
		hint("name the manifest of a package (...spec.manifest.json, or .spec.json of layout v2), or a directory with manifests"),
	is(ExitUsage, arrival.ErrNotSelected).
		hint("see include, exclude and layout of the mirror in the configuration"),
	is(ExitUsage, daemon.ErrConfigured, daemon.ErrNoMirror),
	is(ExitUsage, queue.ErrNoJob).hint("publish status -v shows the jobs that failed, with their numbers"),
	is(ExitSource, arrival.ErrGone, arrival.ErrRefused),
	is(0, daemon.ErrStopping, queue.ErrClosed).
		hint("try again when it runs. Packages in its sources are found without this"),
	typed(answerCode, func(err *api.Error, _ Words) []string {
		if err.Hint == "" {
			return nil
		}
		return []string{err.Hint}
	}),
	is(ExitUpload, api.ErrNoDaemon).
		hint("start it (`publish daemon --config FILE`, or systemctl start slurm-factory-publish), or give its socket with --socket"),
	is(0, queue.ErrInUse).
		hint("another daemon runs with this state_dir; each needs one of its own"),
	is(0, queue.ErrDamaged).
		hint("move queue.db, queue.db-wal and queue.db-shm out of state_dir and start again: unpublished packages are found in the sources. Only failures and pending invalidations are lost"),
	is(0, queue.ErrNewer).
		hint("update this program: the queue was written by a newer version"),
	is(0, queue.ErrReadOnly).
		hint("let the user that runs the daemon write to state_dir: `ls -ld` shows whose it is"),
	is(0, queue.ErrDisk).
		hint("see with `dmesg` and `mount` what is wrong with the disk of state_dir, and start again: what was accepted is still there"),
	is(0, queue.ErrFull).
		hint("make room in state_dir; a daemon that has stopped is to be started again. What was accepted is still there, and other packages are found by the next scan"),

	// Credentials and rights.
	typed(func(*session.AuthError) int { return ExitCredentials }, func(err *session.AuthError, _ Words) []string { return slices.Clone(err.Hints) }),
	as(ExitCredentials, profileHint).then(Lasting),
	when(skewed, 0).then(Lasting).
		hint("the clock of this machine differs from that of the server by more than 15 minutes: set it, as with `timedatectl set-ntp true`"),
	words(ExitCredentials, mirror.ErrCredentials, func(w Words) string { return w.NoCredentials }).then(Lasting),
	is(0, syscall.EROFS).then(Lasting).
		hint("the file system is mounted read-only: mount it for writing, or give another directory"),
	as(0, deniedHint).then(Lasting),

	// Keys outside of this process. A mistake in a key in memory is found when the key is read, as a mistake of
	// a setting.
	is(ExitCredentials, sign.ErrOtherKey).then(Lasting).
		hint("{sign-public-key} is that of another key, or the alias was pointed at another one: make it with `publish keys create`, or name the key by its ARN"),
	is(ExitCredentials, kms.ErrKey).then(Lasting).
		hint("`aws kms describe-key --key-id KEY` shows its state and usage: want Enabled, SIGN_VERIFY and RSA_4096"),
	is(ExitCredentials, kms.ErrNoRegion).then(Lasting),
	is(ExitUsage, sign.ErrNoPassphrase).then(Lasting).
		hint("give {sign-passphrase-file}, or unlock the key in the agent before: `gpg --local-user FINGERPRINT --clearsign` asks for the passphrase, at a terminal with GPG_TTY=$(tty)"),
	is(ExitUsage, sign.ErrPassphrase).then(Lasting),
	as(ExitUsage, func(*sign.UnfitError, Words) string {
		return "a newer copy of its public key says so, in {trusted-keys}, {source} or {destination}: sign with another key; or, if it was extended, give the private key as it is now"
	}).then(Lasting),
	as(ExitSource, func(*same.DamagedKeyError, Words) string { return same.Mend + " --public-key FILE {destination}" }).then(Lasting),
	is(ExitCredentials, sign.ErrExpired).then(Lasting).
		hint("extend the key, or sign with another one: docs/signing.md says what clients have to do"),
	is(ExitCredentials, gpg.ErrNoGPG).then(Lasting),
	is(ExitCredentials, gpg.ErrUnknownKey).then(Lasting).
		hint("it is looked for where GNUPGHOME leads, and an agent that is forwarded must be reachable: see gpg --list-secret-keys"),
	is(ExitCredentials, gpg.ErrAgent, gpg.ErrNoAnswer).
		hint("see whether it signs by itself: `echo test | gpg --local-user FINGERPRINT --clearsign`; `gpgconf --kill gpg-agent` ends an agent that does not answer"),
	as[*gpg.Error](ExitCredentials, nil).
		hint("see whether it signs by itself: `echo test | gpg --local-user FINGERPRINT --clearsign`"),
	as[*sign.Error](ExitCredentials, nil),

	// The source, and what is in the mirror.
	// EMFILE first: it makes files unreadable, too.
	words(0, syscall.EMFILE, func(Words) string {
		return fmt.Sprintf("%d files may be open: raise that with `ulimit -n`, or LimitNOFILE= of the service, or give a smaller {concurrency}", nofile.Limit())
	}),
	is(0, syscall.ENFILE).
		hint("the machine has too many files open: see fs.file-max"),
	as(ExitSource, func(err *buildcache.FindingsError, _ Words) string {
		todo := "repair or rebuild the named packages"
		for _, f := range err.Findings {
			switch {
			case strings.HasPrefix(f.Reason, "it is not signed"):
				todo = "sign packages as they are published, with {sign-key}, or when they are built, with `spack buildcache push --key`"
			case strings.HasPrefix(f.Reason, "layout v2 has no views"):
				todo = "{layout} v3 takes the mirror of layout v3 alone; if there is none, leave the view out, or `spack buildcache migrate` makes one"
			}
		}
		if err.Held {
			return todo + ", or publish the rest with {keep-going}"
		}
		return todo
	}),
	is(ExitSource, buildcache.ErrNoMirror).
		hint("name the directory of a mirror, or one above several: where v3 and blobs, or build_cache, are"),
	as(ExitSource, selectionHint),
	as(0, func(*elsewhere.NotInViewError, Words) string {
		return "`publish view add` puts packages into a view; without {view} everything is selected that the mirror offers"
	}),
	as(0, func(*closure.UnmatchedError, Words) string { return "`publish ls` lists what a mirror offers" }),
	is(ExitSource, elsewhere.ErrNoIndex).
		hint("name one mirror, as clients do; `publish index` makes its index if it lacks one"),
	is(ExitSource, source.ErrNothing).
		hint("{source} is the directory of a mirror, or one above several: what `spack mirror add` would take"),
	is(ExitSource, blob.ErrChanged).
		hint("publish when nothing writes to {source} any more[[; what is complete stays]]"),
	is(0, mirror.ErrExist).then(Suspect).
		hint("an object that never changes has other content than it should: run `publish verify --deep DESTINATION`"),
	as(ExitIndex, func(err *index.VersionError, _ Words) string {
		if err.Newer() {
			return "update this program: it reads and replaces no index of a version that it does not know"
		}
		return ""
	}).then(Lasting),
	as[*inventory.DamagedError](ExitSource, nil).hint(damage).then(Lasting),
	is(ExitSource, reindex.ErrUnreadable).hint(damage),
	is(ExitUsage, catalog.ErrForeign).then(Lasting).
		hint("move the index.html that is there out of the way, or leave the page out"),
	is(ExitIndex, notice.ErrAtWork).
		hint("it ends by itself; one that was killed counts as ended ten minutes later"),
	is(ExitIndex, notice.ErrLate).
		hint("the index takes too long to read and write from here: run again nearer to the storage, or when it answers faster"),
	words(ExitIndex, conflict.ErrUnresolved, func(w Words) string { return w.Unresolved }),
	is(0, mirror.ErrConflict).
		hint("another program was at work there: run again, which continues with what is there now"),

	// Where the destination is, and whether it answers as it should.
	as(0, func(err *mirror.RegionError, _ Words) string { return "give {region} " + shell.Quote(err.Region) }).then(Lasting),
	is(0, mirror.ErrNoBucket).then(Lasting).
		hint("correct {destination}, or create the bucket first"),
	as[*mirror.CertificateError](0, nil).
		hint("the error names the settings; they hold for everything that is asked: S3, STS, CloudFront, {public-url} and `publish verify https://`"),
	as[*mirror.ConditionError](0, nil).
		hint("use a store that obeys conditions: docs/stores.md says which do. Only if nothing else ever writes to this mirror, Spack included, give {unsafe-single-writer}"),
	as(0, strangeHint),
	when(wantsProxyPassword, 0).hint(proxyPassword),
	when(func(err error) bool { return statusOf(err) == http.StatusNotImplemented }, 0).then(Lasting).
		hint("this storage lacks a function of Amazon S3 that is needed here: docs/stores.md says which are known to work"),
	is(0, mirror.ErrFault).
		hint("this storage does not answer as Amazon S3 does, so nothing can be relied upon: docs/stores.md says which are known to work"),
	is(0, cloudfront.ErrNoDistribution).
		hint("{distribution-id} takes the id (E...), not the domain name; `aws cloudfront list-distributions` shows it"),
	is(ExitUsage, events.ErrNoQueue).
		hint("{queue} takes what `aws sqs get-queue-url` shows; with our stack it is the output IndexerQueueUrl"),
	is(0, http.ErrSchemeMismatch).
		hint("this server speaks http, not https: give {endpoint-url} with http://"),
	as(0, func(err *mirror.SchemeError, _ Words) string { return "give {endpoint-url} http://" + err.Host }),
	as[*mirror.ProxyError](0, nil).
		hint("correct HTTPS_PROXY, or HTTP_PROXY for http://, or name in NO_PROXY the hosts that are reached without a proxy; then run again[[: what is complete stays, the rest resumes]]"),
	is(0, syscall.ENETUNREACH, syscall.EHOSTUNREACH).
		hint("this machine has no way there: see that it is connected, or set HTTPS_PROXY where only a proxy is; then run again[[: what is complete stays, the rest resumes]]"),
	as(0, func(err *net.DNSError, w Words) string {
		if strings.Contains(err.Err, syscall.ENETUNREACH.Error()) {
			return "this machine has no network: connect it, or set HTTPS_PROXY where only a proxy is; then run again[[: what is complete stays, the rest resumes]]"
		}
		return fmt.Sprintf("no address is known for %s: correct its name%s, or see that this machine reaches its name server; then run again", err.Name, w.given())
	}),
	words(0, syscall.ECONNREFUSED, func(w Words) string {
		return "nothing listens there: see that the server runs and that its address and port" + w.given() + " are right, then run again[[: what is complete stays, the rest resumes]]"
	}),

	// The machine.
	is(0, mirror.ErrFull, syscall.ENOSPC).
		hint("make room and run again[[: the mirror is intact, and what is complete is not sent again]]"),
	is(0, syscall.ENOTDIR).
		hint("a part of that path is a file, where a directory is wanted"),
	is(0, ErrNoTempDir).
		hint("set TMPDIR to a directory that is there and that you may write to, or unset it"),
	is(0, fs.ErrNotExist).
		hint("look for a misspelt path"),

	// Failures known only from the response of a server, or from a missing response.
	when(func(err error) bool { return statusOf(err) == http.StatusRequestEntityTooLarge }, 0).
		hint(tooLarge),
	when(notUnderstood, 0).then(Suspect),
	when(unreached, 0).
		ending("see that {destination} can be reached, then run again[[: what is complete stays, the rest resumes]]"),
}

// given says which setting gave the address of a server, if that is known.
func (w Words) given() string {
	if w.Server == "" {
		return ""
	}
	return " in " + w.Server
}

const damage = "`publish verify`, where the mirror can be written, says what is damaged and what mends it"

// none is the hint of a row without one.
func none[E error](E, Words) []string { return nil }

// words covers an error whose hint depends on the front end.
func words(code int, sentinel error, hint func(Words) string) row {
	r := is(code, sentinel)
	r.hints = func(_ error, w Words) []string { return []string{hint(w)} }
	return r
}

// answerCode returns the exit code for an error response of a daemon.
func answerCode(err *api.Error) int {
	if err.Status >= 400 && err.Status < 500 {
		return ExitUsage
	}
	return ExitUpload
}

// deniedHint says which permission to grant, and where.
func deniedHint(err *mirror.DeniedError, w Words) string {
	if w.Denied != nil {
		if h := w.Denied(err); h != "" {
			return h
		}
	}
	switch {
	case strings.HasPrefix(err.Action, "cloudfront:"):
		return fmt.Sprintf("allow %s on %s for this role", err.Action, err.Name)
	case err.Action == http.MethodGet:
		return "clients need no credentials: let the server answer requests for " + err.Name
	case !strings.Contains(err.Action, ":"):
		return "let the user that runs this " + err.Action + " there: `ls -ld` shows whose the directory is"
	}
	return fmt.Sprintf("allow %s on %s for the credentials %s (for AWS: in the role's policy)%s", err.Action, err.Name, cmp.Or(w.own, "in use"), w.another)
}

// profileHint says what to do about a profile without credentials.
func profileHint(err *session.ProfileError, w Words) string {
	if err.MFA && w.own != "" { // the environment is for the destination
		return "write credentials, with the code, into a profile of their own (`aws configure export-credentials --profile " + shell.Quote(err.Profile) + "` shows them), and name that with {profile}"
	}
	if err.MFA {
		return "get credentials with the code first: eval \"$(aws configure export-credentials --format env --profile " + shell.Quote(err.Profile) + ")\", then run again without {profile}"
	}
	if n := nearest.Word(err.Profile, err.Known); n != "" && n != err.Profile {
		return "did you mean {profile} " + shell.Quote(n) + "?"
	}
	if w.own != "" {
		return "name another profile with {profile}, or correct this one in ~/.aws/config"
	}
	return "name another profile with {profile} or AWS_PROFILE, or correct this one in ~/.aws/config"
}

// strangeHint says what to do about a server that is not an S3 service.
func strangeHint(err *mirror.NotS3Error, _ Words) string {
	switch {
	case err.Status == http.StatusRequestEntityTooLarge:
		return tooLarge
	case err.Said == mirror.SaidByCDN:
		return "leave {endpoint-url} out for Amazon S3: {public-url} is where the CDN belongs"
	case strings.Contains(err.Said, "HTTPS"):
		return "this server speaks https: give {endpoint-url} https://" + strings.TrimPrefix(err.Server, "http://")
	case err.Status == http.StatusProxyAuthRequired:
		return proxyPassword
	case err.Status == http.StatusForbidden:
		return "a proxy or a firewall has refused the request, not S3, so no role and no key changes that: see HTTPS_PROXY and NO_PROXY, or have the host admitted"
	}
	return "{endpoint-url} names the S3 itself, without the bucket: not a CDN, a website or the console of a store"
}

// skewed reports whether a service has refused requests because the clock of this machine is wrong.
func skewed(err error) bool {
	return errors.Is(err, mirror.ErrCredentials) && (strings.Contains(err.Error(), "RequestTimeTooSkewed") || strings.Contains(err.Error(), "RequestInTheFuture"))
}

// wantsProxyPassword reports whether a proxy has refused a request because it requires a user and a password.
func wantsProxyPassword(err error) bool {
	var unreached *url.Error
	return statusOf(err) == http.StatusProxyAuthRequired ||
		errors.As(err, &unreached) && strings.Contains(unreached.Err.Error(), http.StatusText(http.StatusProxyAuthRequired))
}

const proxyPassword = "the proxy wants a user and a password: give them in HTTPS_PROXY, or HTTP_PROXY for http://, as in http://user:password@proxy.example.org:3128"

const tooLarge = "a proxy in front of the storage takes no requests of this size: raise its limit (client_max_body_size of nginx), or give a smaller {part-size}"

// selectionHint suggests similar names of packages, or lists the existing ones.
func selectionHint(err *source.NotSelectedError, _ Words) string {
	var meant []string
	for _, pattern := range err.Include {
		name, _, _ := strings.Cut(pattern, "@")
		if n := nearest.Word(name, err.Names); n != "" && !strings.HasPrefix(name, "/") {
			meant = append(meant, n)
		}
	}
	if len(meant) > 0 {
		return "did you mean " + strings.Join(meant, ", ") + "?"
	}
	const most = 10
	shown := err.Names[:min(len(err.Names), most)]
	switch {
	case len(shown) == 0:
		return "see with {dry-run}, and without {include} and {exclude}, which packages there are"
	case len(shown) < len(err.Names):
		return "there are " + strings.Join(shown, ", ") + ", and more"
	}
	return "there are " + strings.Join(shown, ", ")
}

// An answer is an error response of a server.
type answer interface{ HTTPStatusCode() int }

// notUnderstood reports whether S3 rejected a request as invalid.
func notUnderstood(err error) bool { return statusOf(err) == http.StatusBadRequest }

// statusOf returns the HTTP status of an error response; 0 if there is none.
func statusOf(err error) int {
	var a answer
	if !errors.As(err, &a) {
		return 0
	}
	return a.HTTPStatusCode()
}

// unreached reports whether a server did not respond, or is unavailable.
func unreached(err error) bool {
	var a answer
	if errors.As(err, &a) {
		return a.HTTPStatusCode() >= 500 && a.HTTPStatusCode() != http.StatusNotImplemented || a.HTTPStatusCode() == http.StatusTooManyRequests || a.HTTPStatusCode() == http.StatusRequestTimeout
	}
	var network net.Error
	return errors.As(err, &network)
}
