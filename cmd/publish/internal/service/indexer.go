package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pages"
)

// An indexWork updates the indices of mirrors below a destination.
type indexWork struct {
	destination *target.Destination
	cdn         *target.CDN
	trust       buildcache.Trust
	catalog     bool   // keep the pages of mirrors up to date
	publicURL   string // URL of the destination for clients
	log         *slog.Logger
	healed      func(healedMirror)
}

// A healedMirror is the result of an update of a mirror.
type healedMirror struct {
	Mirror     string               `json:"mirror"` // below DESTINATION; empty for DESTINATION itself
	Names      int                  `json:"names"`  // names in the events
	Indices    []reindex.Healed     `json:"indices"`
	Pages      []pages.Page         `json:"pages,omitempty"`
	Left       map[string]string    `json:"left"` // names that are checked again, and why
	Invalidate *target.Invalidation `json:"invalidation,omitempty"`
	Seconds    float64              `json:"seconds"`
}

// A message is hidden again three times in this time, which must be long enough for a slow request. SQS hides
// for twelve hours at most.
const (
	shortestTakeover = 10 * time.Second
	longestTakeover  = 12 * time.Hour
)

// An Indexer serves a queue, as configured.
type Indexer struct {
	Target           target.Config
	RequireSigned    bool
	TrustedKeys      userfile.Names
	Catalog          bool // keep the pages of mirrors up to date
	Destination      string
	Listen, Socket   string // addresses of the listeners; empty: none
	version          string
	Queue            string
	Settle, Takeover time.Duration
	stalled          time.Duration // unhealthy after this time without progress
	log              *slog.Logger
	healed           func(healedMirror)
	config           *Config                     // for the listeners and their users
	load             func(context.Context) error // on SIGHUP, which hangups reports; nil: SIGHUP stops the indexer
	hangups          <-chan os.Signal
}

// check returns all mistakes in the settings, as errors of package field.
func (i Indexer) check() error {
	var errs []error
	if i.Settle <= 0 {
		errs = append(errs, field.Wrap("settle", fmt.Errorf("%s: want more than 0", i.Settle)))
	}
	if i.Takeover < shortestTakeover || i.Takeover > longestTakeover {
		errs = append(errs, field.Wrap("takeover", fmt.Errorf("%s: want %s to %s", i.Takeover, shortestTakeover, longestTakeover)))
	}
	if u, err := url.Parse(i.Destination); err != nil || u.Scheme != "s3" {
		errs = append(errs, field.Refuse("destination", redact.URL(i.Destination), "want s3://bucket[/prefix]: only S3 sends events to a queue"))
	}
	if _, err := events.Open(aws.Config{}, i.Queue); err != nil {
		errs = append(errs, field.Wrap("queue", err))
	}
	return errors.Join(errs...)
}

// serve serves the queue until ctx ends, which is not an error.
func (i Indexer) serve(ctx context.Context) error {
	trust, err := cli.ReadTrust(i.RequireSigned, i.TrustedKeys)
	if err = errors.Join(i.check(), i.Target.Validate(), err); err != nil {
		return cli.Usage(err)
	}
	x := indexWork{trust: trust, catalog: i.Catalog, publicURL: i.Target.CDN.PublicURL, log: i.log, healed: i.healed}
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(i.Destination, "s3://"), "/")
	host := events.New(events.Config{
		Address: i.Queue, Bucket: bucket, Prefix: strings.Trim(prefix, "/"), Update: x.update,
		Settle: i.Settle, Longest: 10 * i.Settle, Hidden: i.Takeover, Stalled: i.stalled, Class: classOf, Log: i.log,
	})
	metrics := api.NewIndexerMetrics(host, i.version)
	observe := func(r s3.Request) {
		metrics.Request(r.Operation, strconv.Itoa(r.Status))
		if r.Status != 0 {
			host.Progress()
		}
	}
	if x.destination, err = target.Open(ctx, i.Destination, i.Target, target.Environment{Log: i.log, Observe: observe, Answered: host.Progress}); err != nil {
		return err
	}
	defer x.destination.Close()
	if x.cdn, err = x.destination.OpenCDN(ctx, nil); err != nil {
		return err
	}
	cfg, err := x.destination.AWSConfig(ctx)
	if err != nil {
		return err
	}
	if host.Queue, err = events.Open(cfg, i.Queue); err != nil {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--queue: %w", err))
	}
	return i.attend(ctx, host, metrics)
}

