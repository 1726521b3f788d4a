package action

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A formerInput is the name that an input had before: that of the setting holds everywhere now. It is still read.
type formerInput struct {
	name, now string
	value     func(given string) string // what is given, as it is written now; nil: the same
}

var formerInputs = []formerInput{
	{"aws-region", "region", nil},
	{"signing-key", "sign-key", nil},
	{"signing-public-key", "sign-public-key", nil},
	{"signing-passphrase", "sign-passphrase", nil},
	{"s3-endpoint", "endpoint-url", nil},
	{"part-size-mib", "part-size", func(mib string) string { return mib + "MiB" }},
	{"cloudfront-distribution-id", "distribution-id", nil},
}

func (f formerInput) advice() string {
	return fmt.Sprintf("input %s is deprecated: it is called %s now", f.name, f.now)
}

// lookInput returns what is given for an input, also under its former name, which is returned if it was used. It is an
// error to use both.
func lookInput(env cli.Env, name string) (given string, used *formerInput, err error) {
	given, _ = env.Lookup(inputVariable(name))
	for _, f := range formerInputs {
		old, _ := env.Lookup(inputVariable(f.name))
		if f.now != name || strings.TrimSpace(old) == "" {
			continue
		}
		if strings.TrimSpace(given) != "" {
			return given, nil, fmt.Errorf("%s, its former name, is given as well: want one", f.name)
		}
		if f.value != nil {
			old = f.value(strings.TrimSpace(old))
		}
		return old, &f, nil
	}
	return given, nil, nil
}

func isFormer(name string) bool {
	return slices.ContainsFunc(formerInputs, func(f formerInput) bool { return f.name == name })
}

// inputOf returns the input that sets a setting: the one of the same name, but for a passphrase, which is no file here.
func inputOf(setting string) string {
	if setting == "sign-passphrase-file" {
		return "sign-passphrase"
	}
	return setting
}

// An Input is the name of an input, and those that it had before.
type Input struct {
	Name   string
	Former []string
}

// Inputs are all inputs of the action, in the order of action.yml.
func Inputs() []Input {
	var all []Input
	for _, name := range inputNames() {
		in := Input{Name: name}
		for _, f := range formerInputs {
			if f.now == name {
				in.Former = append(in.Former, f.name)
			}
		}
		all = append(all, in)
	}
	return all
}
