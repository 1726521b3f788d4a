package main

import (
	"github.com/spf13/cobra"
)

// A place is where a deployed stack is: what the commands need that look at one and do not
// describe it. They take it from the same flags, variables and file as deploy.
type place struct {
	*settings
	environment
	profile string
}

func newPlace(cmd *cobra.Command, e environment) *place {
	p := &place{settings: newSettings(), environment: e}
	for _, name := range []string{"config", "stack-name", "name-prefix"} {
		cmd.Flags().AddFlag(p.flags.Lookup(name))
	}
	cmd.Flags().StringVar(&p.profile, "profile", "", "AWS profile (default: the SDK's own search for credentials)")
	return p
}

// stackAt is the name of the stack.
func (p *place) stackAt() (string, error) {
	if err := p.fill(p.getenv); err != nil {
		return "", usage{err}
	}
	return p.nameOfStack(), nil
}
