package action

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/steplog"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// An outcome is the result of a run, with all that outputs and summary show.
type outcome struct {
	steplog.State
	report *task.Report
	in     *inputs
	err    error
	let    error  // an error that the inputs allow
	signed string // how many packages are signed
	lost   bool   // the job was abandoned: its later changes are unknown

	found, published, skipped, overwritten int // packages
}

func (a *action) outcome(err, let error) *outcome {
	var lost abandoned
	o := &outcome{State: a.log.State(), report: a.report, in: a.in, err: err, let: let, lost: errors.As(err, &lost)}
	for _, m := range a.report.Mirrors {
		o.found += len(m.Packages)
		o.skipped += m.Counts[string(publish.Unchanged)] + m.Counts[string(publish.Repaired)] + m.Counts[string(publish.Skipped)]
		// Published packages are visible: an index that had to change has changed.
		if !m.Index.Changes && a.report.Result != "failed" && a.report.Result != "cancelled" || m.Index.Written {
			o.published += m.Counts[string(publish.New)] + m.Counts[string(publish.Replaced)]
			o.overwritten += m.Counts[string(publish.Replaced)]
		}
	}
	if a.in.dryRun {
		o.published, o.overwritten = 0, 0
	}
	return o
}

func (o *outcome) class() string { return cli.ClassOf(cli.ExitCode(o.err)) }

func count(n int, what string) string { return english.Plural(n, what, "") }

// title is the title of the annotation.
func (o *outcome) title() string {
	if c := o.class(); c != "" {
		return "publish failed: " + c
	}
	return "publish " + o.report.Result
}

// wrong returns the error, whether the inputs allow it or not.
func (o *outcome) wrong() error {
	if o.err != nil {
		return o.err
	}
	return o.let
}

// message says what went wrong, and what to do.
func (o *outcome) message() string {
	text := o.wrong().Error()
	for _, h := range o.hints() {
		text += "\nhint: " + h
	}
	return text
}

// words are the terms of a workflow.
func (o *outcome) words() cli.Words {
	w := cli.Words{
		Setting: inputOf, Source: "path", Destination: "destination",
		Help:          "what each input takes: " + docs + "action.md#inputs",
		NoCredentials: "credentials: env uses the credentials of earlier steps or of the machine: set role-to-assume instead, or provide some. What is complete stays, the next run continues from there",
		Unresolved:    "run the job again when fewer publishers are at work, or once with index: rebuild",
		Denied: func(err *mirror.DeniedError) string {
			if o.lacking(err) == nil {
				return ""
			}
			return o.deniedHint(err)
		},
	}
	if o.in.credentials == oidcCredentials {
		w.NoCredentials = "AWS does not accept the role's credentials any more: was the role changed, or its sessions revoked? What is complete stays, the next run continues from there"
	}
	return w
}

// hints returns what to do about the error, in the words of a workflow.
func (o *outcome) hints() []string { return cli.HintsIn(o.wrong(), o.words()) }

// where is the destination as a heading shows it.
func (o *outcome) where() string {
	if _, prefix, err := target.BucketAndPrefix(o.in.destination); err == nil && prefix != "" {
		return prefix
	}
	return o.in.destination
}

// doing describes a part, after "while".
var doing = map[task.Part]string{
	"": "starting", steplog.PartInputs: "reading the inputs", steplog.PartIdentity: "getting credentials", steplog.PartCommand: "running the command", task.PartScan: "reading the source", task.PartPlan: "planning",
	task.PartUpload: "uploading", task.PartIndex: "writing the index", task.PartPages: "updating the page", task.PartCDN: "invalidating", task.PartVerify: "reading back",
}

