// Package program builds the commands that tests run, each once per process.
//
// A test process calls Clean before it exits. With the race detector on, the
// commands have it too.
package program

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Programs inherit which signals are ignored. Under nohup that is SIGHUP, and then the programs under test would not be
// stopped by it either. A signal that this process catches has its default action in its children.
func init() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}

const root = "github.com/vantagecompute/slurm-factory-publish"

// Publish returns the path of the product. $PUBLISH_BINARY names one that was built before.
func Publish() (string, error) { return publish() }

// S3Server returns the path of the S3 server. $S3SERVER_BINARY names one that was built before.
func S3Server() (string, error) { return s3server() }

// Image returns the directory of the action's container image, an OCI image layout, and its
// digest.
func Image() (dir, digest string, err error) {
	i, err := builtImage()
	return i.dir, i.digest, err
}

// Unchecked returns the path of the product that does not hash what it sends: the benchmark
// tells by it what hashing costs.
func Unchecked() (string, error) { return unchecked() }

// Hasty returns the path of the product for which a minute of a prune, and of publishers beside it, takes three seconds.
func Hasty() (string, error) { return hasty() }

// Bench returns the path of the benchmark.
func Bench() (string, error) { return bench() }

// Demo returns the path of the demonstration.
func Demo() (string, error) { return demo() }

var (
	publish  = once("PUBLISH_BINARY", root+"/cmd/publish", race...)
	s3server = once("S3SERVER_BINARY", root+"/test/cmd/s3server")
	demo     = once("DEMO_BINARY", root+"/test/cmd/demo")

	unchecked = once("UNCHECKED_BINARY", root+"/cmd/publish", "-tags", "unchecked")
	hasty     = once("HASTY_BINARY", root+"/cmd/publish", "-tags", "hasty")
	bench     = once("BENCH_BINARY", root+"/test/cmd/bench")
)

func once(env, pkg string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if built := os.Getenv(env); built != "" {
			os.Unsetenv(env) // the product does not know this variable, and refuses it
			return built, nil
		}
		return build(pkg, flags...)
	})
}

type image struct{ dir, digest string }

var builtImage = sync.OnceValues(func() (image, error) {
	builder, err := build(root + "/cmd/image")
	if err != nil {
		return image{}, err
	}
	source, err := Source()
	if err != nil {
		return image{}, err
	}
	i := image{dir: filepath.Join(filepath.Dir(builder), "oci")}
	cmd := exec.Command(builder, "-source", source, "-o", i.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	said, err := cmd.Output()
	if err != nil {
		return image{}, fmt.Errorf("%w\n%s", err, &stderr)
	}
	lines := strings.Fields(string(said))
	i.digest = lines[len(lines)-1]
	return i, nil
})

// Source returns the top directory of the product's source.
func Source() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", root).Output()
	return strings.TrimSpace(string(out)), err
}

// mu guards dir, where everything is built: it is made for the first program.
var (
	mu  sync.Mutex
	dir string
)

func build(pkg string, flags ...string) (string, error) {
	mu.Lock()
	defer mu.Unlock()
	if dir == "" {
		made, err := os.MkdirTemp("", "publish-test-")
		if err != nil {
			return "", err
		}
		dir = made
	}
	at, err := os.MkdirTemp(dir, "") // two builds of one command have the same name
	if err != nil {
		return "", err
	}
	out := filepath.Join(at, path.Base(pkg))
	args := append([]string{"build", "-o", out}, flags...)
	if said, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, said)
	}
	return out, nil
}

// Clean removes what was built.
func Clean() {
	mu.Lock()
	defer mu.Unlock()
	if dir != "" {
		os.RemoveAll(dir)
	}
}
