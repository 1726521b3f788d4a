package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// Run completes, checks and writes the settings, and prints the next steps. Given reports whether a setting is
// given.
func (s *Settings) Run(ctx context.Context, env cli.Env, given func(name string) bool) error {
	if err := s.free(); err != nil {
		return err
	}
	s.Found = Detect(env)
	if cli.Terminal(env.Stdin) != nil {
		d := Dialog{In: env.Stdin, Out: env.Stderr, Served: func(ctx context.Context, destination, region string) (string, string) {
			return served(ctx, env, destination, region)
		}}
		if err := d.Ask(ctx, s, given); err != nil {
			return err
		}
	} else if err := s.complete(); err != nil {
		return err
	}
	if err := s.Validate(); err != nil {
		return cli.Usage(err)
	}
	written, err := s.write()
	for _, name := range written {
		fmt.Fprintf(env.Told(), "wrote %s\n", name)
	}
	if err != nil {
		return err
	}
	for _, step := range s.next() {
		fmt.Fprintf(env.Told(), "next: %s\n", step)
	}
	return nil
}

// next returns the steps after the files are written.
func (s *Settings) next() []string {
	var steps []string
	if _, err := os.Stat(strings.TrimPrefix(s.Source, "file://")); errors.Is(err, fs.ErrNotExist) {
		steps = append(steps, "push packages to "+s.Source+", which does not exist yet")
	}
	steps = append(steps, "publish --dry-run shows what would be done, and publish does it")
	if !s.Workflow {
		return steps
	}
	needs := "the variable AWS_ROLE_ARN"
	if s.Endpoint != "" {
		needs = "the secrets AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	}
	return append(steps, "replace ./build.sh in "+WorkflowFile+", and give the repository "+needs)
}
