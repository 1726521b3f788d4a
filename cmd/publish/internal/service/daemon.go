package service

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

const (
	DefaultConfig = "/etc/slurm-factory-publish/config.yaml"
	DefaultSocket = "/run/slurm-factory-publish/publish.sock"
)

// Run runs the daemon, or the indexer, that a file configures, until ctx ends, which is not an error.
func Run(ctx context.Context, env cli.Env, file string) error {
	hangups, leave := env.Signals.Hangups()
	defer leave()
	c, err := ReadConfig(file)
	if err != nil {
		return err
	}
	log := daemonLog(env, c.LogFormat, c.LogLevel)
	if c.Mode == "indexer" {
		return runIndexerMode(ctx, c, env.Version, log, file, hangups)
	}
	s := service{config: c, version: env.Version, hangups: hangups, log: log, grace: c.StopTimeout.or(defaultStop), manager: systemd{log}}
	if s.listeners, err = listenersOf(c); err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	s.reload = func() (*Config, error) { return ReadConfig(file) }
	log.Info("the daemon begins", "version", env.Version, "mirrors", len(c.Mirrors), "state_dir", c.StateDir)
	err = s.run(ctx)
	log.Info("the daemon has stopped")
	return err
}

// A service is a daemon with everything around it.
type service struct {
	config    *Config
	version   string
	log       *slog.Logger
	grace     time.Duration
	listeners []listener
	manager   manager
	// reload reads the configuration again on SIGHUP, which hangups reports. Both are nil if there is no
	// configuration.
	reload  func() (*Config, error)
	hangups <-chan os.Signal
	extra   []Mirror // not in the configuration
	// up is called when the daemon runs; when up returns, the daemon stops. It may be nil.
	up func(context.Context, *daemon.Daemon) error

	daemon  *daemon.Daemon
	metrics *api.Metrics
	pacing  pacing
}

func (s *service) run(ctx context.Context) (err error) {
	defer func() {
		for _, l := range s.listeners {
			l.Close()
		}
	}()
	q, err := queue.Open(ctx, s.config.StateDir)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	mirrors, err := s.mirrors(s.config)
	if err != nil {
		return err
	}
	for _, m := range s.extra {
		mirrors = append(mirrors, s.mirror(m))
	}
	s.daemon = daemon.New(daemon.Options{
		Queue: q, Log: s.log, Keep: s.config.KeepFinished.or(defaultKeep),
		Grace: s.grace, Stalled: s.config.StalledAfter.or(defaultStalled), Class: classOf,
	}, mirrors)
	s.metrics = api.NewMetrics(s.daemon, s.version)
	return s.serve(ctx)
}

// serve runs the daemon and its listeners.
func (s *service) serve(ctx context.Context) error {
	allow, err := allowed(s.config)
	if err != nil {
		return err
	}
	o := supervisor{
		server:    &api.Server{Daemon: s.daemon, Metrics: s.metrics, Allow: allow, Version: s.version, Log: s.log, Explain: explain},
		listeners: s.listeners, manager: s.manager, grace: s.grace, log: s.log,
		run: s.daemon.Run, health: s.daemon.Health, beside: s.pacing.keep,
	}
	if s.reload != nil {
		o.load, o.hangups = s.load, s.hangups
	}
	if s.up != nil {
		o.up = func(ctx context.Context) error { return s.up(ctx, s.daemon) }
	}
	return o.serve(ctx)
}

// mirrors returns the mirrors of a configuration for the daemon.
func (s *service) mirrors(c *Config) ([]daemon.Mirror, error) {
	var all []daemon.Mirror
	limiter, least := s.pacing.use(c.Bandwidth)
	for i := range c.Mirrors {
		m := &c.Mirrors[i]
		o, err := m.rules().Options()
		if err != nil {
			return nil, cli.Usage(err)
		}
		served := Mirror{Name: m.Name, Source: m.Source, Destination: m.Destination, Target: m.Target(), Options: o, Catalog: m.Catalog}
		served.Target.S3.Limiter, served.Target.S3.LimitRate = limiter, least
		out := s.mirror(served)
		out.Fingerprint = fingerprint(m, least)
		out.Settle, out.MaxDelay = m.Settle.or(defaultSettle), m.MaxDelay.or(defaultMaxDelay)
		out.Scan, out.Stuck = m.ScanInterval.or(defaultScan), m.StuckAfter.or(defaultStuck)
		out.Watch = m.Watch == nil || *m.Watch
		all = append(all, out)
	}
	return all, nil
}

// A Mirror is a mirror that the service publishes.
type Mirror struct {
	Name, Source, Destination string
	Target                    target.Config
	Options                   publish.Options
	Catalog                   bool // keep the pages of mirrors up to date
}

// mirror returns a mirror for the daemon.
func (s *service) mirror(m Mirror) daemon.Mirror {
	if m.Options.Trust.Keys != nil {
		m.Options.Trust.Checked = new(buildcache.Checked)
	}
	var signing *daemon.SigningKey
	if k := m.Options.Sign.Key; k != nil {
		m.Options.Sign.Key = k.Observed(func() { s.daemon.Progress() })
		signing = &daemon.SigningKey{Fingerprint: string(k.Fingerprint()), Expires: k.Expires()}
	}
	log := s.log.With("mirror", m.Name)
	w := &mirrorWork{Mirror: m, log: log}
	w.environment = target.Environment{Log: log, Observe: s.observed, Answered: func() { s.daemon.Progress() }, Retrying: w.retrying}
	return daemon.Mirror{
		Name: m.Name, Source: filepath.Clean(m.Source), Destination: m.Destination, Caches: m.owes(), Work: w,
		Settle: defaultSettle, MaxDelay: defaultMaxDelay, Scan: defaultScan, Stuck: defaultStuck, Watch: true,
		SigningKey: signing,
	}
}

// fingerprint identifies the configuration of a mirror, including the content of its keys and lock files and
// the lowest upload limit.
func fingerprint(m *MirrorConfig, least int64) string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // all its values can be written as JSON
	}
	h := sha256.New()
	h.Write(text)
	for _, name := range append([]string{string(m.TrustedKeys), string(m.SignKey), string(m.SignPublicKey), string(m.Licenses)}, locksIn(m.Include, m.Exclude)...) {
		content, _ := userfile.Read(name) // checking the configuration has read it before
		fmt.Fprintf(h, "\x00%d\x00%s", len(content), content)
	}
	return fmt.Sprintf("%x %d", h.Sum(nil), least)
}

// locksIn returns the lock files that patterns name.
func locksIn(patterns ...[]string) []string {
	var names []string
	for _, p := range slices.Concat(patterns...) {
		if name, ok := strings.CutPrefix(p, "@"); ok {
			names = append(names, name)
		}
	}
	return names
}

// observed counts a request to S3. Any response is progress.
func (s *service) observed(r s3.Request) {
	s.metrics.Request(r.Operation, strconv.Itoa(r.Status))
	if r.Status != 0 {
		s.daemon.Progress()
	}
}

func (s *service) load(ctx context.Context) error {
	c, err := s.reload()
	if err != nil {
		return err
	}
	for key, values := range map[string][2]string{"state_dir": {s.config.StateDir, c.StateDir}, "socket": {s.config.Socket, c.Socket}, "listen": {s.config.Listen, c.Listen}} {
		if values[0] != values[1] {
			s.log.Warn("a change needs a restart", "key", key)
		}
	}
	mirrors, err := s.mirrors(c)
	if err != nil {
		return err
	}
	return s.daemon.Reload(ctx, mirrors)
}
