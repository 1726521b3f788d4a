package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pinned is the version in package.json. Later ones of the same line are accepted; the
// line is 2.1xxx, and 3 is another tool.
const pinned = "2.1148.1"

// cdk is the CDK command line tool as it was found. It runs in dir, the current
// directory when that is empty.
type cdk struct{ path, dir string }

// findCDK prefers the tool that npm ci put beside this app over one of the machine.
func findCDK(ctx context.Context, given string) (cdk, error) {
	path := given
	for _, dir := range []string{".", "infra"} {
		local := filepath.Join(dir, "node_modules", ".bin", "cdk")
		if _, err := os.Stat(local); err == nil && path == "" {
			path = local
		}
	}
	if path == "" {
		found, err := exec.LookPath("cdk")
		if err != nil {
			return cdk{}, hinted{errors.New("the CDK command line tool is not there"), "run npm ci in infra/, which installs aws-cdk " + pinned}
		}
		path = found
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		if missing := haveNode(ctx); missing != nil {
			return cdk{}, missing
		}
		return cdk{}, hinted{fmt.Errorf("%s --version: %w", path, err), "run npm ci in infra/, which installs it again"}
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if !recent(version) {
		return cdk{}, hinted{fmt.Errorf("%s is version %s, want %s or a later 2.x", path, version, pinned),
			"run npm ci in infra/; npm's latest may be another line"}
	}
	if path, err = filepath.Abs(path); err != nil {
		return cdk{}, err
	}
	return cdk{path: path}, nil
}

// recent compares with the pinned version, number by number.
func recent(version string) bool {
	have, want := strings.Split(version, "."), strings.Split(pinned, ".")
	if len(have) != len(want) || have[0] != want[0] {
		return false
	}
	for i := range want {
		h, err := strconv.Atoi(have[i])
		if err != nil {
			return false
		}
		if w, _ := strconv.Atoi(want[i]); h != w {
			return h > w
		}
	}
	return true
}

// run executes cdk with our input and output. Its exit code becomes ours.
func (c cdk) run(ctx context.Context, e environment, profile string, args ...string) error {
	args = append([]string{"--no-notices"}, args...)
	if profile != "" {
		args = append(args, "--profile", profile)
	}
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.stdin, e.stdout, e.stderr
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "CDK_DISABLE_CLI_TELEMETRY=true", "AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true")
	// On Ctrl-C cdk tells CloudFormation and the terminal itself; give it the time.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() < 0 {
			return exitError(128 + int(syscall.SIGINT))
		}
		return exitError(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("cdk %s: %w", args[1], err)
	}
	return nil
}
