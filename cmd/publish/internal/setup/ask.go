package setup

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// complete fills in what can be told without asking, and names what is missing.
func (s *Settings) complete() error {
	isSource := s.Source == "" && (s.Found.Source == "" || filepath.Clean(s.Found.Source) == filepath.Clean(s.Destination)) && cli.HoldsMirror(s.Destination)
	s.Source = cmp.Or(s.Source, s.Found.Source)
	var missing []string
	if s.Source == "" {
		missing = append(missing, "SOURCE")
	}
	if s.Destination == "" {
		missing = append(missing, "DESTINATION")
	}
	if len(missing) == 0 && !isSource {
		return nil
	}
	if isSource {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s is a mirror of Spack, so it is the SOURCE, and there is no DESTINATION: give both, as in publish init %[1]s s3://bucket/noble/spack", s.Destination))
	}
	return cli.Fail(cli.ExitUsage, fmt.Errorf("no %s, and standard input is no terminal where they could be asked for: give them, as in publish init ./buildcache s3://bucket/noble/spack", strings.Join(missing, " and no ")))
}

// A Dialog asks for settings on a terminal.
type Dialog struct {
	In  io.Reader
	Out io.Writer
	// Served finds the distribution that serves a destination, and the URL at which clients find it; nil: none is looked for.
	Served func(ctx context.Context, destination, region string) (distribution, public string)

	lines chan string
}

// ErrNoAnswer is why a dialog ends with its input.
var ErrNoAnswer = errors.New("no answer, so nothing was written: answer the questions, or give SOURCE, DESTINATION and flags")

// Ask asks for what is not given. Given reports whether a setting is. A wrong answer is asked for again.
func (d *Dialog) Ask(ctx context.Context, s *Settings, given func(name string) bool) error {
	d.read()
	trusted := s.TrustedKeys.String()
	for _, q := range []struct {
		name, question string
		found, into    *string
		must, s3       bool
		check          func(string) error
	}{
		{"source", "SOURCE, the directory of a mirror that Spack pushes to", &s.Found.Source, &s.Source, true, false, nil},
		{"destination", "DESTINATION, s3://bucket[/prefix] or a directory", nil, &s.Destination, true, false, func(to string) error {
			_, _, err := cli.Places(s.Source, to, nil)
			return err
		}},
		{"region", "Region of the bucket, empty: AWS is asked", &s.Found.Region, &s.Region, false, true, nil},
		{"distribution-id", "ID of the CloudFront distribution, empty: there is none", &s.Found.Distribution, &s.Distribution, false, true, nil},
		{"public-url", "URL at which clients find it, empty: not read back", &s.Found.PublicURL, &s.PublicURL, false, false, func(u string) error {
			return errors.Join(target.CheckPublicURL(u), Settings{PublicURL: u}.writable())
		}},
		{"trusted-keys", "File of public keys that are trusted, empty: any signature", &s.Found.TrustedKeys, &trusted, false, false, func(name string) error {
			_, err := cli.ReadTrust(false, userfile.One(name))
			return err
		}},
	} {
		if given(q.name) || q.s3 && !s.inS3() {
			continue
		}
		if q.name == "distribution-id" && d.Served != nil && s.Endpoint == "" {
			s.Found.Distribution, s.Found.PublicURL = d.Served(ctx, s.Destination, s.Region)
		}
		found := ""
		if q.found != nil {
			found = *q.found
		}
		if err := d.one(ctx, q.question, found, q.must, q.into, q.check); err != nil {
			return err
		}
	}
	if !given("trusted-keys") {
		s.TrustedKeys = userfile.One(trusted)
	}
	if !given("require-signed") {
		if err := d.yes(ctx, "Refuse packages that are not signed?", &s.RequireSigned); err != nil {
			return err
		}
	}
	if !given("workflow") && s.inS3() {
		return d.yes(ctx, "Write a GitHub workflow, "+WorkflowFile+", too?", &s.Workflow)
	}
	return nil
}

// one asks until the answer is right. An empty answer stands for what was found; a single - for nothing.
func (d *Dialog) one(ctx context.Context, question, found string, must bool, into *string, check func(string) error) error {
	if found != "" {
		question += " [" + found + "]"
		if !must {
			question += ", - for none"
		}
	}
	for {
		answer, err := d.answer(ctx, question+": ")
		if err != nil {
			return err
		}
		switch answer = cmp.Or(answer, found); {
		case answer == "" && must:
			fmt.Fprintln(d.Out, "  it is needed")
			continue
		case answer == "" || answer == "-" && !must:
			*into = ""
			return nil
		}
		if check != nil {
			if err := check(answer); err != nil {
				fmt.Fprintf(d.Out, "  %v\n", field.Named(err, cli.Flag))
				continue
			}
		}
		*into = answer
		return nil
	}
}

func (d *Dialog) yes(ctx context.Context, question string, into *bool) error {
	for {
		answer, err := d.answer(ctx, question+" [y/N]: ")
		if err != nil {
			return err
		}
		switch strings.ToLower(answer) {
		case "y", "yes":
			*into = true
			return nil
		case "", "n", "no":
			*into = false
			return nil
		}
		fmt.Fprintln(d.Out, "  want y or n")
	}
}

// read reads lines beside the dialog, so that a signal ends it at once.
func (d *Dialog) read() {
	d.lines = make(chan string)
	go func() {
		defer close(d.lines)
		for scan := bufio.NewScanner(d.In); scan.Scan(); {
			d.lines <- scan.Text()
		}
	}()
}

func (d *Dialog) answer(ctx context.Context, question string) (string, error) {
	fmt.Fprint(d.Out, question)
	select {
	case <-ctx.Done():
		fmt.Fprintln(d.Out)
		return "", cli.WithHint(context.Cause(ctx), "nothing was written")
	case line, ok := <-d.lines:
		if !ok {
			fmt.Fprintln(d.Out)
			return "", cli.Fail(cli.ExitUsage, ErrNoAnswer)
		}
		return strings.TrimSpace(line), nil
	}
}
