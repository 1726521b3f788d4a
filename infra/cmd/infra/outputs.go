package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/spf13/cobra"
)

func newOutputs(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outputs",
		Short: "Show the stack's outputs: bucket, distribution, URL, roles",
		Args:  noArguments,
	}
	p := newPlace(cmd, e)
	format := cmd.Flags().String("format", "table", "table, json, env (shell assignments) or github (step outputs, into $GITHUB_OUTPUT)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		write, ok := outputFormats[*format]
		if !ok {
			return usage{fmt.Errorf("--format %s: want table, json, env or github", *format)}
		}
		name, err := p.stackAt()
		if err != nil {
			return err
		}
		outputs, err := outputsOf(cmd.Context(), name, p.profile)
		if err != nil {
			return err
		}
		if *format == "github" {
			return toGitHub(e, outputs)
		}
		return write(e.stdout, outputs)
	}
	return cmd
}

// outputsOf reads the outputs of a stack, sorted. None at all is an error: a script that
// goes on with empty values would publish to nowhere.
func outputsOf(ctx context.Context, name, profile string) ([]types.Output, error) {
	cfg, err := account(ctx, profile)
	if err != nil {
		return nil, err
	}
	out, err := cloudformation.NewFromConfig(cfg).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
	if noSuchStack(err) {
		return nil, notThere(name, "")
	}
	if err != nil {
		return nil, fmt.Errorf("describe stack %s: %w", name, err)
	}
	stack := out.Stacks[0]
	if l := (live{status: stack.StackStatus}); !l.exists() {
		return nil, notThere(name, stack.StackStatus)
	}
	if len(stack.Outputs) == 0 {
		return nil, hinted{fmt.Errorf("stack %s has no outputs; it is in %s", name, stack.StackStatus),
			"is it this app's stack? aws cloudformation describe-stacks --stack-name " + name + " shows it"}
	}
	slices.SortFunc(stack.Outputs, func(a, b types.Output) int {
		return strings.Compare(aws.ToString(a.OutputKey), aws.ToString(b.OutputKey))
	})
	return stack.Outputs, nil
}

var outputFormats = map[string]func(io.Writer, []types.Output) error{
	"table": writeTable, "json": writeJSON, "env": writeEnv, "github": writeGitHub,
}

func writeTable(w io.Writer, outputs []types.Output) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, o := range outputs {
		fmt.Fprintf(t, "%s\t%s\t%s\n", aws.ToString(o.OutputKey), aws.ToString(o.OutputValue), aws.ToString(o.Description))
	}
	return t.Flush()
}

func writeJSON(w io.Writer, outputs []types.Output) error {
	all := map[string]string{}
	for _, o := range outputs {
		all[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

// writeEnv is for eval "$(infra outputs --format env)": BUCKET_NAME='...'.
func writeEnv(w io.Writer, outputs []types.Output) error {
	for _, o := range outputs {
		value := strings.ReplaceAll(aws.ToString(o.OutputValue), "'", `'\''`)
		if _, err := fmt.Fprintf(w, "%s='%s'\n", snake(aws.ToString(o.OutputKey)), value); err != nil {
			return err
		}
	}
	return nil
}

// writeGitHub is the file format of step outputs. No value has a line break in it.
func writeGitHub(w io.Writer, outputs []types.Output) error {
	for _, o := range outputs {
		if _, err := fmt.Fprintf(w, "%s=%s\n", aws.ToString(o.OutputKey), aws.ToString(o.OutputValue)); err != nil {
			return err
		}
	}
	return nil
}

// toGitHub appends to the step's output file.
func toGitHub(e environment, outputs []types.Output) (err error) {
	path := e.getenv("GITHUB_OUTPUT")
	if path == "" {
		return usage{errors.New("--format github: GITHUB_OUTPUT is not set; this is for a step of a workflow")}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open GITHUB_OUTPUT: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return writeGitHub(f, outputs)
}

// snake turns BucketName into BUCKET_NAME and GitHubActionsRoleArn into
// GITHUB_ACTIONS_ROLE_ARN.
func snake(name string) string {
	var b strings.Builder
	for i, r := range strings.ReplaceAll(name, "GitHub", "Github") {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
