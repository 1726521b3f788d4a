package publishtest

import (
	"errors"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

func PointerOf(l string) string {
	if l == "v3" {
		return layout.V3Index
	}
	return layout.V2Index
}

// PlantNewer puts an index of a version that no release knows in place of a mirror's.
func PlantNewer(t *testing.T, m *mirrortest.Mem, l string) {
	t.Helper()
	newer := []byte(`{"database":{"version":"9","installs":{}}}`)
	if l == "v3" {
		SubjectOf(t, m).Point(layout.V3Index, manifest.IndexType(index.V8), newer)
	} else {
		m.Plant(layout.V2Index, newer)
	}
}

func WantNewer(t *testing.T, err error) {
	t.Helper()
	var version *index.VersionError
	if !errors.As(err, &version) || !version.Newer() {
		t.Errorf("error is %v", err)
	}
}
