// Package program builds the commands that tests run, each once per process.
//
// A test process calls Clean before it exits. With the race detector on, the
// commands have it too.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
)

const root = "github.com/vantagecompute/slurm-factory-publish"

// Publish returns the path of the product. $PUBLISH_BINARY names one that was built before.
func Publish() (string, error) { return publish() }

// S3Server returns the path of the S3 server. $S3SERVER_BINARY names one that was built before.
func S3Server() (string, error) { return s3server() }

// Demo returns the path of the demonstration.
func Demo() (string, error) { return demo() }

var (
	publish  = once("PUBLISH_BINARY", root+"/cmd/publish", race...)
	s3server = once("S3SERVER_BINARY", root+"/test/cmd/s3server")
	demo     = once("DEMO_BINARY", root+"/test/cmd/demo")
)

func once(env, pkg string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if built := os.Getenv(env); built != "" {
			return built, nil
		}
		return build(pkg, flags...)
	})
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
	out := filepath.Join(dir, path.Base(pkg))
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
