package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

const (
	defaultConfig = "/etc/slurm-factory-publish/config.yaml"
	defaultSocket = "/run/slurm-factory-publish/publish.sock"
)

const daemonHelp = `Publish packages of local mirrors as soon as they are complete.

A package is complete when its manifest is there and every blob that it names is there with the
right digest. What was accepted is kept on the disk until it is published or has failed
with a reason, whatever happens to the process or the machine.

SIGTERM stops it; what is not done then is gone on with after the next start. SIGHUP loads the
configuration anew.`

func daemonCommand(env cli.Env) *cobra.Command {
	var config string
	var example bool
	cmd := &cobra.Command{
		Use: "daemon", Short: "Publish packages of local mirrors as they are completed", Long: daemonHelp, Args: arguments,
		Example: "  publish daemon --print-example-config\n  publish daemon --config /etc/slurm-factory-publish/config.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if example {
				_, err := io.WriteString(env.Stdout, exampleConfig)
				return err
			}
			return runDaemon(cmd.Context(), env, config)
		},
	}
	cmd.Flags().StringVar(&config, "config", defaultConfig, "`FILE` with the configuration")
	cmd.Flags().BoolVar(&example, "print-example-config", false, "print a configuration that explains every key")
	return cmd
}

// runDaemon runs a daemon until ctx ends. That it was stopped is no error.
func runDaemon(ctx context.Context, env cli.Env, file string) error {
	hangups, leave := env.Signals.Hangups()
	defer leave()
	c, err := readDaemonConfig(file)
	if err != nil {
		return err
	}
	log := daemonLog(env, c.LogFormat, c.LogLevel)
	if c.Mode == "indexer" {
		return runIndexerMode(ctx, c, log, file, hangups)
	}
	s := service{config: c, hangups: hangups, log: log, grace: c.StopTimeout.or(defaultStop), manager: systemd{log}}
	if s.listeners, err = listenersOf(c); err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	s.reload = func() (*daemonConfig, error) { return readDaemonConfig(file) }
	log.Info("the daemon begins", "version", version, "mirrors", len(c.Mirrors), "state_dir", c.StateDir)
	err = s.run(ctx)
	log.Info("the daemon has stopped")
	return err
}

// A service is a daemon with all that it needs around it.
type service struct {
	config    *daemonConfig
	log       *slog.Logger
	grace     time.Duration
	listeners []listener
	manager   manager
	// reload reads the configuration anew on SIGHUP, which hangups tells of. Both are nil where there is
	// no configuration.
	reload  func() (*daemonConfig, error)
	hangups <-chan os.Signal
	extra   []servedMirror // that are not in the configuration
	// up is called when the daemon runs, which stops when it returns. It may be nil.
	up func(context.Context, *daemon.Daemon) error

	daemon  *daemon.Daemon
	metrics *api.Metrics
	pacing  pacing
}

// A listener is where is listened, and for whom.
type listener struct {
	net.Listener
	everything bool // also for what changes something

	path, group string // of a socket that we have made; empty: systemd has, or it is an address
}

// A manager is told how the service is: systemd.
type manager interface {
	ready()
	reloading()
	stopping(longest time.Duration)
	// watch tells that all is well, for as long as it is.
	watch(ctx context.Context, health func(context.Context) error) error
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
		Grace: s.grace, Stalled: s.config.StalledAfter.or(defaultStalled),
	}, mirrors)
	s.metrics = api.NewMetrics(s.daemon, version)
	return s.serve(ctx)
}

