package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/novalue"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// ConfigFile is read in the current directory if publish has no arguments.
const ConfigFile = "publish.yaml"

// A Setting is a value with its origin, for a plan to show.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"` // flag, argument, the name of a variable, or publish.yaml:LINE
}

// SettingOf returns a setting with URLs redacted.
func SettingOf(name, value, from string) Setting { return Setting{name, redact.URL(value), from} }

// ReadSettings fills in settings that the command line does not give: from PUBLISH_* variables and, without any
// arguments, from publish.yaml. A flag wins over a variable, and a variable over the file.
func ReadSettings(cmd *cobra.Command, args []string, env Env) (source, destination string, used []Setting, err error) {
	file := map[string]fileValue{}
	if len(args) == 0 {
		file, err = readConfig()
	}
	values := map[string]string{}
	from := map[string]string{}
	for i, name := range []string{"source", "destination"} {
		if i < len(args) {
			values[name], from[name] = args[i], "argument"
		} else if v, ok := env.Lookup(Variable(name)); ok {
			values[name], from[name] = v, Variable(name)
		} else if v, ok := file[name]; ok {
			values[name], from[name] = v.text, v.at()
		}
		delete(file, name)
		if from[name] != "" {
			used = append(used, SettingOf(name, values[name], from[name]))
		}
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		v, inFile := file[f.Name]
		delete(file, f.Name)
		if isNoSetting(f.Name) {
			return
		}
		origin := "flag"
		if !f.Changed {
			text, ok := env.Lookup(Variable(f.Name))
			switch {
			case ok:
				origin = Variable(f.Name)
			case inFile:
				text, origin = v.text, v.at()
			default:
				return
			}
			err = errors.Join(err, assign(cmd, f, text, origin))
		}
		trim(f.Value)
		used = append(used, SettingOf(f.Name, f.Value.String(), origin))
	})
	names := settingNames(cmd)
	for _, name := range slices.SortedFunc(maps.Keys(file), func(a, b string) int { return cmp.Compare(file[a].line, file[b].line) }) {
		v := file[name]
		err = errors.Join(err, fmt.Errorf("%s: unknown key %q%s: the keys are source, destination and the names of flags", v.at(), v.name, nearest.DidYouMean(name, names)))
	}
	for _, unknown := range unknownVariables(env, append(names, SocketSetting)) {
		err = errors.Join(err, unknown)
	}
	return values["source"], values["destination"], used, err
}

// ReadShared fills in, from PUBLISH_* variables, settings that the command line of any command does not give:
// about the destination, its credentials and readers, the speed, the output, and the rules by which packages
// are refused. So a variable that publish obeys also holds for the next command. Other flags may mean something
// else to each command.
func ReadShared(cmd *cobra.Command, env Env) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		text, ok := env.Lookup(Variable(f.Name))
		if !ok || f.Changed || !shared(f) {
			return
		}
		errs = append(errs, assign(cmd, f, text, Variable(f.Name)))
	})
	return errors.Join(errs...)
}

// assign sets a flag from another origin than the command line. Its error names the origin.
func assign(cmd *cobra.Command, f *pflag.Flag, text, origin string) error {
	err := cmd.Flags().Set(f.Name, text)
	if err == nil {
		return nil
	}
	if invalid := (*pflag.InvalidValueError)(nil); errors.As(err, &invalid) {
		err = invalid.Unwrap() // the rest names a flag
	}
	return fmt.Errorf("%s: %w", named(f.Name, origin), err)
}

func shared(f *pflag.Flag) bool {
	return slices.Contains([]string{help.Place, help.NewObjects, help.Speed, help.Readers}, help.GroupOf(f)) ||
		slices.Contains([]string{"dry-run", "json", "quiet", "verbose", "timeout", "require-signed", "trusted-keys", "licenses"}, f.Name) || strings.HasPrefix(f.Name, "expect-")
}

// trim removes spaces after the commas of a list.
func trim(v pflag.Value) {
	if list, ok := v.(pflag.SliceValue); ok {
		all := list.GetSlice()
		for i, text := range all {
			all[i] = strings.TrimSpace(text)
		}
		_ = list.Replace(all) // a list of words accepts all words
	}
}

// Named returns err with each setting named by its origin: a flag, a variable, or a place in publish.yaml. It
// is nil for nil.
func Named(err error, used []Setting) error {
	return field.Named(err, func(name string) string {
		for _, s := range used {
			switch {
			case s.Name != name:
			case !strings.HasPrefix(s.From, ConfigFile):
				return named(name, s.From)
			case isPlace(name): // the message names the argument itself
				return s.From
			default:
				return s.From + ": " + name
			}
		}
		return namedFlag(name)
	})
}

