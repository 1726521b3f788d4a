package verify_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// unlisted hides that a mirror can be listed, as that of a URL cannot.
type unlisted struct{ mirror.Reader }

// A mirror that cannot be listed is walked from the view that a client has chosen: what only the index names is not read.
func TestAViewBehindAURLIsReadAsByItsClients(t *testing.T) {
	m := publishtest.Planted(t, "v3-view")
	s := publishtest.SubjectOf(t, m)
	s.Uproot(layout.V3Index)
	s.Uproot(s.Tarball("zlib")) // of which the view knows and which it does not offer
	options := verify.Options{Deep: true, Views: []string{"site/login"}}
	v := publishtest.MustVerify(t, unlisted{m}, options)
	if v.Packages != 3 || v.Damaged() {
		t.Errorf("%d packages, %v", v.Packages, v.Findings)
	}
	s.Uproot(s.Tarball("munge"))
	if v := publishtest.MustVerify(t, unlisted{m}, options); !v.Damaged() || !strings.Contains(v.Findings[0].Reason, "is not there") {
		t.Errorf("%v", v.Findings)
	}
}

// A view that is to be there and is not is damage, whether the mirror can be listed or not.
func TestAViewThatIsMissingIsDamage(t *testing.T) {
	m := publishtest.Planted(t, "v3-view")
	for _, r := range []mirror.Reader{m, unlisted{m}} {
		v := publishtest.MustVerify(t, r, verify.Options{Views: []string{"site/login", "gone"}})
		want := buildcache.Error.In(layout.V3View("gone"), "there is no view gone")
		if !slices.Contains(v.Findings, want) {
			t.Errorf("%T: %v", r, v.Findings)
		}
	}
}
