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

// Found is what was detected; empty: nothing, or nothing that is clear.
type Found struct{ Source, Region, TrustedKeys, Distribution, PublicURL string }

// patience is how long AWS is asked which distribution serves a bucket.
const patience = 4 * time.Second

// served returns the one distribution that serves a destination in S3, and the URL at which clients find the destination
// then. Without credentials, or where several do, there is none: it is a suggestion.
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