// update updates the indices of a mirror from its objects, and then invalidates the CDN.
func (x *indexWork) update(ctx context.Context, j events.Changes) (events.Result, error) {
	began := time.Now()
	healed, err := reindex.Heal(ctx, x.destination.Mirror(j.Mirror), x.trust, reindex.Changes{Names: j.Names, Repeated: j.Again})
	if err != nil {
		return resultOf(healed), err
	}
	out := healedMirror{Mirror: j.Mirror, Names: len(j.Names), Indices: healed, Left: map[string]string{}}
	for _, h := range healed {
		for _, f := range h.Findings {
			if slices.Contains(j.Names, f.File) {
				out.Left[f.File] = f.Reason
			}
		}
	}
	var all target.Changes
	for _, h := range healed {
		all.Add(h.Expectation(j.Mirror), h.Stale)
	}
	came := resultOf(healed)
	// Pages are updated after indices, even if another program wrote the indices. A page that is up to date
	// costs two or three requests.
	var behind error
	if x.catalog && len(healed) > 0 {
		out.Pages, behind = updatePages(ctx, x.destination, x.publicURL, []string{j.Mirror}, x.trust, x.log)
		all.Stale = append(all.Stale, pages.Stale(out.Pages)...)
	}
	if out.Invalidate, err = x.cdn.Update(ctx, all); err != nil {
		came.InvalidationFailed = true
		return came, err
	}
	if behind != nil {
		return came, behind
	}
	came.Left, came.Invalidated = out.Left, out.Invalidate != nil
	out.Seconds = time.Since(began).Seconds()
	x.healed(out)
	return came, nil
}

// resultOf returns what events need to know of the healed indices of a mirror.
func resultOf(healed []reindex.Healed) events.Result {
	var o events.Result
	for _, h := range healed {
		o.Indices = append(o.Indices, events.IndexStatus{Layout: h.Layout, Packages: h.After, Bytes: h.Bytes, Written: h.Changed})
	}
	return o
}

// Run serves the queue until ctx ends, and prints each update.
func (i Indexer) Run(ctx context.Context, env cli.Env, asJSON bool) error {
	if i.Listen != "" {
		if err := onLoopback(i.Listen); err != nil {
			return cli.Fail(cli.ExitUsage, fmt.Errorf("--listen %s: %w", i.Listen, err))
		}
	}
	i.config = &Config{Listen: i.Listen, Socket: i.Socket}
	i.version, i.stalled, i.log, i.healed = env.Version, defaultStalled, env.Log(), printer(asJSON, env.Stdout)
	return i.serve(ctx)
}

// shownKept is how many packages are named that one update left out of an index.
const shownKept = 10

// printer returns a function that prints an update; as text, only changes.
func printer(asJSON bool, out io.Writer) func(healedMirror) {
	var mu sync.Mutex // guards the output while one update is printed
	return func(m healedMirror) {
		mu.Lock()
		defer mu.Unlock()
		if asJSON {
			_ = json.NewEncoder(out).Encode(m)
			return
		}
		for _, h := range m.Indices {
			if h.Changed {
				escape.Fprintf(out, "%s%s index: %s added, %d in all (%.1f s)\n",
					cli.Prefixed(m.Mirror), h.Layout, english.Plural(len(h.Indexed), "package", ""), h.After, m.Seconds)
			}
			for _, k := range h.Kept[:min(len(h.Kept), shownKept)] {
				escape.Fprintf(out, "%s%s is left out of the index: %s\n", cli.Prefixed(m.Mirror), k.File, k.Reason)
			}
			if n := len(h.Kept) - shownKept; n > 0 {
				escape.Fprintf(out, "%s%s more are left out of the index\n", cli.Prefixed(m.Mirror), english.Plural(n, "package", ""))
			}
		}
		if n := len(m.Left); n > 0 {
			escape.Fprintf(out, "%s%s checked again later\n", cli.Prefixed(m.Mirror), english.Plural(n, "name is", "names are"))
		}
	}
}
