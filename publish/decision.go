package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/offer"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
	"github.com/vantagecompute/slurm-factory-publish/publish/upstream"
)

// A decision is the making of one mirror's plan.
type decision struct {
	src  *source.Mirror // as read
	plan *Plan
	out  *MirrorPlan
	seen *buildcache.Survey

	packages []*buildcache.Package          // copies of those of src
	refused  map[*buildcache.Package]string // packages that cannot be published, and why
	routed   map[*buildcache.Package]string // packages that are meant for another destination, and why

	compared map[*buildcache.Package]comparison
	status   map[*buildcache.Package]Status // results of compare, refused packages included
	issuers  []key.Issuer                   // keys that the packages name as their signer, unchecked; zero: not signed
	healed   []string                       // documents that were read because the index lacks them
}

// A comparison says what is done with a package, given what the destination holds of it.
type comparison struct {
	status  Status
	was     mirror.Version       // of the replaced document
	assumed bool                 // Unchanged according to the listing alone: see compareSigned
	grave   *tombstone.Tombstone // found in place of the document, while the pointer does not list the withdrawal
	refusal string               // why the document at the destination can neither stay nor be replaced; empty: it can
}

func (d *decision) report(s buildcache.Severity, p *buildcache.Package, reason string) {
	d.plan.Findings = append(d.plan.Findings, s.In(d.src.File(p.SourceFile()), reason))
}

// refuse keeps a package from being published. It may be called several times for one package, so that all
// its defects are reported.
func (d *decision) refuse(p *buildcache.Package, reason string) {
	d.report(buildcache.Error, p, reason)
	if _, ok := d.refused[p]; !ok {
		d.refused[p] = reason
	}
}

// route leaves a package to another destination.
func (d *decision) route(p *buildcache.Package, reason string) {
	d.status[p], d.routed[p] = Routed, reason
}

func (d *decision) decide(ctx context.Context) error {
	var err error
	if d.seen, err = buildcache.SurveyFor(ctx, d.out.format, d.out.store, d.src.Names(d.packages)); err != nil {
		return err
	}
	d.plan.retired = append(d.plan.retired, same.Retirement{Layout: d.out.format, Seen: d.seen})
	for _, step := range []func(context.Context) error{d.compare, d.check, d.checkSkipped, d.checkNeeds} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	closure.Dependents(d.packages, d.routed, d.route)
	closure.Dependents(d.packages, d.refused, d.refuse)
	for _, p := range d.packages {
		if reason, ok := d.refused[p]; ok {
			d.out.Packages = append(d.out.Packages, PlannedPackage{p, Rejected, reason})
			continue
		}
		d.out.Packages = append(d.out.Packages, PlannedPackage{p, d.status[p], cmp.Or(d.seen.Pointer.Withdrawn[p.Hash].Reason, d.routed[p])})
	}
	for _, p := range d.src.There {
		d.out.Packages = append(d.out.Packages, PlannedPackage{p, Unchanged, ""})
	}
	d.steps()
	for _, step := range []func(context.Context) error{d.planKeys, d.planIndex, d.planViews, d.checkTrust} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compare determines what the destination has of each package.
func (d *decision) compare(ctx context.Context) error {
	d.compared, d.status, d.routed = make(map[*buildcache.Package]comparison), make(map[*buildcache.Package]Status), make(map[*buildcache.Package]string)
	all := make([]comparison, len(d.packages))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(all), func(ctx context.Context, i int) (err error) {
		all[i], err = d.compareOne(ctx, d.packages[i])
		return err
	})
	for i, p := range d.packages {
		d.compared[p], d.status[p] = all[i], all[i].status
	}
	if err != nil {
		return err
	}
	if again, err := d.recall(ctx); err != nil {
		return err
	} else if again {
		return d.compare(ctx)
	}
	for _, p := range d.packages {
		if reason := d.compared[p].refusal; reason != "" {
			d.refuse(p, reason)
		}
	}
	return nil
}

