// Package given refuses flags and arguments that do not have their apparent effect: empty values, - for a stream,
// and flags that would be ignored.
package given

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// argumentsOf returns the arguments of a command by the words of its usage, such as DESTINATION or TO. It knows
// none for a command line without arguments.
func argumentsOf(cmd *cobra.Command, args []string) map[string]string {
	all := make(map[string]string)
	var words []string
	for _, word := range strings.Fields(cmd.Use)[1:] {
		if word = strings.Trim(word, "[]"); word != "flags" {
			words = append(words, word)
		}
	}
	for i, arg := range args[:min(len(args), len(words))] {
		all[words[i]] = arg
	}
	return all
}

func inS3(where string) bool { return strings.HasPrefix(where, "s3://") }

// Applicable returns an error for each flag of a command line that would be ignored because its place is not in S3.
// Variables are not checked: they are set for all commands, and need not apply to each.
func Applicable(cmd *cobra.Command, args []string) error {
	places := argumentsOf(cmd, args)
	var errs []error
	refuse := func(f *pflag.Flag, name, where string) {
		errs = append(errs, field.Wrap(f.Name, fmt.Errorf("%s is %s, and the flag is about S3: leave it out", name, redact.URL(where))))
	}
	var others []string // mirrors besides FROM
	if f := cmd.Flags().Lookup("from"); f != nil {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			others = list.GetSlice()
		}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		from, copies := places["FROM"]
		name := "TO"
		to, writes := places[name]
		if !writes {
			name = "DESTINATION"
			to, writes = places[name]
		}
		fromS3 := inS3(from) || slices.ContainsFunc(others, inS3)
		switch {
		case f.Name == "from-region" && !inS3(from), strings.HasPrefix(f.Name, "from-") && !fromS3:
			refuse(f, "FROM", from)
		case writes && !inS3(to) && help.GroupOf(f) == help.NewObjects:
			refuse(f, name, to)
		case f.Name == "region" && copies && writes && !inS3(to) && fromS3:
			errs = append(errs, field.Wrap(f.Name, fmt.Errorf("TO is %s, and this would be the region of its bucket: give %s, which is that of FROM", redact.URL(to), "--from-region")))
		}
	})
	return errors.Join(errs...)
}

// NoStreams refuses - as an argument and as the name of a file. Other programs take it for standard input or
// output.
func NoStreams(cmd *cobra.Command, args []string) error {
	if at := cmd.ArgsLenAtDash(); at >= 0 { // the rest is what publish exec runs
		args = args[:at]
	}
	const why = "%s is -, and neither is standard input read nor standard output written instead of a file: give a path; ./- is that of a file of this name"
	var errs []error
	for word, arg := range argumentsOf(cmd, args) {
		if arg == "-" {
			errs = append(errs, fmt.Errorf(why, word))
		}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if kind, _ := pflag.UnquoteUsage(f); kind == "FILE" && slices.Contains(values, "-") {
			errs = append(errs, fmt.Errorf(why, "--"+f.Name))
		}
	})
	return errors.Join(errs...)
}

// NoneEmpty refuses empty texts and lists, such as a view from a variable that is not set: an intended restriction
// would have no effect.
func NoneEmpty(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		empty := f.Value.Type() == "string" && strings.TrimSpace(f.Value.String()) == ""
		if list, ok := f.Value.(pflag.SliceValue); ok {
			empty = !slices.ContainsFunc(list.GetSlice(), func(text string) bool { return strings.TrimSpace(text) != "" })
		}
		if empty {
			errs = append(errs, fmt.Errorf("%s: %w", "--"+f.Name, userfile.ErrEmpty))
		}
	})
	return errors.Join(errs...)
}
