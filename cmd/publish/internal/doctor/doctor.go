// Package doctor checks whether a store can hold a mirror, and whether a daemon or an indexer can do what its
// configuration says. It prints each check, and what to do about a failure.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

// Store checks whether a destination can hold a mirror, and prints its findings. Without write it only reads.
func Store(ctx context.Context, env cli.Env, where string, c target.Config, write bool) error {
	d := &doctor{out: env.Stdout, env: env, write: write}
	d.examineStore(ctx, c, where)
	return d.result()
}

// Host checks whether a daemon or an indexer can do what its configuration says.
func Host(ctx context.Context, env cli.Env, c *service.Config, write bool) error {
	d := &doctor{out: env.Stdout, env: env, write: write}
	d.examine(ctx, c)
	return d.result()
}

// result returns an error if checks have failed.
func (d *doctor) result() error {
	if d.ill > 0 {
		return cli.Fail(cli.ExitUpload, fmt.Errorf("%d of %d checks failed", d.ill, d.checks))
	}
	return nil
}

// A doctor makes checks and prints the results.
type doctor struct {
	out         io.Writer
	env         cli.Env
	write       bool
	checks, ill int
}

// say prints the result of a check. fix says what to do, for errors that do not say so.
func (d *doctor) say(what string, err error, fix string) bool {
	d.checks++
	if err == nil {
		escape.Fprintf(d.env.Told(), "ok    %s\n", what)
		return true
	}
	d.ill++
	escape.Fprintf(d.out, "FAIL  %s: %v\n", what, err)
	if fix == "" {
		fix = strings.Join(cli.Hints(err), "; ")
	}
	if fix != "" {
		escape.Fprintf(d.out, "      fix: %s\n", fix)
	}
	return false
}

// note prints a remark that is not a failure.
func (d *doctor) note(what, why string) { escape.Fprintf(d.out, "note  %s: %s\n", what, why) }

func (d *doctor) examine(ctx context.Context, c *service.Config) {
	d.say("configuration", nil, "")
	if c.Mode == "indexer" {
		d.examineIndexer(ctx, c)
		return
	}
	d.examineDaemon(ctx, c)
	for i := range c.Mirrors {
		d.examineMirror(ctx, &c.Mirrors[i])
	}
}

// examineDaemon queries the daemon. If none runs, it checks whether one could start.
func (d *doctor) examineDaemon(ctx context.Context, c *service.Config) {
	client := api.Dial(c.Socket)
	defer client.Close()
	s, err := client.Status(ctx)
	if err == nil {
		if !s.Healthy {
			err = errors.New(s.Problem)
		}
		d.say("daemon", err, "read its log: journalctl -u slurm-factory-publish")
		if len(s.Failed) > 0 {
			d.note("dead letters", fmt.Sprintf("%d; `publish status` says why", len(s.Failed)))
		}
		return
	}
	if !errors.Is(err, api.ErrNoDaemon) {
		d.say("daemon", err, "")
		return
	}
	d.note("daemon", "it is not running")
	if err := api.CheckSocket(c.Socket); err != nil {
		d.say("socket", err, "")
	}
	if _, err := os.Stat(filepath.Join(c.StateDir, "queue.db")); err != nil {
		d.say("state_dir", writable(c.StateDir), "let the user that runs the daemon write to it, or create it: install -d -o USER "+shell.Quote(c.StateDir))
		return
	}
	q, err := queue.Open(ctx, c.StateDir)
	if err == nil {
		err = q.Close()
	}
	d.say("queue", err, "")
}

// writable checks that a directory can be created or written to.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			if !info.IsDir() {
				return fmt.Errorf("%s is not a directory", dir)
			}
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		dir = filepath.Dir(dir) // it would be created below an existing one
	}
	f, err := os.CreateTemp(dir, ".publish-doctor-")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

func (d *doctor) examineMirror(ctx context.Context, m *service.MirrorConfig) {
	name := "mirror " + m.Name + ": "
	_, err := os.ReadDir(m.Source)
	d.say(name+"source", err, "create it, or let the user that runs the daemon read it: "+m.Source)
	to := d.examineDestination(ctx, name, m)
	if to == nil {
		return
	}
	defer to.Close()
	d.keys(ctx, name, to)
	if d.write {
		d.say(name+"conditional writes", conditional(ctx, to.Mirror("")), "")
	}
	d.cloudFront(ctx, name, m.Target().CDN, to)
	d.leftovers(ctx, name, to)
}

// examineDestination checks whether the destination can be listed; nil if it cannot.
func (d *doctor) examineDestination(ctx context.Context, name string, m *service.MirrorConfig) *target.Destination {
	var late clockOffset
	d.identity(ctx, name, m)
	to, err := target.Open(ctx, m.Destination, m.Target(), d.observed(&late))
	if !d.say(name+"destination", err, "") {
		return nil
	}
	may := d.say(name+"credentials, and the permission to list", to.Listed(ctx), "")
	d.clock(name, late.offset()) // a wrong clock may be why credentials are not accepted
	if !may {
		to.Close()
		return nil
	}
	return to
}

