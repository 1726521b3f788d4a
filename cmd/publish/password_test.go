package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A password in a URL is neither in what is printed nor in what a step leaves, whether the URL is taken,
// refused, or none at all.
func TestPasswordsInURLsAreNeverShown(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	out := "file://" + filepath.Join(t.TempDir(), "mirror")
	config := filepath.Join(t.TempDir(), "config.yaml")
	source := clitest.Spack(t, "v3-signed")
	for _, at := range []string{
		"https://user:hunter2@127.0.0.1:1/x", "https://hunter2@127.0.0.1:1", "http://user:hun%zzter2@127.0.0.1:1/", "https://user:hunter2/x@127.0.0.1:1/x", "https:/user:hunter2@host",
		"user:hunter2@127.0.0.1/x", "https://user:hunter2@127.0.0.1:1/?q", "ftp://user:hunter2@host", "https://user:hunter2@",
	} {
		clitest.Write(t, config, "state_dir: /x\nsocket: /x.sock\nmirrors:\n  - source: /y\n    destination: \""+strings.Replace(at, "https", "s3", 1)+"\"\n    public_url: \""+at+"\"\n    endpoint_url: \""+at+"\"\n")
		for _, args := range [][]string{
			{"--timeout", "300ms", "--public-url", at, source, out},
			{"--timeout", "300ms", "--dry-run", "--json", "--public-url", at, source, out},
			{"--timeout", "300ms", "--endpoint-url", at, source, "s3://bucket/x"},
			{"--timeout", "300ms", "--dry-run", "--endpoint-url", at, source, "s3://bucket/x"},
			{"--timeout", "300ms", source, at},
			{"--timeout", "300ms", source, strings.Replace(at, "https", "s3", 1)},
			{"--timeout", "300ms", source, strings.Replace(at, "https://", "file://", 1)},
			{"verify", "--timeout", "300ms", at},
			{"verify", "--timeout", "300ms", "--endpoint-url", at, "s3://bucket/x"},
			{"index", "--timeout", "300ms", "--public-url", at, out},
			{"index", "--timeout", "300ms", at},
			{"indexer", "--queue", at, "s3://bucket"},
			{"indexer", "--queue", "https://sqs.us-east-1.amazonaws.com/111122223333/indexer", at},
			{"exec", "--timeout", "300ms", "--public-url", at, "--dry-run", source, out, "--", "true"},
			{"bench", at},
			{"daemon", "--config", config},
			{"doctor", "--config", config},
		} {
			code, stdout, stderr := execute(t, clitest.Variables{}, args...)
			if text := stdout + stderr; strings.Contains(text, "hunter2") || strings.Contains(text, "ter2") {
				t.Errorf("%q shows the password: %s", args, text)
			}
			if code == cli.ExitInternal || code == cli.ExitDone && !strings.Contains(strings.Join(args, " "), "--dry-run") {
				t.Errorf("%q ends with %d: %s%s", args, code, stdout, stderr)
			}
		}
		_, stdout, stderr := execute(t, clitest.Variables{"PUBLISH_PUBLIC_URL": at}, "--timeout", "300ms", "--dry-run", source, out)
		if text := stdout + stderr; strings.Contains(text, "ter2") {
			t.Errorf("%s in the environment shows the password: %s", at, text)
		}
	}
}

// A directory has no user and no password. One that is given is refused, as it is with a bucket, and not dropped.
func TestADirectoryWithAPasswordIsRefused(t *testing.T) {
	out := filepath.Join(t.TempDir(), "mirror")
	source := clitest.Spack(t, "v3-unsigned")
	for _, user := range []string{"user:hunter2@", "hunter2@", "user:hunter2@localhost", ":@", "@"} {
		at := "file://" + user + out
		config := filepath.Join(t.TempDir(), "config.yaml")
		clitest.Write(t, config, "state_dir: /x\nsocket: /x.sock\nmirrors:\n  - source: "+source+"\n    destination: \""+at+"\"\n")
		for _, args := range [][]string{
			{source, at}, {"--dry-run", source, at}, {"index", at}, {"verify", at}, {"doctor", at}, {"bench", at}, {"exec", source, at, "--", "true"},
			{"daemon", "--config", config},
		} {
			code, stdout, stderr := execute(t, nil, args...)
			if text := stdout + stderr; code != cli.ExitUsage || !strings.Contains(text, "REDACTED") || strings.Contains(text, "hunter2") {
				t.Errorf("%q ends with %d: %s", args, code, text)
			}
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was published")
	}
}

// A URL that cannot be read back is refused before anything is published.
func TestAPublicURLIsCheckedBeforePublishing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "mirror")
	for _, at := range []string{"cache.example.org", "https://", "ftp://cache.example.org", "https://cache.example.org/?a=b", "https://cache.example.org:x"} {
		code, stdout, stderr := execute(t, nil, "--public-url", at, clitest.Spack(t, "v3-signed"), "file://"+out)
		if code != cli.ExitUsage || !strings.Contains(stderr, "--public-url") {
			t.Errorf("%s ends with %d: %s%s", at, code, stdout, stderr)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%s: something was published", at)
		}
	}
}
