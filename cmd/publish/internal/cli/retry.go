package cli

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/retrying"
)

// Target returns the environment for opening targets; it shows warnings and retries.
func (e Env) Target() target.Environment {
	t := target.Environment{Log: e.Log()}
	if e.Given != nil {
		t.AWS, t.Roots = e.Given.AWS, e.Given.Roots
	}
	if !e.Shows().Quiet {
		t.Retrying = retrying.On(e.Stderr)
	}
	return t
}