// sentence describes the result in one line.
func (o *outcome) sentence() string {
	r := o.report
	switch {
	case r.Result == "published" && o.let != nil:
		return fmt.Sprintf("Published %s to %s, but the CloudFront invalidation failed", count(o.published, "package"), o.where())
	case r.Result == "published":
		return fmt.Sprintf("Published %s to %s", count(o.published, "package"), o.where())
	case r.Result == "unchanged" && o.found == 0:
		return "Nothing to publish"
	case (r.Result == "unchanged" || r.Result == "dry-run" && !r.Changes()) && r.Untrusted() > 0:
		return fmt.Sprintf("Nothing to send, but %s offers %s that trusted-keys does not cover", o.where(), count(r.Untrusted(), "object"))
	case r.Result == "unchanged":
		return fmt.Sprintf("Nothing to do: %s published at %s", all(o.found), o.where())
	case r.Result == "dry-run" && !r.Changes():
		return fmt.Sprintf("Dry run: nothing to do, %s published at %s", all(o.found), o.where())
	case r.Result == "dry-run":
		n := 0
		for _, m := range r.Mirrors {
			n += m.Counts[string(publish.New)] + m.Counts[string(publish.Replaced)]
		}
		return fmt.Sprintf("Dry run: would publish %s to %s", count(n, "package"), o.where())
	}
	verb := "Failed"
	if r.Result == "cancelled" {
		verb = "Cancelled"
	}
	switch cli.ExitCode(o.err) {
	case cli.ExitTimeout:
		verb = "Timed out"
	case cli.ExitSource:
		if r.Indexed() {
			return fmt.Sprintf("Published %s to %s, %s", count(o.published, "package"), o.where(), o.refused())
		}
	case cli.ExitInvalidation:
		return fmt.Sprintf("Published %s to %s, but the CloudFront invalidation failed: caches may serve the old index", count(o.published, "package"), o.where())
	case cli.ExitCatalog:
		return fmt.Sprintf("Published %s to %s, but the page of the cache is not up to date", count(o.published, "package"), o.where())
	case cli.ExitVerification:
		return fmt.Sprintf("Published %s to %s, but not seen when it was read back", count(o.published, "package"), o.where())
	}
	what := doing[o.Part]
	if cli.ExitCode(o.err) == cli.ExitSource && o.Part == task.PartPlan {
		what = "checking the source"
	}
	return fmt.Sprintf("%s while %s: %s", verb, what, o.state())
}

// refused describes the packages that were selected but not published.
func (o *outcome) refused() string {
	packages, others := 0, 0
	for _, m := range o.report.Mirrors {
		packages += m.Counts[string(publish.Rejected)]
	}
	for _, f := range o.report.Findings {
		if f.Severity == buildcache.Error {
			others++
		}
	}
	if packages == 0 {
		return fmt.Sprintf("refused %s", count(others, "file"))
	}
	return fmt.Sprintf("refused %d", packages)
}

// final reports whether the failed request was refused, so that it had no effect.
func final(err error) bool {
	var version *index.VersionError
	return errors.Is(err, mirror.ErrDenied) || errors.Is(err, mirror.ErrCredentials) || errors.Is(err, conflict.ErrUnresolved) || errors.As(err, &version)
}

func all(n int) string {
	if n == 1 {
		return "the package is"
	}
	return fmt.Sprintf("all %d packages are", n)
}

// state describes what a failed run leaves behind. It claims only what is known.
func (o *outcome) state() string {
	if slices.Index(steplog.Parts, o.Part) < slices.Index(steplog.Parts, task.PartUpload) || o.in.dryRun {
		return "nothing was written"
	}
	sent, total := o.Sent, o.Total
	if o.report.Stored != nil {
		sent, total = o.report.Stored.Objects, o.report.Estimate.Objects
	}
	text := fmt.Sprintf("%d of %s sent", sent, count(total, "object"))
	unsure := slices.DeleteFunc(slices.Clone(o.Indexing), func(m string) bool { return slices.Contains(o.Written, m) })
	switch {
	case len(o.Written) > 0 && len(unsure)+len(o.Written) < len(o.report.Mirrors), len(o.Written) > 0 && len(unsure) > 0:
		return text + ", the index replaced in " + quoted(o.Written) + " only; every mirror works"
	case len(o.Written) > 0:
		return text + ", index replaced"
	case len(unsure) > 0 && !final(o.err):
		return text + ", the index being replaced: it is the old or the new one, and clients have a mirror that works"
	}
	return text + ", index not touched, clients are unaffected"
}

