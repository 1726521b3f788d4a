// Command demo shows what publishing is, without an account: it publishes a sample
// buildcache with the real binary to an S3 server of its own, behind a stand-in for
// CloudFront, and then serves it to Spack until it is interrupted.
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
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	sample := flags.String("sample", "testdata/v3-signed", "buildcache to publish; the default is found from the directory test")
	addr := flags.String("addr", "127.0.0.1:0", "where to serve the mirror")
	once := flags.Bool("once", false, "end after the show")
	if err := flags.Parse(args); err != nil {
		return err
	}
	defer program.Clean()
	dir, err := os.MkdirTemp("", "publish-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := stage(dir, *addr, out)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.show(ctx, *sample, filepath.Join(dir, "more")); err != nil || *once {
		return err
	}
	s.say("Serving until Ctrl-C.")
	<-ctx.Done()
	return nil
}

const (
	bucket       = "demo"
	prefix       = "site"
	distribution = "E2DEMO"
)

// A show is everything that is on stage.
type show struct {
	out     io.Writer
	bin     string
	server  *s3server.Server
	edge    *cdn.Edge
	control *cloudfronttest.Server
	url     string // of the edge
	api     string // of the edge's control
	closers []func()
}

func stage(dir, addr string, out io.Writer) (s *show, err error) {
	s = &show{out: out}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.say("Building the binary and an S3 server...")
	if s.bin, err = program.Publish(); err != nil {
		return nil, err
	}
	objects := filepath.Join(dir, "s3")
	if err := os.Mkdir(objects, 0o755); err != nil {
		return nil, err
	}
	if s.server, err = s3server.Open(objects); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.server.Close)
	if err := s.server.CreateBucket(bucket); err != nil {
		return nil, err
	}
	s.edge = &cdn.Edge{Origin: s.server.Endpoint + "/" + bucket, Transport: s.server.Signed()}
	s.control = cdn.Control(distribution, s.edge)
	if s.url, err = s.serve(addr, s.edge); err != nil {
		return nil, err
	}
	s.api, err = s.serve("127.0.0.1:0", s.control)
	return s, err
}

func (s *show) serve(addr string, h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h}
	go server.Serve(l)
	s.closers = append(s.closers, func() { server.Close() })
	return "http://" + l.Addr().String(), nil
}

func (s *show) close() {
	for _, c := range s.closers {
		c()
	}
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.out, "\n# "+format+"\n", args...) }

// destination is where everything is published to.
const destination = "s3://" + bucket + "/" + prefix

func (s *show) show(ctx context.Context, sample, more string) error {
	mirror := s.url + "/" + prefix
	behind := []string{"--distribution-id", distribution, "--public-url", mirror}
	s.say("An empty bucket. This is what would be done:")
	if err := s.publish(ctx, append([]string{"--dry-run", sample, destination}, behind...)...); err != nil {
		return err
	}
	s.say("And this does it:")
	if err := s.publish(ctx, append([]string{sample, destination}, behind...)...); err != nil {
		return err
	}
	s.say("A second time there is nothing to do, and nothing is invalidated:")
	if err := s.publish(ctx, append([]string{sample, destination}, behind...)...); err != nil {
		return err
	}
	s.say("Another build host publishes two more packages. The edge forgets the old index:")
	u := spackmirror.New(spackmirror.V3, 2)
	if err := u.Write(more, u.All()); err != nil {
		return err
	}
	if err := s.publish(ctx, append([]string{more, destination}, behind...)...); err != nil {
		return err
	}
	for i, paths := range s.control.Invalidations(distribution) {
		fmt.Fprintf(s.out, "invalidation %d: %s\n", i+1, strings.Join(paths, " "))
	}
	s.say("Everything is read back as clients read it:")
	if err := s.publish(ctx, "verify", mirror); err != nil {
		return err
	}
	s.say("To use the mirror from Spack on this machine (two of its packages are made up and unsigned):")
	fmt.Fprintf(s.out, "spack mirror add demo %s\nspack buildcache keys --install --trust\nspack buildcache list --allarch\nspack mirror remove demo\n", mirror)
	return nil
}

// publish runs the real binary and shows how it was called.
func (s *show) publish(ctx context.Context, args ...string) error {
	fmt.Fprintf(s.out, "$ publish %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(s.server.Environ(), "AWS_ENDPOINT_URL="+s.server.Endpoint, "AWS_ENDPOINT_URL_CLOUDFRONT="+s.api)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return fmt.Errorf("publish %s: exit code %d", args[0], exit.ExitCode())
		}
		return err
	}
	return nil
}
