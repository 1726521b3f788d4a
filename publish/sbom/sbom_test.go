package sbom

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// A package whose document is gone is not left out: there is no document.
func TestNothingIsLeftOut(t *testing.T) {
	at := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(at, os.DirFS("../../test/testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	d, err := dir.Open(at, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Mirror("")
	inv, err := inventory.Read(t.Context(), m, "")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "x", Tool: "publish", Version: "1", Created: time.Unix(0, 0)}
	whole, err := New(t.Context(), m, inv, inv.Builds, query.Link, o)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := whole.SPDX(&text); err != nil || strings.Count(text.String(), "checksumValue") != len(inv.Builds) {
		t.Errorf("%v: %s", err, text.String())
	}
	if err := os.RemoveAll(filepath.Join(at, "v3/manifests/spec/zlib")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), m, inv, inv.Builds, query.Link, o); err == nil || !strings.Contains(err.Error(), "zlib@1.3.1/") {
		t.Error(err)
	}
}
