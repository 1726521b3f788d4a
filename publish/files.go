package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// A FilePlan says what is done with a plain file and its companions.
type FilePlan struct {
	Name   string
	Status Status
	Writes []Write // companions before the artifact; a signature that is not made yet has no content

	store   mirror.Store
	content blob.Source // of the artifact
	was     key.Issuer  // of the replaced signature, once it was checked; zero: there is none
}

// planFiles compares plain files with those of the destination by their checksums. Retired keys are those of
// the source's mirrors or, if it has none, of a mirror at the destination itself.
func (p *Plan) planFiles(ctx context.Context, files []*source.ReleaseFile, s mirror.Store) error {
	if len(files) > 0 && len(p.Mirrors) == 0 {
		var err error
		if p.retired, err = same.RetiredAt(ctx, s); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := f.CheckSignature(p.options.Trust, p.known, p.options.Sign.Key != nil); errors.Is(err, source.ErrNotChecked) {
			p.Findings = append(p.Findings, buildcache.Warning.In(f.Name, err.Error()))
		} else if err != nil {
			p.Findings = append(p.Findings, buildcache.Error.In(f.Name, err.Error()))
			p.Files = append(p.Files, &FilePlan{Name: f.Name, Status: Rejected})
			continue
		}
		plan := &FilePlan{Name: f.Name, Status: Unchanged, store: s, content: f.Content}
		var signs key.Issuer
		var signing []buildcache.Object
		if sign := p.options.Sign; sign.Key != nil {
			if sign.Resign {
				f, plan.was = f.Without(sign.Key.Public())
			}
			signs, signing = sign.Key.Public().Issuer(), f.Unsigned()
		}
		ofFile, wasFile, err := compareFile(ctx, s, f.Object, p.options.IfExists)
		if err != nil {
			return err
		}
		for _, o := range append(append(slices.Clone(f.Companions), signing...), f.Object) {
			status, was := ofFile, wasFile
			switch {
			case o.Content == nil:
				status, was, err = p.compareSignature(ctx, plan, o.Name, ofFile)
			case o.Name != f.Name:
				status, was, err = compareFile(ctx, s, o, p.options.IfExists)
			}
			if err != nil {
				return err
			}
			switch status {
			case Rejected:
				p.Findings = append(p.Findings, buildcache.Error.In(o.Name, "the destination holds another file of that name, and if-exists is error"))
			case Skipped:
				p.Findings = append(p.Findings, buildcache.Warning.In(o.Name, "the destination holds another file of that name, which stays: if-exists overwrite replaces it"))
			case New, Replaced:
				plan.Writes = append(plan.Writes, Write{Object: o, Was: was})
			}
			plan.Status = worse(plan.Status, status)
		}
		if p.options.Sign.Key == nil && p.options.Trust.Keys != nil && ofFile == Unchanged && !f.Signed() {
			if _, _, err := p.compareSignature(ctx, plan, f.Name+".asc", ofFile); err != nil {
				return err
			}
		}
		if plan.Status == Replaced && !p.options.Downgrade {
			if reason, err := f.Outdated(ctx, s, signing); err != nil {
				return err
			} else if reason != "" {
				p.Findings = append(p.Findings, buildcache.Error.In(f.Name, reason))
				plan.Status = Rejected
			}
		}
		if plan.Status == Rejected || plan.Status == Skipped {
			plan.Writes = nil // never the signature of one file next to another
		} else if f := p.known.PrimaryOf(f.Issuer(signs)); p.retired.Holds(f) {
			p.Findings = append(p.Findings, buildcache.Warning.In(plan.Name, fmt.Sprintf("clients cannot check its signature: the key %s was retired: publish keys add offers it again", f)))
		}
		p.Files = append(p.Files, plan)
	}
	return nil
}

// worse returns the status of a file whose parts have the statuses a and b.
func worse(a, b Status) Status {
	order := []Status{Unchanged, New, Replaced, Skipped, Rejected}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

func compareFile(ctx context.Context, s mirror.Store, o buildcache.Object, mode IfExists) (Status, mirror.Version, error) {
	there, err := mirror.Find(ctx, s, o.Name)
	if err != nil {
		return "", "", fmt.Errorf("list %s: %w", o.Name, err)
	}
	if there.Name == "" {
		return New, mirror.Absent, nil
	}
	equal, err := same.File(ctx, s, o, there)
	switch {
	case err != nil:
		return "", "", err
	case equal:
		return Unchanged, "", nil
	}
	status, was := mode.other(there)
	return status, was, nil
}

// other returns what is done if the destination holds another file of that name.
func (mode IfExists) other(there mirror.Info) (Status, mirror.Version) {
	switch mode {
	case Overwrite:
		return Replaced, there.Version
	case Refuse:
		return Rejected, ""
	}
	return Skipped, ""
}
