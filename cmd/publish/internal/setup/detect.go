package setup

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// Found holds detected settings; empty: nothing was found, or the choice is unclear.
type Found struct{ Source, Region, TrustedKeys, Distribution, PublicURL string }

// patience is how long the search for the distribution of a bucket may take.
const patience = 4 * time.Second

// served returns the distribution that serves a destination in S3, and the resulting URL for clients. Without
// credentials, or with several distributions, it returns none: the result is a suggestion.
func served(ctx context.Context, env cli.Env, destination, region string) (distribution, public string) {
	bucket, prefix, err := target.BucketAndPrefix(destination)
	if err != nil {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var c target.Config
	c.S3.Region = cmp.Or(region, "us-east-1")
	cfg, err := c.AWSConfig(ctx, env.Target())
	if err != nil {
		return "", ""
	}
	all, err := cloudfront.Serving(ctx, cfg, bucket)
	if err != nil || len(all) != 1 {
		return "", ""
	}
	path := strings.Trim(prefix, "/")
	if root := strings.Trim(all[0].Path, "/"); root != "" {
		below, ok := strings.CutPrefix(path+"/", root+"/")
		if !ok {
			return "", "" // it serves another part of the bucket
		}
		path = strings.Trim(below, "/")
	}
	return all[0].ID, strings.TrimSuffix("https://"+all[0].Host+"/"+path, "/")
}

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

// mirrorsHere returns the directories in the current one that are a mirror, or contain mirrors directly.
func mirrorsHere() []string {
	entries, _ := os.ReadDir(".") // an unreadable directory has no mirrors
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

// keysHere returns the files of public keys in the current directory and in keys.
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
