// Command s3server is an S3 server for tests and for trying things out: versitygw
// over a directory, on loopback, with one fixed account; or MinIO, whose binary -minio names.
//
// It prints one line, its URL, once it answers, and serves until it is killed. It is a
// command because the gateway allows one instance per process and changes that
// process's working directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "s3server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("s3server", flag.ContinueOnError)
	dir := flags.String("dir", "", "existing directory that holds the buckets, one directory each (required)")
	addr := flags.String("addr", "", "host:port to listen on; default: a free port on 127.0.0.1")
	region := flags.String("region", "us-east-1", "region that signatures must name")
	access := flags.String("access", "test", "access key of the only account")
	secret := flags.String("secret", "testtest", "secret key of the only account")
	minio := flags.String("minio", "", "program of MinIO, which is started instead of versitygw")
	leash := flags.Bool("leash", false, "stop when standard input ends, so that whoever started this cannot leave it behind")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("-dir is required")
	}
	if *addr == "" {
		free, err := freeAddr()
		if err != nil {
			return err
		}
		*addr = free
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if *leash {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	// The gateway prints a banner on standard output, which is ours to keep to one line.
	out := os.Stdout
	os.Stdout = os.Stderr
	go func() {
		path := health
		if *minio != "" {
			path = "/minio/health/cluster" // the others are well before it answers requests
		}
		if url := "http://" + *addr; answers(ctx, url+path) {
			fmt.Fprintln(out, url)
		}
	}()
	if *minio != "" {
		cmd := exec.CommandContext(ctx, *minio, "server", "--address", *addr, "--quiet", *dir)
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+*access, "MINIO_ROOT_PASSWORD="+*secret, "MINIO_REGION="+*region, "MINIO_BROWSER=off")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); ctx.Err() == nil {
			return fmt.Errorf("%s ends: %w", *minio, err)
		}
		return nil
	}
	return serve(ctx, *dir, embedgw.Config{
		RootUserAccess:    *access,
		RootUserSecret:    *secret,
		Region:            *region,
		Ports:             []string{*addr},
		MaxConnections:    4096,
		MaxRequests:       4096,
		MultipartMaxParts: 10000,
		HealthPath:        health,
		Quiet:             true,
		KeepAlive:         true,
	})
}

const health = "/-healthy"

func serve(ctx context.Context, dir string, cfg embedgw.Config) error {
	if err := (meta.XattrMeta{}).Test(dir); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	objects, err := posix.New(dir, meta.XattrMeta{}, posix.PosixOpts{Concurrency: 64, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, objects, &cfg)
}

// freeAddr returns an address on which nobody listens now. Somebody else may take it
// first; serving then fails and whoever started us tries again.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// answers waits until a server says at url that it is healthy, or ctx ends.
func answers(ctx context.Context, url string) bool {
	for ctx.Err() == nil {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}
