package publish_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// silent is a Progress that shows nothing.
type silent struct{}

func (silent) Sent(string, int64, int64) {}
func (silent) Step(string, string)       {}
func (silent) Stored(string, int64)      {}

// destination is an empty directory, and what removes it.
func destination() (*dir.Dir, func()) {
	path, err := os.MkdirTemp("", "mirror")
	if err != nil {
		log.Fatal(err)
	}
	d, err := dir.Open(path, dir.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return d, func() {
		d.Close()
		os.RemoveAll(path)
	}
}

// A dry run is a plan that is printed. NewPlan only reads.
func ExampleNewPlan() {
	ctx := context.Background()
	src, err := source.Open(ctx, "../test/testdata/v3-unsigned", source.Selection{Include: []string{"zlib", "hwloc"}})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	to, remove := destination()
	defer remove()
	plan, err := publish.NewPlan(ctx, src, func(path string) mirror.Store { return to.Mirror(path) }, publish.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range plan.Mirrors {
		for _, p := range m.Packages {
			fmt.Println(p.Status, p.Package.Package)
		}
		fmt.Println("index:", m.Index.Before, "->", m.Index.After)
	}
	// Output:
	// new hwloc
	// new zlib
	// index: 0 -> 2
}

// Publishing the same thing twice stores nothing the second time.
func ExamplePlan_Apply() {
	ctx := context.Background()
	src, err := source.Open(ctx, "../test/testdata/v3-unsigned", source.Selection{Include: []string{"zlib"}})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	to, remove := destination()
	defer remove()
	for range 2 {
		plan, err := publish.NewPlan(ctx, src, func(path string) mirror.Store { return to.Mirror(path) }, publish.Options{})
		if err != nil {
			log.Fatal(err)
		}
		out, err := plan.Apply(ctx, silent{})
		if err != nil {
			log.Fatal(err)
		}
		m := out.Mirrors[0]
		fmt.Println(m.Packages[0].Package.Package, "is", m.Packages[0].Status, "index written:", m.Index.Written, "objects:", out.Objects)
	}
	// Output:
	// zlib is new index written: true objects: 6
	// zlib is unchanged index written: false objects: 0
}
