package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Found is what was detected; empty: nothing, or nothing that is clear.
type Found struct{ Source, Region, TrustedKeys string }

// Detect looks for a mirror and for public keys below the current directory, and for a region in the environment.
func Detect(env cli.Env) Found {
	f := Found{Region: env.Getenv("AWS_REGION")}
	if f.Region == "" {
		f.Region = env.Getenv("AWS_DEFAULT_REGION")
	}
	if mirrors := mirrorsHere(); len(mirrors) == 1 {
		f.Source = mirrors[0]
	}
	if keys := keysHere(); len(keys) == 1 {
		f.TrustedKeys = keys[0]
	}
	return f
}

// mirrorsHere are the directories in the current one that are a mirror, or hold mirrors directly.
func mirrorsHere() []string {
	entries, _ := os.ReadDir(".") // what cannot be read is not detected
	var all []string
	for _, e := range entries {
		name := e.Name()
		below, _ := filepath.Glob(name + "/*")
		if e.IsDir() && !strings.HasPrefix(name, ".") && (cli.HoldsMirror(name) || slices.ContainsFunc(below, cli.HoldsMirror)) {
			all = append(all, name)
		}
	}
	return all
}

// keysHere are the files of public keys in the current directory and in keys.
func keysHere() []string {
	var all []string
	for _, pattern := range []string{"*.asc", "*.pub", "keys/*.asc", "keys/*.pub"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if trust, err := cli.ReadTrust(false, userfile.One(name)); err == nil && trust.Keys != nil {
				all = append(all, name)
			}
		}
	}
	return all
}
