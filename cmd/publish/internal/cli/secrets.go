package cli

import (
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
)

// SecretVariables lists all variables that hold secrets; INPUT_* are those of the action.
var SecretVariables = []string{signing.KeyVariable, signing.PassphraseVariable, "INPUT_SIGNING-KEY", "INPUT_SIGNING-PASSPHRASE"}

// takeSecrets returns an environment in which only Lookup finds secrets. They are removed from the environment
// of the process, so that child processes do not get them.
func (e Env) takeSecrets() Env {
	secrets := make(map[string]string)
	for _, name := range SecretVariables {
		value, ok := e.Lookup(name)
		if !ok {
			continue
		}
		secrets[name] = value
		if e.Unset != nil {
			_ = e.Unset(name) // fails for names that no variable can have
		}
	}
	lookup, environ := e.Lookup, e.Environ
	e.Lookup = func(name string) (string, bool) {
		if slices.Contains(SecretVariables, name) {
			value, ok := secrets[name]
			return value, ok
		}
		return lookup(name)
	}
	if environ != nil {
		e.Environ = func() []string {
			return slices.DeleteFunc(environ(), func(v string) bool {
				name, _, _ := strings.Cut(v, "=")
				return slices.Contains(SecretVariables, name)
			})
		}
	}
	return e
}
