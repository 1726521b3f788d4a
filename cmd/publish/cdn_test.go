package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
)

// Somebody who does not look puts an old index back, and it is put right again: the very
// index that caches were told of a moment ago, and yet they must be told once more.
func TestIndexThatWasThereBeforeIsInvalidated(t *testing.T) {
	const distribution = "E2QWRUHAPOMQZL"
	cloud := cloudfronttest.New(distribution)
	api := httptest.NewServer(cloud)
	defer api.Close()
	t.Setenv("AWS_ENDPOINT_URL_CLOUDFRONT", api.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	place := filepath.Join(t.TempDir(), "mirror")
	pointer := filepath.Join(place, layout.V3Index)
	publish := func(pkg string, invalidations int) []byte {
		t.Helper()
		code, out, errs := execute(t, nil, "--distribution-id", distribution, "--include", pkg, clitest.Spack(t, "v3-unsigned"), "file://"+place)
		if code != cli.ExitDone {
			t.Fatalf("exit code %d: %s%s", code, out, errs)
		}
		if n := len(cloud.Invalidations(distribution)); n != invalidations {
			t.Errorf("%d invalidations, want %d", n, invalidations)
		}
		text, err := os.ReadFile(pointer)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	old := publish("zlib", 1)
	right := publish("munge", 2)
	if err := os.Remove(pointer); err != nil { // as Spack replaces it
		t.Fatal(err)
	}
	clitest.Write(t, pointer, string(old))
	if again := publish("munge", 3); string(again) != string(right) {
		t.Errorf("the index is\n%s\nwant\n%s", again, right)
	}
	publish("munge", 3)
}