// serve runs the daemon and answers for it.
func (s *service) serve(ctx context.Context) error {
	allow, err := allowed(s.config)
	if err != nil {
		return err
	}
	o := office{
		server:    &api.Server{Daemon: s.daemon, Metrics: s.metrics, Allow: allow, Version: version, Log: s.log},
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

// An office runs a daemon or an indexer, and answers for it.
type office struct {
	server    *api.Server
	listeners []listener
	manager   manager
	grace     time.Duration // that it may take to stop
	log       *slog.Logger

	run    func(context.Context) error
	health func(context.Context) error
	// beside runs until it has stopped, and up while it is up: it stops when that returns. load
	// loads the configuration anew on SIGHUP, which hangups tells of. Each may be nil.
	beside  func(context.Context) error
	up      func(context.Context) error
	load    func(context.Context) error
	hangups <-chan os.Signal
}

// serve answers until what it runs has stopped, so that whoever waits is told how it ended.
func (o *office) serve(ctx context.Context) error {
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	answers, stopAnswers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAnswers()
	g, gctx := defect.WithContext(answers)
	for _, l := range o.listeners {
		h := o.server.ReadOnly()
		if l.everything {
			h = o.server.Full()
		}
		g.Go(func() error { return api.Serve(gctx, l, h) })
		g.Go(func() error { return o.keepSocket(gctx, g, l, h) })
	}
	g.Go(func() error { return o.manager.watch(gctx, o.health) })
	g.Go(func() error { return o.onHangup(gctx) })
	if o.beside != nil {
		g.Go(func() error { return o.beside(gctx) })
	}
	if o.up != nil {
		g.Go(func() error {
			defer stopWork()
			return o.up(work)
		})
	}
	context.AfterFunc(work, func() { o.manager.stopping(o.grace) })
	context.AfterFunc(gctx, stopWork) // what answers has failed
	o.manager.ready()
	err := o.run(work)
	stopAnswers()
	if other := g.Wait(); err == nil && !errors.Is(other, context.Canceled) {
		err = other
	}
	return err
}

// allowed is who may use the socket.
func allowed(c *daemonConfig) (api.Allow, error) {
	allow := api.Allow{Self: os.Getuid()}
	var err error
	for _, name := range c.AllowUsers {
		var id int
		if id, err = userID(name); err != nil {
			return allow, cli.Fail(cli.ExitUsage, fmt.Errorf("allow_users: %w", err))
		}
		allow.Users = append(allow.Users, id)
	}
	groups := c.AllowGroups
	if c.SocketGroup != "" {
		groups = append(groups, c.SocketGroup)
	}
	for _, name := range groups {
		var id int
		if id, err = groupID(name); err != nil {
			return allow, cli.Fail(cli.ExitUsage, fmt.Errorf("allow_groups: %w", err))
		}
		allow.Groups = append(allow.Groups, id)
	}
	return allow, nil
}

func userID(name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func groupID(name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// mirrors makes of a configuration what the daemon needs.
func (s *service) mirrors(c *daemonConfig) ([]daemon.Mirror, error) {
	var all []daemon.Mirror
	limiter, least := s.pacing.use(c.Bandwidth)
	for i := range c.Mirrors {
		m := &c.Mirrors[i]
		o, err := m.rules().Options()
		if err != nil {
			return nil, cli.Usage(err)
		}
		served := servedMirror{name: m.Name, source: m.Source, destination: m.Destination, target: m.target(), options: o}
		served.target.S3.Limiter, served.target.S3.LimitRate = limiter, least
		out := s.mirror(served)
		out.Fingerprint = fingerprint(m, least)
		out.Settle, out.MaxDelay = m.Settle.or(defaultSettle), m.MaxDelay.or(defaultMaxDelay)
		out.Scan, out.Stuck = m.ScanInterval.or(defaultScan), m.StuckAfter.or(defaultStuck)
		out.Watch = m.Watch == nil || *m.Watch
		all = append(all, out)
	}
	return all, nil
}

// A servedMirror is a mirror that the service publishes.
type servedMirror struct {
	name, source, destination string
	target                    target.Config
	options                   publish.Options
}

// mirror returns a mirror for the daemon.
func (s *service) mirror(m servedMirror) daemon.Mirror {
	if m.options.Trust.Keys != nil {
		m.options.Trust.Judged = new(buildcache.Judged)
	}
	log := s.log.With("mirror", m.name)
	w := &mirrorWork{servedMirror: m, log: log, environment: target.Environment{Log: log, Observe: s.observed, Answered: func() { s.daemon.Progress() }}}
	return daemon.Mirror{
		Name: m.name, Source: filepath.Clean(m.source), Destination: m.destination, Caches: m.target.CDN.Caches(), Work: w,
		Settle: defaultSettle, MaxDelay: defaultMaxDelay, Scan: defaultScan, Stuck: defaultStuck, Watch: true,
	}
}

// fingerprint tells one configuration of a mirror from another, the content of its keys and lock files and what
// it may send at least included.
func fingerprint(m *mirrorConfig, least int64) string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // it has no values that JSON has not
	}
	h := sha256.New()
	h.Write(text)
	for _, name := range append([]string{m.TrustedKeys}, locksIn(m.Include, m.Exclude)...) {
		content, _ := userfile.Read(name) // that it can be read was seen when it was checked
		fmt.Fprintf(h, "\x00%d\x00%s", len(content), content)
	}
	return fmt.Sprintf("%x %d", h.Sum(nil), least)
}

// locksIn are the lock files that patterns name.
func locksIn(patterns ...[]string) []string {
	var names []string
	for _, p := range slices.Concat(patterns...) {
		if name, ok := strings.CutPrefix(p, "@"); ok {
			names = append(names, name)
		}
	}
	return names
}

// observed counts a request to S3. That it was answered at all is progress.
func (s *service) observed(r s3.Request) {
	s.metrics.Request(r.Operation, strconv.Itoa(r.Status))
	if r.Status != 0 {
		s.daemon.Progress()
	}
}

// onHangup loads the configuration anew on SIGHUP. One that is wrong changes nothing.
func (o *office) onHangup(ctx context.Context) error {
	if o.load == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.hangups:
		}
		o.manager.reloading()
		if err := o.load(ctx); err != nil && ctx.Err() == nil {
			o.log.Error("the configuration was not loaded, the old one stays", "reason", err.Error())
		}
		o.manager.ready()
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

// daemonLog returns the log of a daemon: for a machine, or for people at a terminal.
func daemonLog(e cli.Env, format, level string) *slog.Logger {
	var l slog.Level // info
	if level != "" {
		l.UnmarshalText([]byte(level)) // which was checked
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "text" || format == "" && cli.Terminal(e.Raw.Stderr) != nil {
		return slog.New(slog.NewTextHandler(e.Stderr, o))
	}
	if there, err := journal.StderrIsJournalStream(); e.Raw.Stderr == os.Stderr && there && err == nil {
		return slog.New(newJournalHandler(e.Stderr, o))
	}
	return slog.New(slog.NewJSONHandler(e.Stderr, o))
}

// listenersOf opens where a configuration says that is listened: the socket, which systemd may
// have opened for us and an indexer need not have, and an address for who only looks.
func listenersOf(c *daemonConfig) ([]listener, error) {
	var all []listener
	given, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	for _, l := range given {
		_, isUnix := l.(*net.UnixListener)
		all = append(all, listener{Listener: l, everything: isUnix})
	}
	if len(all) == 0 && c.Socket != "" {
		l, err := listenUnix(c.Socket, c.SocketGroup)
		if err != nil {
			return nil, err
		}
		all = append(all, listener{Listener: l, everything: true, path: c.Socket, group: c.SocketGroup})
	}
	if c.Listen != "" {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return all, fmt.Errorf("listen: %w", err)
		}
		all = append(all, listener{Listener: l})
	}
	return all, nil
}

// listenUnix listens on a socket that its group may use. One that is left over from a process that
// has died is replaced.
func listenUnix(path, group string) (net.Listener, error) {
	if err := api.CheckSocket(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s: another daemon answers on it", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("socket %s: there is something else of that name", path)
		}
		os.Remove(path)
	}
	// Nobody gets in before the mode is right.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := openTo(path, group); err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

func openTo(path, group string) error {
	if group != "" {
		id, err := groupID(group)
		if err != nil {
			return err
		}
		if err := os.Chown(path, -1, id); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o660)
}