// named returns a setting as its origin names it.
func named(name, from string) string {
	switch {
	case strings.HasPrefix(from, ConfigFile):
		return from + ": " + name
	case strings.HasPrefix(from, variablePrefix):
		return from
	}
	return namedFlag(name)
}

// isPlace reports whether a setting is an argument of a command line.
func isPlace(name string) bool { return name == "source" || name == "destination" }

// namedFlag returns the prefix of a message about a setting; empty for an argument, which the message names
// itself.
func namedFlag(name string) string {
	if isPlace(name) {
		return ""
	}
	return Flag(name)
}

// settingNames returns the names under which a command takes settings from variables and from publish.yaml.
func settingNames(cmd *cobra.Command) []string {
	names := []string{"source", "destination"}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !isNoSetting(f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

// isNoSetting reports whether a flag asks for other output instead of publishing.
func isNoSetting(flag string) bool { return flag == "help" || flag == "version" }

// unknownVariables returns an error for each PUBLISH_* variable with an unknown name: a misspelt
// PUBLISH_DRY_RUN must not publish.
func unknownVariables(env Env, names []string) []error {
	if env.Environ == nil {
		return nil
	}
	var unknown []string
	for _, e := range env.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, variablePrefix) && !slices.ContainsFunc(names, func(n string) bool { return Variable(n) == name }) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	var errs []error
	for _, name := range slices.Compact(unknown) {
		meant := ""
		word := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, variablePrefix), "_", "-"))
		if n := nearest.Word(word, names); n != "" {
			meant = ", did you mean " + Variable(n) + "?"
		}
		errs = append(errs, fmt.Errorf("%s: unknown variable%s Variables that begin with %s are settings of publish: correct it or unset it", name, cmp.Or(meant, "."), variablePrefix))
	}
	return errs
}

// variablePrefix is the prefix of the variables that are settings.
const variablePrefix = "PUBLISH_"

// SocketSetting is the setting of the commands that talk to a daemon. publish exec sets its variable for its
// command, which may run publish.
const SocketSetting = "socket"

func Variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

type fileValue struct {
	name, text   string
	line, column int
}

func (v fileValue) at() string { return fmt.Sprintf("%s:%d:%d", ConfigFile, v.line, v.column) }

// readConfig reads publish.yaml: a mapping of names to values or lists of values.
func readConfig() (map[string]fileValue, error) {
	text, err := userfile.Read(ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]fileValue{}, nil
	}
	if err != nil {
		return nil, err
	}
	doc, err := parser.ParseBytes(text, 0)
	if known := yaml.Error(nil); errors.As(err, &known) {
		at := known.GetToken().Position
		return nil, fmt.Errorf("%s:%d:%d: %s", ConfigFile, at.Line, at.Column, known.GetMessage())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	var wrong []error
	values := make(map[string]fileValue)
	for _, d := range doc.Docs {
		var pairs []*ast.MappingValueNode
		switch body := d.Body.(type) {
		case nil:
			continue
		case *ast.MappingNode:
			pairs = body.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{body}
		default:
			at := d.Body.GetToken().Position
			return nil, fmt.Errorf("%s:%d:%d: want a mapping of names to values", ConfigFile, at.Line, at.Column)
		}
		for _, p := range pairs {
			at := p.Key.GetToken().Position
			v := fileValue{name: p.Key.String(), line: at.Line, column: at.Column}
			key := strings.ReplaceAll(v.name, "_", "-") // as in the configuration of a daemon
			_, list := p.Value.(*ast.SequenceNode)
			switch _, twice := values[key]; {
			case twice:
				err = errors.New("it is given twice")
			case list && isPlace(key):
				err = errors.New("want one place, and not a list")
			default:
				v.text, err = scalar(p.Value)
			}
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %s: %w", v.at(), v.name, err))
				continue
			}
			values[key] = v
		}
	}
	return values, errors.Join(wrong...)
}

// scalar returns the text of a value; a list is joined with commas, as flags take it.
func scalar(n ast.Node) (string, error) {
	if list, ok := n.(*ast.SequenceNode); ok {
		parts := make([]string, len(list.Values))
		for i, item := range list.Values {
			var err error
			if parts[i], err = scalar(item); err != nil {
				return "", err
			}
		}
		return strings.Join(parts, ","), nil
	}
	if novalue.Is(n) {
		return "", novalue.Err
	}
	if s, ok := n.(ast.ScalarNode); ok {
		return fmt.Sprint(s.GetValue()), nil
	}
	return "", errors.New("want a value or a list of values")
}