func quoted(paths []string) string {
	var all []string
	for _, p := range paths {
		all = append(all, fmt.Sprintf("%q", "./"+p))
	}
	return strings.Join(all, ", ")
}

// mirrorURL returns the URL of a path in the mirror for clients.
func (o *outcome) mirrorURL(path string) string {
	base := redact.Without(o.in.target.CDN.PublicURL)
	if base == "" {
		base = o.in.destination
	}
	if path == "" {
		return strings.TrimRight(base, "/")
	}
	joined, err := url.JoinPath(base, path)
	if err != nil {
		return base
	}
	return joined
}

// maxPublishedSpecs is the maximum length of that output. GitHub takes 1 MiB for all outputs of a job.
const maxPublishedSpecs = 200 << 10

// outputs sets all outputs of action.yml, whatever the result.
func (a *action) outputs(o *outcome) {
	r := o.report
	set := a.runner.Output
	set("result", r.Result)
	set("failure-class", o.class())
	set("specs-found", strconv.Itoa(o.found))
	set("specs-published", strconv.Itoa(o.published))
	set("specs-skipped", strconv.Itoa(o.skipped))
	set("specs-overwritten", strconv.Itoa(o.overwritten))
	objects, bytes := o.Sent, int64(0)
	if r.Stored != nil {
		objects, bytes = r.Stored.Objects, r.Stored.Bytes
	}
	set("objects-uploaded", strconv.Itoa(objects))
	set("bytes-uploaded", strconv.FormatInt(bytes, 10))
	set("duration-seconds", strconv.Itoa(int(r.Seconds)))
	set("published-specs", o.publishedSpecs())
	set("index-digest", o.indexDigest())
	set("index-etag", o.indexETag())
	set("index-specs", strconv.Itoa(o.indexSpecs()))
	set("destination", a.in.destination)
	set("mirror-url", o.mirrorURL(""))
	id, status := "", ""
	if r.Invalidate != nil {
		id, status = r.Invalidate.ID, r.Invalidate.Status
	}
	set("invalidation-id", id)
	set("invalidation-status", status)
	if a.in.reportFile == "" {
		set("report-file", "")
	}
}

// publishedSpecs is a JSON list of the new and replaced packages; an empty list if it would be too long.
func (o *outcome) publishedSpecs() string {
	type spec struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Hash    string `json:"hash"`
		OS      string `json:"os"`
		Target  string `json:"target"`
		Size    int64  `json:"size"`
	}
	list := []spec{}
	for _, m := range o.report.Mirrors {
		for _, p := range m.Packages {
			if o.published > 0 && m.Published() && (p.Status == string(publish.New) || p.Status == string(publish.Replaced)) {
				list = append(list, spec{p.Name, p.Version, p.Hash, p.OS, p.Target, p.Bytes})
			}
		}
	}
	text, err := json.Marshal(list)
	if err != nil || len(text) > maxPublishedSpecs {
		return "[]"
	}
	return string(text)
}

// indexDigest identifies the content of the mirror: the digest of the index, or a digest of the digests of
// several indices.
func (o *outcome) indexDigest() string {
	if len(o.report.Mirrors) == 1 {
		return o.report.Mirrors[0].Index.Digest
	}
	known := false
	h := sha256.New()
	for _, m := range o.report.Mirrors {
		known = known || m.Index.Digest != ""
		fmt.Fprintf(h, "%s %q\n", m.Index.Digest, m.Path)
	}
	if !known {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (o *outcome) indexETag() string {
	if len(o.report.Mirrors) != 1 {
		return ""
	}
	return o.report.Mirrors[0].Index.Version
}

func (o *outcome) indexSpecs() int {
	n := 0
	for _, m := range o.report.Mirrors {
		if m.Index.Written || !m.Index.Changes {
			n += m.Index.After
		} else {
			n += m.Index.Before
		}
	}
	return n
}
