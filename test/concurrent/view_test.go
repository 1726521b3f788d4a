package concurrent

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// Of 48 processes that add a package each to one view, on S3 and in a directory, none fails and no package is lost.
func TestWritersOfOneView(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	const writers = 48
	server := s3server.Start(t)
	bucket := server.Bucket(t)
	u := spackmirror.New(spackmirror.V3, writers)
	source := t.TempDir()
	if err := u.Write(source, u.All()); err != nil {
		t.Fatal(err)
	}
	c := &crowd{bin: bin, env: append(server.Environ(), "AWS_ENDPOINT_URL="+server.Endpoint)}
	dir := filepath.Join(t.TempDir(), "mirror")
	for destination, at := range map[string]reader.Source{"s3://" + bucket + "/m": server.Mirror(bucket, "m"), "file://" + dir: reader.Dir(dir)} {
		if r, err := program.Run(c.env, bin, source, destination); err != nil || r.Code != 0 {
			t.Fatalf("%v, %v", err, r)
		}
		var all [][]string
		for i := range writers {
			all = append(all, []string{"view", "add", destination, "site", "/" + u.Hash(i)})
		}
		c.atOnce(t, all)
		m := reader.View(at, "site")
		if !m.Works() || len(m.Specs) != writers {
			t.Errorf("%s: %v", destination, m)
		}
		for i := range writers {
			if !m.Specs[u.Hash(i)] {
				t.Errorf("%s: %s is lost", destination, fmt.Sprint(u.Name(i)))
			}
		}
	}
}
