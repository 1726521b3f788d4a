package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A pipe or a device in place of a file that the user names is refused at once. Nothing waits for the other end of a
// pipe, where neither SIGTERM nor --timeout would be heard.
func TestWhatIsNamedMustBeARegularFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"AWS_CONFIG_FILE": "[default]\n", "AWS_SHARED_CREDENTIALS_FILE": ""} {
		clitest.Write(t, name, text)
		t.Setenv(name, filepath.Join(dir, name))
	}
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("SSL_CERT_FILE", "")
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	const site = "https://127.0.0.1:1/mirror"
	where := "file://" + filepath.Join(dir, "mirror")
	queue := "https://sqs.us-east-1.amazonaws.com/111122223333/indexer"
	for _, it := range []struct{ name, is string }{{filepath.Join(dir, "pipe"), "a pipe"}, {os.DevNull, "a device"}} {
		config := "state_dir: " + dir + "/state\nsocket: " + dir + "/socket\nmirrors:\n  - source: " + dir + "/source\n    destination: " + where + "\n    trusted_keys: " + it.name + "\n"
		for _, c := range []struct {
			what string
			set  func(t *testing.T)
			args []string
		}{
			{"publish --trusted-keys", nil, []string{"--require-signed", "--trusted-keys", it.name, "source", where}},
			{"index --trusted-keys", nil, []string{"index", "--require-signed", "--trusted-keys", it.name, where}},
			{"verify --trusted-keys", nil, []string{"verify", "--require-signed", "--trusted-keys", it.name, where}},
			{"indexer --trusted-keys", nil, []string{"indexer", "--queue", queue, "--require-signed", "--trusted-keys", it.name, "s3://bucket"}},
			{"daemon --config", nil, []string{"daemon", "--config", it.name}},
			{"doctor --config", nil, []string{"doctor", "--config", it.name}},
			{"daemon, trusted_keys", func(t *testing.T) { clitest.Write(t, "config.yaml", config) }, []string{"daemon", "--config", "config.yaml"}},
			{"publish.yaml", func(t *testing.T) {
				if err := os.Symlink(it.name, cli.ConfigFile); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.Remove(cli.ConfigFile) })
			}, []string{}},
			{"AWS_CA_BUNDLE", func(t *testing.T) { t.Setenv("AWS_CA_BUNDLE", it.name) }, []string{"verify", site}},
			{"AWS_CA_BUNDLE", func(t *testing.T) { t.Setenv("AWS_CA_BUNDLE", it.name) }, []string{"verify", "s3://bucket"}},
			{"ca_bundle", func(t *testing.T) { clitest.Write(t, "AWS_CONFIG_FILE", "[default]\nca_bundle = "+it.name+"\n") }, []string{"verify", site}},
			{"SSL_CERT_FILE", func(t *testing.T) { t.Setenv("SSL_CERT_FILE", it.name) }, []string{"verify", site}},
			{"SSL_CERT_FILE", func(t *testing.T) { t.Setenv("SSL_CERT_FILE", it.name) }, []string{"verify", "s3://bucket"}},
		} {
			t.Run(c.what+" is "+it.is, func(t *testing.T) {
				clitest.Write(t, "AWS_CONFIG_FILE", "[default]\n")
				if c.set != nil {
					c.set(t)
				}
				type result struct {
					code   int
					stderr string
				}
				done := make(chan result, 1)
				go func() {
					code, _, stderr := execute(t, clitest.Variables{"SSL_CERT_FILE": os.Getenv("SSL_CERT_FILE")}, c.args...)
					done <- result{code, stderr}
				}()
				select {
				case r := <-done:
					name := it.name
					if c.what == cli.ConfigFile {
						name = cli.ConfigFile
					}
					if r.code != cli.ExitUsage || !strings.Contains(r.stderr, name) || !strings.Contains(r.stderr, it.is+", not a regular file") {
						t.Errorf("exit code %d: %s", r.code, r.stderr)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("it waits for the other end of the pipe")
				}
			})
		}
	}
}
