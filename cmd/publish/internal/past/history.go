package past

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const historyHelp = `Show the generations of an index, the newest first: time, user and command of each switch, and
the numbers of added and removed packages. --json has their names, and the digest of each
index.

A generation written by another program, such as spack buildcache update-index, is noticed
by the next publish; its author and time are unknown.`

// History returns the command `publish history`.
func History(env cli.Env) *cobra.Command {
	var c common
	var n int
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "history DESTINATION|URL", Short: "Show the history of the index of a mirror", Long: historyHelp, Args: cli.Arguments,
		Example: "  publish history s3://bucket/noble/spack\n  publish history https://cache.example.org/noble/spack --view 2026-11 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if n < 1 {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("--number %d: want at least 1", n))
			}
			return c.history(cmd.Context(), args[0], n, env)
		},
	}
	fs := cmd.Flags()
	c.register(fs)
	c.registerIndex(fs)
	fs.IntVarP(&n, "number", "n", 20, "show at most this many generations")
	cli.ReadFlags(fs, &c.target)
	return cmd
}

// A story is the history of one index.
type story struct {
	Mirror      string          `json:"mirror"` // its path; empty for DESTINATION itself
	Layout      string          `json:"layout"`
	View        string          `json:"view,omitempty"`
	Generations []history.Entry `json:"generations"`
	More        bool            `json:"more"` // there are older generations
	// PutBack is the generation of the newest record if an earlier pointer was put back; 0: it was not.
	PutBack int `json:"put_back,omitempty"`
}

func (c *common) history(ctx context.Context, where string, n int, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(ctx, c.timeout)
	defer cancel()
	at, done, err := cli.OpenReaders(ctx, env, where, c.target)
	if err != nil {
		return err
	}
	defer done()
	all, err := c.indices(ctx, at)
	if err != nil {
		return err
	}
	stories := []story{}
	for _, x := range all {
		s := story{Mirror: x.path, Layout: x.layout.Name(), View: x.layout.ViewName(), Generations: []history.Entry{}}
		err := history.Chain(ctx, x.reader, headOf(x), func(e history.Entry) bool {
			if s.More = len(s.Generations) == n; !s.More {
				s.Generations = append(s.Generations, e)
			}
			return !s.More
		})
		var found *putback.Finding
		if err == nil {
			found, err = putback.Look(ctx, x.layout, x.reader, x.pointer)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", x.what(), err)
		}
		if found != nil {
			s.PutBack = found.Newest
			escape.Fprintf(env.Stderr, "warning: %s: %v\n", x.what(), found)
		}
		if x.pointer.Broken != nil {
			escape.Fprintf(env.Stderr, "warning: %s: its pointer cannot be read, so its history is not known: %v\n", x.what(), x.pointer.Broken)
		}
		stories = append(stories, s)
	}
	if c.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int     `json:"version"`
			Indices []story `json:"indices"`
		}{cli.ReportVersion, stories})
	}
	for i, s := range stories {
		if len(stories) > 1 {
			escape.Fprintf(env.Stdout, "%s\n", all[i].what())
		}
		if err := s.print(env); err != nil {
			return err
		}
	}
	return nil
}

// headOf returns the beginning of the history of an index. The pointer of another program names none.
func headOf(x index) history.Head {
	head := x.pointer.Head(x.layout)
	if x.pointer.Recalled {
		head.Place = history.Place{}
	}
	return head
}

func (s story) print(env cli.Env) error {
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', 0)
	escape.Fprintf(t, "GENERATION\tTIME\tPACKAGES\tADDED\tREMOVED\tCOMMAND\tBY\n")
	for _, e := range s.Generations {
		switch {
		case e.Damaged != "":
			escape.Fprintf(t, "%d\t\t\t\t\tits record is damaged\t\n", e.Generation)
			continue
		case e.Lost:
			escape.Fprintf(t, "%d\t\t\t\t\tits record is gone\t\n", e.Generation)
			continue
		case e.Foreign:
			escape.Fprintf(t, "%d\t\t\t\t\twritten without a record\t\n", e.Generation)
			continue
		}
		command := e.Command
		if e.Reason != "" {
			command += ": " + e.Reason
		}
		escape.Fprintf(t, "%d\t%s\t%d\t%d\t%d\t%s\t%s\n", e.Generation, e.Time.UTC().Format(time.RFC3339), e.Packages, len(e.Added), len(e.Removed), escape.Line(command), escape.Line(e.By))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.More {
		escape.Fprintf(env.Stderr, "there are older generations: see --number\n")
	}
	return nil
}
