package publish

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/upstream"
)

// A run reads up to maxJudged documents of other publishers to check their signatures. It names up to
// maxNamed untrusted ones individually.
const (
	maxJudged = 1000
	maxNamed  = 10
)

// Objects that clients are already offered are checked too, as far as the destination was listed. This needs no
// request if the source or the trusted keys give the answer.

// checkTrust checks the destination's keys by their names, and its documents whose signer is not known. The
// signer is known if the source has the same document. Documents that the index lacked were checked when it
// was healed.
func (d *decision) checkTrust(ctx context.Context) error {
	trust := d.plan.options.Trust
	if trust.Keys == nil {
		return nil
	}
	var keys []string
	for _, f := range d.seen.Keys(d.out.format) {
		if !trust.Keys.Holds(f) {
			keys = append(keys, d.out.format.KeyName(f))
		}
	}
	d.distrust(keys, func(name string) string {
		f, _ := d.out.format.ParseKeyName(name)
		return trust.Untrusted(f)
	}, "key")
	if d.out.Index.Mode == IndexRebuild {
		return nil // a rebuild checks every document
	}
	return d.judgeDocuments(ctx)
}

func (d *decision) judgeDocuments(ctx context.Context) error {
	trust := d.plan.options.Trust
	names := d.unjudged()
	if n := len(names) - maxJudged; n > 0 {
		names = names[:maxJudged]
		d.warn("", fmt.Sprintf("%s of others not checked by whom they are signed: run publish verify --trusted-keys", english.Plural(n, "package was", "packages were")))
	}
	why, err := upstream.Distrusted(ctx, d.out.store, trust, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		trust.Checked.Add(d.out.Path, d.seen.Objects[name])
	}
	d.distrust(slices.Collect(maps.Keys(why)), func(name string) string { return "clients are offered it, but: " + why[name].Error() }, "package")
	return nil
}

// unjudged returns the documents of the destination whose signer is not known from the source.
func (d *decision) unjudged() []string {
	known := make(map[string]bool)
	for _, p := range d.packages {
		known[p.File] = d.status[p] == Unchanged && !d.compared[p].assumed || d.status[p] == Replaced
	}
	for _, name := range d.healed {
		known[name] = true
	}
	var names []string
	for name := range d.seen.Packages(d.out.format) {
		if !known[name] && !d.plan.options.Trust.Checked.Has(d.out.Path, d.seen.Objects[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// distrust reports untrusted objects that clients are offered. If there are many, it names the first
// maxNamed.
func (d *decision) distrust(names []string, why func(string) string, what string) {
	slices.Sort(names)
	d.out.Untrusted = append(d.out.Untrusted, names...)
	for i, name := range names {
		if i == maxNamed {
			d.warn("", fmt.Sprintf("%s that the trusted keys do not cover: publish verify --trusted-keys names all", english.Plural(len(names)-i, "more "+what, "")))
			return
		}
		d.warn(name, why(name))
	}
}
