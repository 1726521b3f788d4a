package cli

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/novalue"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// LicenceFlag adds the flag that refuses packages which may not be redistributed.
func LicenceFlag(fs *pflag.FlagSet, r *Rules) {
	help.Group(fs, "Licences", func(fs *pflag.FlagSet) {
		fs.StringVar(&r.Licences, "licenses", "", "`FILE` of rules: refuse packages that may not be redistributed, by name and by the recipe in their tarball (see docs/licenses.md)")
	})
}

// readLicences reads rules about licences from a file; nil if none is named. Its error is of package field.
func readLicences(file string) (*licence.Rules, error) {
	if file == "" {
		return nil, nil
	}
	text, err := userfile.Read(file)
	if err != nil {
		return nil, field.Wrap("licenses", err)
	}
	r, err := ParseLicences(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return r, field.Wrap("licenses", err)
}

// ParseLicences reads rules about licences.
func ParseLicences(text []byte) (*licence.Rules, error) {
	r := new(licence.Rules)
	err := yaml.UnmarshalWithOptions(text, r, yaml.Strict())
	if known := yaml.Error(nil); errors.As(err, &known) {
		at := known.GetToken().Position
		return nil, fmt.Errorf("%d:%d: %s", at.Line, at.Column, known.GetMessage())
	}
	if err != nil {
		return nil, err
	}
	if err := novalue.Check(text); err != nil {
		return nil, err
	}
	return r, r.Validate()
}
