package publishtest

import (
	"errors"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
)

func PointerOf(l string) string {
	if l == "v3" {
		return layout.V3Index
	}
	return layout.V2Index
}

func WantNewer(t *testing.T, err error) {
	t.Helper()
	var version *index.VersionError
	if !errors.As(err, &version) || !version.Newer() {
		t.Errorf("error is %v", err)
	}
}
