// Package concurrent holds what is promised of many publishers that write to one mirror
// at the same time: nothing is lost and nobody notices the others.
package concurrent

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const (
	publishers = 16
	share      = 6 // specs that each publishes
	stride     = 3 // by which the shares are apart, so that each spec is published twice
)

func rounds() int {
	if testing.Short() {
		return 4
	}
	return 20
}

func TestNothingIsLost(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	for _, l := range []spackmirror.Layout{spackmirror.V3, spackmirror.V2} {
		bucket := server.Bucket(t)
		crowd := newCrowd(t, l, bin, server.Environ())
		crowd.env = append(crowd.env, "AWS_ENDPOINT_URL="+server.Endpoint)
		t.Run(l.String()+" in S3", func(t *testing.T) {
			for round := range rounds() {
				crowd.round(t, fmt.Sprintf("s3://%s/%d", bucket, round), server.Mirror(bucket, fmt.Sprint(round)))
			}
		})
		t.Run(l.String()+" in a directory", func(t *testing.T) {
			for range rounds() {
				dir := t.TempDir()
				crowd.round(t, "file://"+dir, reader.Dir(dir))
			}
		})
	}
}

// A crowd is a number of publishers whose mirrors overlap.
type crowd struct {
	bin     string
	env     []string
	sources []string
	read    func(reader.Source) *reader.Mirror
	whole   reader.Database // the index of all that they have
}

func newCrowd(t *testing.T, l spackmirror.Layout, bin string, env []string) *crowd {
	t.Helper()
	u := spackmirror.New(l, (publishers-1)*stride+share)
	u.Tarball = spackmirror.Kilobytes(4)
	c := &crowd{bin: bin, env: env, read: map[spackmirror.Layout]func(reader.Source) *reader.Mirror{
		spackmirror.V2: reader.V2, spackmirror.V3: reader.V3}[l]}
	write := func(members []int) string {
		dir := t.TempDir()
		if err := u.Write(dir, members); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for p := range publishers {
		c.sources = append(c.sources, write(u.Range(p*stride, p*stride+share)))
	}
	c.whole = c.read(reader.Dir(write(u.All()))).Index
	return c
}

// round lets all publish at once to a destination, where mirror reads.
func (c *crowd) round(t *testing.T, destination string, mirror reader.Source) {
	t.Helper()
	c.publish(t, destination)
	m := c.read(mirror)
	if !m.Works() || len(m.Odd) > 0 {
		t.Errorf("%s: broken %v, odd %v", destination, m.Broken, m.Odd)
	}
	if diff := m.Index.Diff(c.whole); len(diff) > 0 {
		t.Errorf("%s: the index differs from that of the whole:\n%s", destination, strings.Join(diff, "\n"))
	}
	if r, err := program.Run(c.env, c.bin, "index", destination); err != nil || r.Code != 0 {
		t.Errorf("rebuild: %v, %v", err, r)
	}
	if diff := c.read(mirror).Index.Diff(m.Index); len(diff) > 0 {
		t.Errorf("%s: the rebuilt index differs from what they left:\n%s", destination, strings.Join(diff, "\n"))
	}
}

func (c *crowd) publish(t *testing.T, destination string) {
	t.Helper()
	var all [][]string
	for _, source := range c.sources {
		all = append(all, []string{source, destination})
	}
	c.atOnce(t, all)
}

// atOnce runs the binary with each of the arguments at the same time. None may fail, or
// complain.
func (c *crowd) atOnce(t *testing.T, args [][]string) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, a := range args {
		wg.Go(func() {
			<-start
			r, err := program.Run(c.env, c.bin, a...)
			said := strings.ToLower(r.Stderr)
			if err != nil || r.Code != 0 || strings.Contains(said, "error") || strings.Contains(said, "conflict") || strings.Contains(said, "warn") {
				t.Errorf("%v, %v", err, r)
			}
		})
	}
	close(start)
	wg.Wait()
}

// Who makes an index anew while others publish loses nothing of theirs.
func TestRebuildsAmongPublishers(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	for _, l := range []spackmirror.Layout{spackmirror.V3, spackmirror.V2} {
		bucket := server.Bucket(t)
		c := newCrowd(t, l, bin, append(server.Environ(), "AWS_ENDPOINT_URL="+server.Endpoint))
		t.Run(l.String(), func(t *testing.T) {
			for round := range (rounds() + 3) / 4 {
				destination := fmt.Sprintf("s3://%s/%d", bucket, round)
				c.atOnce(t, [][]string{{c.sources[0], destination}})
				var all [][]string
				for i, source := range c.sources[1:] {
					all = append(all, []string{source, destination})
					if i%4 == 0 {
						all = append(all, []string{"index", destination})
					}
				}
				c.atOnce(t, all)
				m := c.read(server.Mirror(bucket, fmt.Sprint(round)))
				if diff := m.Index.Diff(c.whole); !m.Works() || len(m.Odd) > 0 || len(diff) > 0 {
					t.Errorf("%s: broken %v, odd %v, index:\n%s", destination, m.Broken, m.Odd, strings.Join(diff, "\n"))
				}
			}
		})
	}
}