func (d *decision) compareOne(ctx context.Context, p *buildcache.Package) (comparison, error) {
	if _, ok := d.seen.Pointer.Withdrawn[p.Hash]; ok {
		return comparison{status: Withdrawn}, nil
	}
	info, ok := d.seen.Objects[p.File]
	if signed, has := d.out.format.SignedName(p.File); has && !ok { // clients read the signed document
		info, ok = d.seen.Objects[signed]
	}
	switch {
	case !ok && d.plan.options.Upstream[p.Hash]:
		return comparison{status: Upstream}, nil
	case !ok:
		return comparison{status: New}, nil
	case p.ToSign:
		return d.compareSigned(ctx, p, info)
	}
	equal, err := same.Document(ctx, d.out.store, info, p.Document, d.plan.options.IfExists != Skip)
	if err != nil || equal {
		return comparison{status: Unchanged}, err
	}
	return d.differs(ctx, p, info)
}

// recall reports whether an earlier pointer was put back. If so, the survey gets the withdrawals that this
// pointer lacks, and all packages must be compared again. recall checks only if the destination contradicts
// its pointer.
func (d *decision) recall(ctx context.Context) (bool, error) {
	odd := func(p *buildcache.Package) bool { // its document is a tombstone or, in layout v2, missing
		return d.compared[p].grave != nil || d.status[p] == New && !d.out.format.NamesContent()
	}
	if !slices.ContainsFunc(d.packages, odd) && (d.seen.Pointer.Coverage == nil || d.seen.Covered(d.out.format)) {
		return false, nil
	}
	found, err := putback.Recall(ctx, d.out.format, d.out.store, d.seen.Pointer)
	if found != nil {
		d.warn(d.out.format.IndexNames()[0], found.Error())
		return true, nil
	}
	for p, c := range d.compared {
		if c.grave != nil { // also if the history is lost
			d.seen.Pointer.Past, d.seen.Pointer.Recalled = d.seen.Pointer.Withdrawing(p.Hash, c.grave.Withdrawal), true
		}
	}
	return false, err
}

// differs decides about a package that the destination holds with another document. The package is refused if
// that document can neither stay nor be replaced.
func (d *decision) differs(ctx context.Context, p *buildcache.Package, info mirror.Info) (comparison, error) {
	held := d.seen.Pointer.IsWithheld(p.Hash) // a withdrawal that was undone may have left its tombstone
	if held || info.Size >= tombstone.LeastSize(p.File, p.Document) {
		text, read, err := mirror.Read(ctx, d.out.store, info.Name, buildcache.MaxDocument)
		switch grave, ok := tombstone.Parse(text); {
		case held && ok || err != nil:
			return comparison{status: New, was: read.Version}, err
		case ok:
			return comparison{status: Withdrawn, grave: grave}, nil
		}
	}
	if d.plan.options.IfExists == Overwrite && !p.Signed && !p.ToSign && !d.plan.options.Downgrade {
		equal, signed, err := same.Text(ctx, d.out.store, info.Name, p.Document)
		if err != nil || signed && equal {
			return comparison{status: Skipped}, err // the signed document stays
		}
		if signed {
			return comparison{refusal: "the destination holds it signed, and this one is not signed: sign it, or replace it all the same with if-exists overwrite-signed"}, nil
		}
	}
	switch {
	case d.plan.options.IfExists == Overwrite && !d.out.format.NamesContent():
		return comparison{refusal: "the destination holds another build of it, and layout " + d.out.Layout + " cannot replace one: clients would get the tarball of the one with the checksum of the other"}, nil
	case d.plan.options.IfExists == Overwrite:
		return comparison{status: Replaced, was: info.Version}, nil
	case d.plan.options.IfExists == Refuse:
		return comparison{refusal: "the destination holds it with another document, and if-exists is error"}, nil
	}
	return comparison{status: Skipped}, nil
}

// sends reports whether the plan stores any object of p.
func (d *decision) sends(p *buildcache.Package, s Status) bool {
	return s == New || s == Replaced || s == Repaired || s == Unchanged && slices.ContainsFunc(p.Blobs, func(b buildcache.Object) bool { return !d.seen.Has(b) })
}

