package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/test/bench/sink"
)

// runRotate measures publish keys rotate: a mirror of many packages, all signed by one key, gets the signatures of another one.
func runRotate(ctx context.Context, args []string) error {
	r := rotation{packages: 10_000}
	flags := flag.NewFlagSet("rotate", flag.ContinueOnError)
	flags.IntVar(&r.packages, "packages", r.packages, "how many packages the mirror has")
	flags.DurationVar(&r.latency, "latency", 40*time.Millisecond, "how late the server gives each answer")
	algorithms := flags.String("algorithms", "ed25519,rsa4096", "`kinds` of keys that sign, as gpg calls them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if r.dir, err = os.MkdirTemp("", "rotate"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	b, err := binaries()
	if err != nil {
		return err
	}
	for _, algorithm := range list(*algorithms) {
		if err := r.measure(ctx, b.Bench, b.Publish, algorithm); err != nil {
			return fmt.Errorf("%s: %w", algorithm, err)
		}
	}
	return nil
}

type rotation struct {
	packages int
	latency  time.Duration
	dir      string
}

func (r *rotation) measure(ctx context.Context, bench, publish, algorithm string) error {
	from, fromKey, err := r.key(ctx, "ed25519", "from-"+algorithm)
	if err != nil {
		return err
	}
	_, toKey, err := r.key(ctx, algorithm, "to-"+algorithm)
	if err != nil {
		return err
	}
	mirror := filepath.Join(r.dir, "mirror-"+algorithm)
	if err := r.fill(ctx, mirror, fromKey); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, publish, "keys", "add", "--public-key", fromKey+".pub", "file://"+mirror).CombinedOutput(); err != nil {
		return fmt.Errorf("keys add: %w: %s", err, out)
	}
	server, err := sink.Start(bench, sink.Options{Latency: r.latency, Keep: 1 << 20}, "")
	if err != nil {
		return err
	}
	defer server.Stop()
	if err := server.Load(mirror, "site"); err != nil {
		return err
	}
	if err := server.Forget(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, publish, "keys", "rotate", "--from", from, "--sign-key", toKey+".asc", "--endpoint-url", server.URL, "s3://"+sink.Bucket+"/site")
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s", "AWS_REGION=us-east-1")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d packages were signed again", r.packages)) {
		return fmt.Errorf("rotate: %w: %s", err, out)
	}
	stats, err := server.Stats()
	if err != nil {
		return err
	}
	state := cmd.ProcessState
	fmt.Printf("%s: %d packages in %.1f s, %.1f s of a processor, %d requests, answers %s late; %d processors, load %s\n",
		algorithm, r.packages, took.Seconds(), (state.UserTime() + state.SystemTime()).Seconds(), stats.Total(), r.latency, runtime.NumCPU(), load())
	return nil
}

// load is how many processes wanted a processor in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// key makes a key without a passphrase, writes both halves into files, and returns its fingerprint and what these are called without .asc and .pub.
func (r *rotation) key(ctx context.Context, algorithm, name string) (fingerprint, file string, err error) {
	home := filepath.Join(r.dir, "gpg")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", "", err
	}
	file = filepath.Join(r.dir, name)
	defer exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
	var out []byte
	for _, args := range [][]string{
		{"--quick-generate-key", name, algorithm, "sign", "never"},
		{"--armor", "--output", file + ".asc", "--export-secret-keys", name},
		{"--armor", "--output", file + ".pub", "--export", name},
		{"--with-colons", "--list-keys", name},
	} {
		out, err = exec.CommandContext(ctx, "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...).Output()
		if err != nil {
			return "", "", fmt.Errorf("gpg %v: %w", args, err)
		}
	}
	m := regexp.MustCompile(`(?m)^fpr:+([0-9A-F]{40}):`).FindSubmatch(out)
	if m == nil {
		return "", "", fmt.Errorf("gpg shows no fingerprint: %s", out)
	}
	return string(m[1]), file, nil
}

// fill writes the signed manifests of packages. They are as large as real ones, and their content is not there: it is not read.
func (r *rotation) fill(ctx context.Context, mirror, key string) error {
	secret, err := os.ReadFile(key + ".asc")
	if err != nil {
		return err
	}
	k, err := sign.ReadKey(secret, nil, time.Now())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range r.packages {
		g.Go(func() error {
			hash := strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(fmt.Sprintf("%032d", i))
			record := fmt.Sprintf(`{"contentLength":10000,"mediaType":"application/vnd.spack.install.v2.tar+gzip","compression":"gzip","checksumAlgorithm":"sha256","checksum":"%064x"}`, i)
			text := fmt.Sprintf("{\n\"version\":3,\n\"data\":[\n%s,\n%s\n]\n}", record, strings.Replace(record, "install.v2.tar+gzip", "spec.v5+json", 1))
			document, err := k.Document(ctx, bytes.ReplaceAll([]byte(text), []byte(`,"`), []byte(",\n\"")))
			if err != nil {
				return err
			}
			name := filepath.Join(mirror, "v3/manifests/spec", fmt.Sprintf("pkg%d", i%100), fmt.Sprintf("pkg%d-1.0-%s.spec.manifest.json", i%100, hash))
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			return os.WriteFile(name, document, 0o644)
		})
	}
	return g.Wait()
}
