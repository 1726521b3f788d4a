package publish_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// beside are options with an upstream mirror.
func beside(t testing.TB, upstream *mirrortest.Mem) publish.Options {
	t.Helper()
	offered, err := elsewhere.Offered(t.Context(), upstream)
	publishtest.Must(t, err)
	return publish.Options{Upstream: offered}
}

func offeredBy(t testing.TB, m *mirrortest.Mem, l string) []string {
	t.Helper()
	var names []string
	for _, id := range publishtest.IndexOf(t, m.Snapshot(), l).Offered() {
		name, _, _ := strings.Cut(id, "/")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// What an upstream mirror offers is not published, and the two together lack nothing that is needed. A second run writes nothing.
func TestOnlyWhatAnUpstreamMirrorLacksIsPublished(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		upstream := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, upstream, publishtest.Original(l+"-signed"), publishtest.Only("gcc-runtime", "zlib", "openssl", "hwloc"))
		o := beside(t, upstream)
		m := publishtest.EmptyMirror(t)
		out := publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), o)
		statuses := publishtest.Statuses(out)
		offered := offeredBy(t, m, l)
		if len(statuses) == 0 || slices.Contains(offered, "zlib") || !slices.Contains(offered, "slurm") {
			t.Errorf("%s: offered %v, %v", l, offered, statuses)
		}
		for name := range m.Snapshot() {
			if strings.Contains(name, "/zlib") {
				t.Errorf("%s: stored %s", l, name)
			}
		}
		m.Forget()
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), o)
		if len(m.Mutations()) > 0 {
			t.Errorf("%s: the second run: %v", l, m.Mutations())
		}
		if v := publishtest.MustVerify(t, m, verify.Options{Upstream: o.Upstream}); v.Damaged() {
			t.Errorf("%s: %v", l, v.Findings)
		}
		// The upstream mirror loses a package that is needed.
		less := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, less, publishtest.Original(l+"-signed"), publishtest.Only("gcc-runtime", "openssl", "hwloc"))
		v := publishtest.MustVerify(t, m, verify.Options{Upstream: beside(t, less).Upstream})
		if !v.Damaged() || !strings.Contains(v.Findings[0].Reason, "needs zlib") {
			t.Errorf("%s: %v", l, v.Findings)
		}
	}
}

// A package that needs what is nowhere is refused, and so is what depends on it. What the destination has from before counts.
func TestAPackageThatNeedsWhatIsNowhereIsRefused(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		upstream := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, upstream, publishtest.Original(l+"-signed"), publishtest.Only("openssl"))
		o := publishtest.Only("munge")
		o.Upstream = beside(t, upstream).Upstream
		m := publishtest.EmptyMirror(t)
		out, err := publishtest.PublishTo(t, m, publishtest.Original(l+"-signed"), o)
		if err == nil || len(m.Snapshot()) > 0 || !strings.Contains(out.Findings[0].Reason, "it needs ") {
			t.Errorf("%s: %v, %v", l, err, out.Findings)
		}
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib", "gcc-runtime"))
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), o)
		if diff := cmp.Diff([]string{"gcc-runtime", "munge", "zlib"}, slices.DeleteFunc(offeredBy(t, m, l), func(name string) bool { return name == "gcc" })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", l, diff)
		}
	}
}

// A package that is upstream need not be one that may be published: nothing of it is sent.
func TestRulesDoNotHoldForWhatIsUpstream(t *testing.T) {
	upstream := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, upstream, publishtest.Original("v3-unsigned"), publish.Options{})
	o := beside(t, upstream)
	o.Trust.RequireSigned = true
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), o)
	for name := range m.Snapshot() {
		if publishtest.IsDocument(name) {
			t.Errorf("stored %s", name)
		}
	}
}
