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

// complete fills in settings that are clear without a question, and returns an error for missing ones.
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
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s is a Spack mirror, so it is SOURCE, and DESTINATION is missing: give both, as in publish init %[1]s s3://bucket/noble/spack", s.Destination))
	}
	return cli.Fail(cli.ExitUsage, fmt.Errorf("no %s, and standard input is not a terminal: give them, as in publish init ./buildcache s3://bucket/noble/spack", strings.Join(missing, " and no ")))
}

// A Dialog asks for settings on a terminal.
type Dialog struct {
	In  io.Reader
	Out io.Writer
	// Served finds the distribution that serves a destination, and the URL of the destination for clients; nil:
	// no search.
	Served func(ctx context.Context, destination, region string) (distribution, public string)

	lines chan string
}

// ErrNoAnswer means that the input ended before all questions were answered.
var ErrNoAnswer = errors.New("no answer, so nothing was written: answer the questions, or give SOURCE, DESTINATION and flags")

// Ask asks for settings that are not given, which given reports. It repeats a question after a wrong answer.
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
		{"region", "Region of the bucket, empty: ask AWS", &s.Found.Region, &s.Region, false, true, nil},
		{"distribution-id", "ID of the CloudFront distribution, empty: none", &s.Found.Distribution, &s.Distribution, false, true, nil},
		{"public-url", "URL at which clients find it, empty: not read back", &s.Found.PublicURL, &s.PublicURL, false, false, func(u string) error {
			return errors.Join(target.CheckPublicURL(u), Settings{PublicURL: u}.writable())
		}},
		{"trusted-keys", "File of trusted public keys, empty: accept any signature", &s.Found.TrustedKeys, &trusted, false, false, func(name string) error {
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

// one repeats a question until the answer is right. An empty answer takes the default; a single - means none.
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
			fmt.Fprintln(d.Out, "  it is required")
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

// read reads lines in the background, so that a signal ends the dialog at once.
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
