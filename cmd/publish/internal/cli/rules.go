package cli

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Rules say what is published, and how the index is updated, in the words of flags, of a configuration file or
// of a workflow, before they are parsed.
type Rules struct {
	Selection     source.Selection
	Index         string // merge, rebuild or none
	Views         []string
	ViewsAre      string // the name of that setting; empty: view
	IfExists      string // skip, overwrite, overwrite-signed or error
	RequireSigned bool
	TrustedKeys   userfile.Names // empty: signatures by any key are accepted
	PublishKeys   bool
	Licences      string // a file; empty: licences are not checked
	Signing       signing.Config
	KeepGoing     bool
	VerifySource  bool
}

// OverwriteSigned stands for Overwrite that also replaces signed documents by unsigned ones.
const OverwriteSigned = "overwrite-signed"

// DefaultRules returns the rules that apply without settings.
func DefaultRules() Rules {
	return Rules{Index: string(publish.IndexMerge), IfExists: string(publish.Skip), PublishKeys: true}
}

// Options returns the rules for package publish, or all mistakes in them, as errors of package field.
func (r Rules) Options() (publish.Options, error) {
	o := publish.Options{
		Selection: r.Selection, Index: publish.IndexMode(r.Index), IfExists: publish.IfExists(r.IfExists),
		KeepGoing: r.KeepGoing, VerifySource: r.VerifySource,
	}
	o.Selection.NoKeys = !r.PublishKeys
	if r.IfExists == OverwriteSigned {
		o.IfExists, o.Downgrade = publish.Overwrite, true
	}
	var errs []error
	if !OneOf(o.Index, publish.IndexMerge, publish.IndexRebuild, publish.IndexNone) {
		errs = append(errs, field.Refuse("index", r.Index, "want merge, rebuild or none"))
	}
	if !OneOf(o.IfExists, publish.Skip, publish.Overwrite, publish.Refuse) {
		errs = append(errs, field.Refuse("if-exists", r.IfExists, "want skip, overwrite, overwrite-signed or error"))
	}
	errs = append(errs, r.views(&o), r.Selection.Validate())
	if errors.Join(errs...) == nil {
		errs = append(errs, o.Selection.ReadLocks(userfile.Read))
	}
	var err error
	o.Trust, err = ReadTrust(r.RequireSigned, r.TrustedKeys)
	errs = append(errs, err)
	o.Licences, err = readLicences(r.Licences)
	errs = append(errs, err)
	o.Sign, err = r.Signing.Open(o.Trust)
	return o, errors.Join(append(errs, err)...)
}

// views sets the views that get the published packages.
func (r Rules) views(o *publish.Options) error {
	if len(r.Views) > 0 && o.Index == publish.IndexNone {
		return field.Wrap("view", errors.New("a view is an index, and the index is none"))
	}
	var errs []error
	for _, name := range r.Views {
		errs = append(errs, field.Wrap(cmp.Or(r.ViewsAre, "view"), layout.CheckView(name)))
	}
	o.Views = r.Views
	return errors.Join(errs...)
}

// TrustedKeysFlag adds the flag that names the files of trusted keys.
func TrustedKeysFlag(fs *pflag.FlagSet, files *userfile.Names, usage string) {
	fs.Var(files, "trusted-keys", usage+"; repeatable")
}

// ReadTrust reads the trusted keys from files. Its error is of package field.
func ReadTrust(requireSigned bool, files userfile.Names) (buildcache.Trust, error) {
	t := buildcache.Trust{RequireSigned: requireSigned}
	var all []byte
	for _, file := range files {
		armored, err := userfile.Read(file)
		if err != nil {
			return t, field.Wrap("trusted-keys", err)
		}
		if _, err := key.ReadRing(armored); err != nil {
			return t, field.Wrap("trusted-keys", fmt.Errorf("%s: %w", file, err))
		}
		all = append(append(all, armored...), '\n')
	}
	if len(files) == 0 {
		return t, nil
	}
	var err error
	if t.Keys, err = key.ReadRing(all); err != nil {
		return t, field.Wrap("trusted-keys", fmt.Errorf("%s: %w", files.String(), err))
	}
	return t, nil
}

// Usage returns err as an error of usage of a command line, with its settings shown as flags; nil for nil.
func Usage(err error) error {
	return Fail(ExitUsage, field.Named(err, namedFlag))
}
