// Command demo shows what publishing is, without an account: it publishes a sample
// buildcache with the real binary to an S3 server in memory, behind a stand-in for
// CloudFront, and then serves both until it is interrupted. The script run, which
// `make demo` calls, builds it.
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
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	program.Clean()
	if err != nil {
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
	dir, err := os.MkdirTemp("", "publish-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := stage(*addr, out)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.show(ctx, *sample, filepath.Join(dir, "more")); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted, which is how it ends
		}
		return err
	}
	if *once {
		return nil
	}
	s.say("Serving until Ctrl-C. What was published is gone then.")
	<-ctx.Done()
	fmt.Fprintln(out, "\ndemo: ended, nothing is left behind")
	return nil
}

const (
	bucket       = "demo"
	prefix       = "site"
	distribution = "E2DEMO"
	accessKey    = "demo"
	secretKey    = "demo-secret"
)

// A show is everything that is on stage.
type show struct {
	out     io.Writer
	bin     string
	account *s3server.Server // of the S3 server: its endpoint and credentials
	control *cloudfronttest.Server
	url     string // of the edge
	api     string // of the edge's control
	closers []func()
}

func stage(addr string, out io.Writer) (s *show, err error) {
	s = &show{out: out}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.bin, err = program.Publish(); err != nil {
		return nil, err
	}
	// Not the real server of the tests: that one takes longer to compile than everything else here.
	store := s3test.New(s3test.Options{Bucket: bucket, AccessKey: accessKey, SecretKey: secretKey, Unconditional: true, NoLog: true})
	s.closers = append(s.closers, store.Close)
	s.account = &s3server.Server{Endpoint: store.URL, Region: "us-east-1", Access: accessKey, Secret: secretKey}
	edge := &cdn.Edge{Origin: store.URL + "/" + bucket, Transport: s.account.Signed()}
	s.control = cdn.Control(distribution, edge)
	if s.url, err = s.serve(addr, edge); err != nil {
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
	return s.byHand(sample, behind)
}

// byHand says how to continue in another terminal.
func (s *show) byHand(sample string, behind []string) error {
	sample, err := filepath.Abs(sample)
	if err != nil {
		return err
	}
	s.say("To publish to it by hand, in another terminal:")
	for _, v := range append(s.environ(), "PATH="+filepath.Dir(s.bin)+":$PATH") {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(s.out, "export %s=\"%s\"\n", name, value)
	}
	fmt.Fprintf(s.out, "publish --dry-run %s %s %s\npublish verify %s\n", strings.Join(behind, " "), shell.Quote(sample), destination, destination)
	return nil
}

// environ returns the variables that make the servers of the demo those of AWS.
func (s *show) environ() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.account.Endpoint,
		"AWS_ENDPOINT_URL_CLOUDFRONT=" + s.api,
		"AWS_ACCESS_KEY_ID=" + s.account.Access,
		"AWS_SECRET_ACCESS_KEY=" + s.account.Secret,
		"AWS_REGION=" + s.account.Region,
	}
}

// publish runs the real binary and shows how it was called.
func (s *show) publish(ctx context.Context, args ...string) error {
	fmt.Fprintf(s.out, "$ publish %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(s.account.Environ(), s.environ()...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return fmt.Errorf("publish %s: exit code %d", args[0], exit.ExitCode())
		}
		return err
	}
	return nil
}
