// Package e2e deploys for real, as far as one machine can: against moto, which stands in
// for AWS's services. docs/infra-tests.md lists what moto cannot do.
//
// The program under test is the built infra binary, run as its users run it.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

const account = "123456789012" // moto's

// machine is what all tests share: the binary, the stand-in and where they are.
var machine struct {
	infra string // the built binary
	moto  string // URL of the server
	tools string // directory of moto_server and cfn-lint
	made  string // directory of what is synthesized once
	err   error  // why there is no stand-in
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "infra-e2e-")
	if err != nil {
		panic(err)
	}
	if err := buildInfra(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	machine.made = filepath.Join(dir, "synthesized")
	var stop func()
	stop, machine.err = startMoto(dir)
	code := m.Run()
	stop()
	os.RemoveAll(dir)
	os.Exit(code)
}

// needMachine skips a test where the tools are missing, except where nothing may be
// skipped.
func needMachine(t *testing.T) {
	t.Helper()
	switch {
	case machine.err == nil:
		reset(t)
	case os.Getenv("CI") == "true":
		t.Fatal(machine.err)
	default:
		t.Skip(machine.err)
	}
}

func buildInfra(dir string) error {
	machine.infra = filepath.Join(dir, "infra")
	cmd := exec.Command("go", "build", "-o", machine.infra, "../cmd/infra")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build infra: %w\n%s", err, out)
	}
	return nil
}

// startMoto finds the tools by $MOTO_SERVER or installs them, and starts the server.
func startMoto(dir string) (stop func(), err error) {
	stop = func() {}
	server := os.Getenv("MOTO_SERVER")
	if server == "" {
		out, err := exec.Command("../scripts/moto.sh").Output()
		if err != nil {
			return stop, fmt.Errorf("install moto: %w%s", err, stderrOf(err))
		}
		server = filepath.Join(strings.TrimSpace(string(out)), "moto_server")
	}
	machine.tools = filepath.Dir(server)
	port, err := freePort()
	if err != nil {
		return stop, err
	}
	log, err := os.Create(filepath.Join(dir, "moto.log"))
	if err != nil {
		return stop, err
	}
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = log, log
	// A certificate is issued five seconds after it was asked for, not a minute: in less, not all is made.
	cmd.Env = append(os.Environ(), "MOTO_ACM_VALIDATION_WAIT=5")
	if err := cmd.Start(); err != nil {
		return stop, fmt.Errorf("start moto: %w", err)
	}
	// moto tells S3's own URLs from others by the word localhost.
	machine.moto = "http://localhost:" + port
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return stop, awaitMoto()
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func awaitMoto() error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if res, err := http.Get(machine.moto + "/moto-api/"); err == nil {
			res.Body.Close()
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("moto did not come up within a minute")
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "\n" + string(exit.Stderr)
	}
	return ""
}

// reset gives the test an empty account.
func reset(t *testing.T) {
	t.Helper()
	res, err := http.Post(machine.moto+"/moto-api/reset", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

// config opens the account at an endpoint with the SDK.
func config(t *testing.T, endpoint string) aws.Config {
	t.Helper()
	cfg, err := awsconfig.LoadDefaultConfig(context.Background(),
		awsconfig.WithRegion("us-east-1"),
		awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("test", "test", "")),
		awsconfig.WithBaseEndpoint(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// awsEnv is the environment of a program that shall take endpoint for AWS.
func awsEnv(endpoint string) []string {
	env := os.Environ()
	return append(env,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL="+endpoint,
		"AWS_EC2_METADATA_DISABLED=true", "CDK_VALIDATION=false", "CDK_DISABLE_CLI_TELEMETRY=true", "CI=true",
		"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=18,20", "GITHUB_OUTPUT=")
}

// result is how a program ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
}

// run executes a program in a directory.
func run(t *testing.T, dir string, env []string, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// infra runs the binary against an endpoint, in the app's own directory.
func infra(t *testing.T, endpoint string, args ...string) result {
	t.Helper()
	return run(t, "..", awsEnv(endpoint), machine.infra, args...)
}

// mustInfra is infra for a run that must succeed.
func mustInfra(t *testing.T, endpoint string, args ...string) result {
	t.Helper()
	r := infra(t, endpoint, args...)
	if r.code != 0 {
		t.Fatalf("infra %s: %s", strings.Join(args, " "), r)
	}
	return r
}