// identity checks the web identity token, if the configuration names one.
func (d *doctor) identity(ctx context.Context, name string, m *service.MirrorConfig) {
	if m.WebIdentityTokenFile == "" {
		return
	}
	c, err := session.TokenFile(m.WebIdentityTokenFile).Check(ctx)
	if d.say(name+"web identity token", err, "check that the program that writes it renews it before it expires, and that the user that runs the daemon may read it: "+m.WebIdentityTokenFile) {
		d.note(name+"web identity token", fmt.Sprintf("of %s, for sub %s and aud %s", c.Issuer, c.Subject, strings.Join(c.Audience, ", ")))
	}
}

// observed returns an environment that measures the offset of the local clock from the responses of a store.
func (d *doctor) observed(late *clockOffset) target.Environment {
	env := d.env.Target()
	env.Observe = late.observe
	return env
}

// A clockOffset is how far the local clock is behind the store.
type clockOffset struct{ nanoseconds atomic.Int64 }

func (c *clockOffset) observe(r s3.Request) {
	if !r.Date.IsZero() {
		c.nanoseconds.Store(int64(time.Until(r.Date)))
	}
}

func (c *clockOffset) offset() time.Duration { return time.Duration(c.nanoseconds.Load()) }

// mostOffset is the largest acceptable offset: S3 refuses requests that are 15 minutes off, and temporary
// credentials expire.
const mostOffset = time.Minute

func (d *doctor) clock(name string, offset time.Duration) {
	if offset.Abs() <= mostOffset {
		d.say(name+"clock", nil, "")
		return
	}
	d.say(name+"clock", fmt.Errorf("it is off by %s", offset.Abs().Round(time.Second)), "set it: timedatectl set-ntp true")
}

// Object is the name of the object that tests writing.
const Object = "publish-doctor"

// conditional checks that the storage obeys conditional writes: otherwise publishers would overwrite each
// other.
func conditional(ctx context.Context, s mirror.Store) error {
	fresh := func() mirror.Upload {
		content := fmt.Appendf(nil, "written by publish doctor %x\n", rand.Uint64())
		return mirror.Upload{Name: Object, Content: blob.Bytes(content), Digest: blob.DigestOf(content), Type: "text/plain", CacheControl: layout.Revalidate}
	}
	was := mirror.Absent
	if info, err := s.Stat(ctx, Object); err == nil {
		was = info.Version
	} else if !errors.Is(err, mirror.ErrNotExist) && !errors.Is(err, mirror.ErrDenied) {
		return err // a narrow role may not read missing objects
	}
	now, err := s.Swap(ctx, fresh(), was)
	if err != nil {
		return err
	}
	if _, err := s.Swap(ctx, fresh(), now); err != nil {
		return err
	}
	if _, err := s.Swap(ctx, fresh(), now); !errors.Is(err, mirror.ErrConflict) {
		return notObeyed("If-Match", err)
	}
	if err := s.Create(ctx, fresh()); !errors.Is(err, mirror.ErrExist) {
		return notObeyed("If-None-Match", err)
	}
	return nil
}

func notObeyed(header string, err error) error {
	if err != nil {
		return err
	}
	return &mirror.ConditionError{Header: header}
}

// cloudFront checks that the distribution can be read and invalidated.
func (d *doctor) cloudFront(ctx context.Context, name string, config target.CDNConfig, to *target.Destination) {
	c, err := to.OpenCDN(ctx, nil)
	if err != nil {
		d.say(name+"CloudFront", err, "")
		return
	}
	if !c.HasDistribution() {
		if config.PublicURL == "" {
			d.note(name+"caches", "neither distribution_id nor public_url is given: caches are not invalidated")
		}
		return
	}
	if d.write {
		id, err := c.Try(ctx, fmt.Sprintf("doctor %x", rand.Uint64()), Object)
		if !d.say(name+"CloudFront can be invalidated", err, "") {
			return
		}
		_, err = c.Status(ctx, id)
		d.say(name+"CloudFront can be read", err, "")
	}
}

// leftovers checks whether the bucket discards abandoned uploads.
func (d *doctor) leftovers(ctx context.Context, name string, to *target.Destination) {
	if to.Expiry == nil {
		return
	}
	days, err := to.Expiry(ctx)
	what := name + "lifecycle rule for unfinished uploads"
	switch {
	case err != nil:
		d.note(what, "unknown: "+err.Error())
	case days == 0:
		d.note(what, "there is none: parts of abandoned uploads cost money. Add one with AbortIncompleteMultipartUpload after 7 days")
	default:
		d.say(what, nil, "")
	}
}
