// Package setup writes the first settings of a directory: publish.yaml, and a GitHub workflow for the action.
//
// On a terminal it asks for missing settings, with detected ones as defaults. Elsewhere a missing setting is an
// error. Existing files are never overwritten.
package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// Settings are the settings of a first publish.yaml, with their names in the file.
type Settings struct {
	Source, Destination string

	Region, Endpoint        string
	Distribution, PublicURL string
	RequireSigned           bool
	TrustedKeys             userfile.Names

	Workflow bool // write a workflow, too

	Found Found // for the comments of settings that are not given
}

// WorkflowFile is the path of the workflow, below the directory of the settings.
const WorkflowFile = ".github/workflows/publish.yml"

// Validate returns all mistakes in complete settings, as errors of package field. It makes no request.
func (s Settings) Validate() error {
	_, _, placesErr := cli.Places(s.Source, s.Destination, nil)
	rules := cli.DefaultRules()
	rules.RequireSigned, rules.TrustedKeys = s.RequireSigned, s.TrustedKeys
	_, rulesErr := rules.Options()
	var c target.Config
	c.S3.Region, c.S3.EndpointURL = s.Region, s.Endpoint
	c.CDN.Distribution, c.CDN.PublicURL = s.Distribution, s.PublicURL
	err := errors.Join(placesErr, rulesErr, c.ValidateAt(s.Destination), s.writable())
	if s.Workflow {
		err = errors.Join(err, s.inWorkflow())
	}
	return err
}

// writable returns an error for values that the file must not or cannot hold: secrets, and control characters.
func (s Settings) writable() error {
	var err error
	if redact.Has(s.PublicURL) {
		err = field.Wrap("public-url", errors.New("a user and a password do not belong in a file: give the URL as PUBLISH_PUBLIC_URL in the environment"))
	}
	for _, e := range s.entries() {
		if !spec.Readable(e.value) {
			err = errors.Join(err, field.Refuse(e.name, redact.URL(e.value), "want UTF-8 without control characters"))
		}
	}
	return err
}

// inWorkflow returns an error for settings that the action does not support.
func (s Settings) inWorkflow() error {
	var errs []error
	if !s.inS3() {
		errs = append(errs, field.Wrap("workflow", errors.New("the action publishes to S3: give a destination s3://bucket[/prefix]")))
	}
	source, err := target.Path(s.Source)
	if err != nil {
		source = s.Source // this is reported elsewhere
	}
	if len(s.TrustedKeys) > 1 {
		errs = append(errs, field.Wrap("workflow", errors.New("the action takes one file of trusted keys: concatenate all of them into one file")))
	}
	places := []entry{{name: "source", value: source}}
	for _, name := range s.TrustedKeys {
		places = append(places, entry{name: "trusted-keys", value: name})
	}
	for _, e := range places {
		if e.value != "" && !filepath.IsLocal(e.value) {
			errs = append(errs, field.Refuse("workflow", redact.URL(e.value), "%s must be a path below this directory, which is the workspace of the job: give a relative one", e.name))
		}
	}
	for _, e := range s.entries() {
		if strings.Contains(e.value, "${{") {
			errs = append(errs, field.Refuse("workflow", redact.URL(e.value), "GitHub would take %s for an expression: give one without ${{", e.name))
		}
	}
	if top := repository(); top != "" && top != "." {
		errs = append(errs, field.Wrap("workflow", fmt.Errorf("GitHub reads workflows in the top directory of a repository only: give the command in %s", top)))
	}
	return errors.Join(errs...)
}

// repository returns the top directory of the repository around the current directory, relative to it; empty:
// none.
func repository() string {
	abs, err := filepath.Abs(".")
	if err != nil {
		return ""
	}
	for dir, up := abs, "."; ; dir, up = filepath.Dir(dir), filepath.Join(up, "..") {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return up
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// inS3 reports whether the destination is a bucket.
func (s Settings) inS3() bool {
	_, _, err := target.BucketAndPrefix(s.Destination)
	return err == nil
}

// write writes the files into the current directory and returns their names. If one of them exists, it writes
// none.
func (s Settings) write() (written []string, err error) {
	if err := s.free(); err != nil {
		return nil, err
	}
	for _, f := range s.files() {
		if err := writeNew(f.name, f.text()); err != nil {
			return written, cli.Fail(cli.ExitUsage, err)
		}
		written = append(written, f.name)
	}
	return written, nil
}

// free returns an error for each of the files that exists.
func (s Settings) free() error {
	var errs []error
	for _, f := range s.files() {
		if _, err := os.Lstat(f.name); err == nil {
			errs = append(errs, fmt.Errorf("%s is there already and stays unchanged: edit it, or give the command in another directory", f.name))
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return cli.Fail(cli.ExitUsage, errors.Join(errs...))
}

// A file is an output file.
type file struct {
	name string
	text func() string
}

func (s Settings) files() []file {
	all := []file{{cli.ConfigFile, s.yaml}}
	if s.Workflow {
		all = append(all, file{WorkflowFile, s.WorkflowYAML})
	}
	return all
}

// writeNew writes a file that does not exist, completely or not at all.
func writeNew(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
