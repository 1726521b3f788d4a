package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
)

// An object is created once, and replaced only as the version that was read. A directory is a Store, as a bucket is.
func ExampleStore() {
	path, err := os.MkdirTemp("", "mirror")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(path)
	d, err := dir.Open(path, dir.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	var s mirror.Store = d.Mirror("")
	ctx := context.Background()
	put := func(text string) mirror.Upload {
		return mirror.Upload{Name: "note", Content: blob.Bytes([]byte(text)), Digest: blob.DigestOf([]byte(text)), Type: "text/plain"}
	}
	fmt.Println(s.Create(ctx, put("one")), errors.Is(s.Create(ctx, put("another")), mirror.ErrExist))
	content, info, err := mirror.Read(ctx, s, "note", 100)
	fmt.Println(string(content), err)
	_, err = s.Swap(ctx, put("two"), info.Version)
	fmt.Println(err)
	_, err = s.Swap(ctx, put("three"), info.Version) // which is no longer there
	fmt.Println(errors.Is(err, mirror.ErrConflict))
	// Output:
	// <nil> true
	// one <nil>
	// <nil>
	// true
}
