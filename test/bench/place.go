package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/sink"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

const (
	access, secret = "test", "testtest"
	region         = "us-east-1"
)

// A place is where clients publish to: a server of some kind.
type place interface {
	url() string
	wellKnown() string // the same without a port; empty: there is no such
	ca() string        // file with the certificate to trust; empty: plain HTTP
	// empty makes a bucket with nothing in it and returns its name.
	empty() (bucket string, err error)
	// load puts a directory into the bucket, without a client.
	load(dir, prefix string) error
	pid() int // of its process
	// count adds to m what was counted since the last forget.
	count(m *Measure) error
	forget() error
	close()
}

// A sinkPlace is a server that keeps nothing.
type sinkPlace struct {
	*sink.Process
	dir string
}

func startSink(bin, dir string, o sink.Options, secure bool) (place, error) {
	ca := ""
	if secure {
		ca = filepath.Join(dir, "ca.pem")
	}
	p, err := sink.Start(bin, o, ca)
	if err != nil {
		return nil, err
	}
	return &sinkPlace{p, dir}, nil
}

func (p *sinkPlace) url() string                   { return p.URL }
func (p *sinkPlace) wellKnown() string             { return p.WellKnown }
func (p *sinkPlace) ca() string                    { return p.CA }
func (p *sinkPlace) empty() (string, error)        { return sink.Bucket, p.Empty() }
func (p *sinkPlace) load(dir, prefix string) error { return p.Load(dir, prefix) }
func (p *sinkPlace) forget() error                 { return p.Forget() }
func (p *sinkPlace) close()                        { p.Stop() }
func (p *sinkPlace) pid() int                      { return p.PID }

func (p *sinkPlace) count(m *Measure) error {
	st, err := p.Stats()
	if err != nil {
		return err
	}
	if st.Corrupt > 0 {
		return fmt.Errorf("%d bodies did not have the checksums that they came with", st.Corrupt)
	}
	m.Requests, m.Dialled, m.Bytes = st.Total(), st.Connections, st.Bytes
	m.Reads, m.Lists = st.Requests["GetObject"], st.Requests["ListObjectsV2"]
	m.Writes = st.Requests["PutObject"] + st.Requests["CompleteMultipartUpload"]
	return nil
}

// A realPlace is a server that stores what it gets, in a directory that is emptied.
type realPlace struct {
	endpoint string
	dir      string
	process  int
	stop     func()
	buckets  int
}

func (p *realPlace) url() string     { return p.endpoint }
func (*realPlace) wellKnown() string { return "" }
func (*realPlace) ca() string        { return "" }
func (p *realPlace) load(string, string) error {
	return errors.New("a real server is filled by its clients")
}
func (*realPlace) count(*Measure) error { return nil }
func (*realPlace) forget() error        { return nil }
func (p *realPlace) pid() int           { return p.process }

func (p *realPlace) close() {
	p.stop()
	os.RemoveAll(p.dir)
}

// empty makes a new bucket, and frees the room that the one before has taken.
func (p *realPlace) empty() (string, error) {
	old := p.bucket()
	p.buckets++
	c := s3.New(s3.Options{
		BaseEndpoint: &p.endpoint, UsePathStyle: true, Region: region,
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
	})
	if _, err := c.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String(p.bucket())}); err != nil {
		return "", err
	}
	return p.bucket(), os.RemoveAll(filepath.Join(p.dir, old))
}

func (p *realPlace) bucket() string { return fmt.Sprintf("bench-%d", p.buckets) }

// startVersity runs versitygw over a directory below dir.
func startVersity(dir string) (place, error) {
	dir, err := os.MkdirTemp(dir, "versitygw-")
	if err != nil {
		return nil, err
	}
	s, err := s3server.Open(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &realPlace{endpoint: s.Endpoint, dir: dir, process: s.PID(), stop: s.Close}, nil
}

// startMinIO runs MinIO, which is looked for in $MINIO and on the PATH.
func startMinIO(bin, dir string) (place, error) {
	dir, err := os.MkdirTemp(dir, "minio-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(bin, "server", "--address", addr, "--quiet", dir)
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+access, "MINIO_ROOT_PASSWORD="+secret)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &realPlace{endpoint: "http://" + addr, dir: dir, process: cmd.Process.Pid, stop: func() {
		cmd.Process.Kill()
		cmd.Wait()
	}}
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(p.endpoint + "/minio/health/ready")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return p, nil
		}
	}
	p.close()
	return nil, errors.New("MinIO does not answer")
}

// findMinIO returns the path of MinIO, or an empty string.
func findMinIO() string {
	if bin := os.Getenv("MINIO"); bin != "" {
		return bin
	}
	bin, _ := exec.LookPath("minio")
	return bin
}