// check reads what the plan needs of packages before they are stored: specs, blob sizes and signatures.
func (d *decision) check(ctx context.Context) error {
	o := d.plan.options
	reasons := make([][]error, len(d.packages))
	d.issuers = make([]key.Issuer, len(d.packages))
	if err := d.gatherKnown(ctx); err != nil {
		return err
	}
	err := parallel.Each(ctx, runtime.GOMAXPROCS(0), parallel.Positions(reasons), func(ctx context.Context, i int) error {
		p := d.packages[i]
		if d.status[p] == Upstream {
			return ctx.Err()
		}
		d.issuers[i] = o.Sign.issuer(p)
		reasons[i] = d.checkPackage(ctx, p, d.sends(p, d.status[p]) || o.VerifySource)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	for i, p := range d.packages {
		if w, ok := d.seen.Pointer.Withdrawn[p.Hash]; ok {
			d.report(buildcache.Warning, p, w.String()+stays)
		}
		for _, reason := range d.seen.Pointer.WithdrawnNeeds(p.Spec) {
			if d.sends(p, d.status[p]) { // in layout v2 the specs of other packages are known, too
				d.report(buildcache.Warning, p, reason)
			}
		}
		for _, reason := range reasons[i] {
			if d.plan.options.Route && errors.Is(reason, licence.ErrRefused) {
				d.route(p, reason.Error())
				continue
			}
			d.refuse(p, reason.Error())
		}
	}
	return nil
}

// checkSkipped refuses packages whose document at the destination cannot be read by any client. It reads only
// documents that are too short to contain the text of the source's document: if the source has other
// signatures, all documents differ.
func (d *decision) checkSkipped(ctx context.Context) error {
	var names []string
	for _, p := range d.packages {
		if d.status[p] == Skipped && same.Short(d.seen.Objects[p.File], p.Document) {
			names = append(names, p.File)
		}
	}
	wrong, err := same.Unreadable(ctx, d.out.format, d.out.store, names[:min(len(names), maxJudged)])
	for _, p := range d.packages {
		if reason := wrong[p.File]; reason != nil {
			d.refuse(p, "the destination holds it with a document that no client can read: "+reason.Error()+"; publish verify says how to repair it")
		}
	}
	return err
}

// gatherKnown collects the keys of the source and of the signer. It reads the keys of the destination only if
// a package to be sent is signed by an unknown key and no trusted keys were given.
func (d *decision) gatherKnown(ctx context.Context) error {
	for _, k := range d.src.Keys {
		d.plan.known = d.plan.known.With(k.Public)
	}
	if k := d.plan.options.Sign.Key; k != nil {
		public, err := same.Known(ctx, d.seen, d.out.format, d.out.store, k.Public())
		if err != nil {
			return err
		}
		d.plan.known = d.plan.known.With(public)
	}
	unknown := slices.ContainsFunc(d.packages, func(p *buildcache.Package) bool {
		by, signed := p.Issuer()
		_, known := d.plan.known.Public(by)
		return signed && !known && d.sends(p, d.status[p])
	})
	if d.plan.options.Trust.Keys != nil || !unknown {
		return nil
	}
	there, err := buildcache.ReadKeys(ctx, d.out.format, d.out.store, d.seen.Keys(d.out.format))
	for _, public := range there {
		d.plan.known = d.plan.known.With(public)
	}
	return err
}

// checkPackage returns all reasons why a package cannot be published.
func (d *decision) checkPackage(ctx context.Context, p *buildcache.Package, whole bool) (reasons []error) {
	o := d.plan.options
	if p.ToSign {
		if _, err := sign.TextOf(p.Document); err != nil {
			reasons = append(reasons, fmt.Errorf("it cannot be signed: %w", err))
		}
	}
	if err := o.Trust.Objection(p.Document); err != nil && (p.Signed || !p.ToSign) {
		if p.Signed && d.status[p] == Unchanged && !p.ToSign {
			err = fmt.Errorf("it is there already, but: %w", err)
		}
		reasons = append(reasons, err)
	}
	if o.Trust.Keys == nil && p.Signed && whole {
		if _, err := d.plan.known.Verify(p.Document); errors.Is(err, key.ErrContent) {
			reasons = append(reasons, err)
		}
	}
	if !whole && len(o.Selection.OS)+len(o.Selection.Target) == 0 {
		return append(reasons, o.Licences.CheckName(p)...)
	}
	unread := -1
	if err := d.src.ReadSpec(ctx, p); err != nil {
		reasons = append(reasons, err)
		unread = p.SpecBlob()
	} else if reason := o.Selection.Mismatch(p); reason != "" {
		reasons = append(reasons, errors.New(reason))
	}
	if !whole {
		return append(reasons, o.Licences.CheckName(p)...)
	}
	for i := range p.Blobs {
		if i == unread {
			continue
		}
		if err := d.checkBlob(ctx, p, &p.Blobs[i]); err != nil {
			reasons = append(reasons, err)
		}
	}
	return append(reasons, o.Licences.Check(ctx, p)...)
}

// checkBlob finds a blob of a package in the source. The content is checked later, as it is sent.
func (d *decision) checkBlob(ctx context.Context, p *buildcache.Package, b *buildcache.Object) error {
	if reason := d.seen.Damaged(*b); reason != "" {
		return fmt.Errorf("%s: %s", b.Name, reason)
	}
	content, err := d.src.Content(b.Name)
	if errors.Is(err, mirror.ErrNotExist) && d.seen.Has(*b) {
		return nil // it need not be sent
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	if b.Size >= 0 && content.Size() != b.Size {
		return fmt.Errorf("%s has %d bytes, want %d", b.Name, content.Size(), b.Size)
	}
	b.Size, b.Content = content.Size(), content
	if err := blob.Readable(content); err != nil {
		return err
	}
	if _, documented := d.seen.Objects[p.File]; documented {
		return nil
	}
	return same.Tarball(ctx, d.seen, d.out.format, d.out.store, *b)
}

// steps fills in the objects to store, in order.
func (d *decision) steps() {
	var documents []Write
	blobs := make(map[string]bool)
	for i, p := range d.out.Packages {
		if !d.sends(p.Package, p.Status) || p.Status == Rejected {
			continue
		}
		for _, b := range p.Blobs {
			if !blobs[b.Name] && !d.seen.Has(b) {
				blobs[b.Name] = true
				b.Of = p.ID()
				d.out.Blobs = append(d.out.Blobs, b)
			}
		}
		if p.Status == Unchanged {
			d.out.Packages[i].Status = Repaired
		} else {
			documents = append(documents, Write{buildcache.DocumentOf(p.Package), d.compared[p.Package].was, p.Package})
		}
	}
	// Large blobs first: small ones can still be sent while the last large one is on its way.
	slices.SortFunc(d.out.Blobs, func(a, b buildcache.Object) int {
		if a.Size != b.Size {
			return int(max(-1, min(1, b.Size-a.Size)))
		}
		return strings.Compare(a.Name, b.Name)
	})
	d.out.Documents = closure.Waves(documents, Write.of)
	if m, ok := d.out.format.Marker(); ok {
		if _, there := d.seen.Objects[m.Name]; !there {
			d.out.Marker = []buildcache.Object{m}
		}
	}
}

// planKeys decides which keys to offer to clients.
func (d *decision) planKeys(ctx context.Context) error {
	o := d.plan.options
	keys, err := offer.Decide(ctx, offer.Publish{
		Source: d.src, Layout: d.out.format, Store: d.out.store, Path: d.out.Path, Seen: d.seen, Trust: o.Trust, Known: d.plan.known,
		Key: o.Sign.Key, Resign: o.Sign.Resign, NoKeys: o.Selection.NoKeys,
		Packages: d.packages, Issuers: d.issuers, Published: published(d.out.Packages), Sends: len(d.out.Blobs)+len(d.out.Documents) > 0,
	})
	d.out.offer, d.out.Keys, d.out.KeyIndex, d.out.Untrusted = keys, keys.Absent, keys.Index, keys.Untrusted
	d.plan.Findings = append(d.plan.Findings, keys.Findings...)
	return err
}

func (d *decision) warn(file, reason string) {
	d.plan.Findings = append(d.plan.Findings, buildcache.Warning.In(d.src.File(file), reason))
}

// checkNeeds refuses packages with dependencies that neither the destination nor an upstream mirror will
// offer. Clients use both, so together they must be complete. A promotion is also refused if it needs
// packages of the destination that break its rules.
func (d *decision) checkNeeds(ctx context.Context) error {
	m := upstream.Mirror{Layout: d.out.format, Store: d.out.store, Pointer: d.seen.Pointer, Upstream: d.plan.options.Upstream}
	if d.plan.options.Promotion != nil {
		m.Trust = d.plan.options.Trust
	}
	var sent []*buildcache.Package
	for _, p := range d.packages {
		if p.Spec != nil && d.sends(p, d.status[p]) {
			sent = append(sent, p)
		}
	}
	skipped := func(p *buildcache.Package) bool { return d.status[p] == Skipped }
	objections, err := m.Objections(ctx, sent, slices.DeleteFunc(slices.Clone(d.packages), skipped), slices.Concat(d.packages, d.src.There))
	for _, p := range sent {
		for _, reason := range objections[p] {
			d.refuse(p, reason)
		}
	}
	return err
}
