package s3

import (
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// wrongAnswers are those of stores that speak S3 almost. They are given to every request; where one
// makes no sense, the answer is as it should be.
var wrongAnswers = map[string]s3test.Fault{
	"error as 200":      s3test.ErrorAs200,
	"late error as 200": s3test.LateErrorAs200,
	"blank":             s3test.Blank,
	"no ETag":           s3test.NoETag,
	"no length":         s3test.NoLength,
	"drip":              s3test.Drip,
	"a page":            s3test.Page,
	"redirect":          s3test.Redirect(307, "http://elsewhere.example/"),
	"moved":             s3test.Redirect(301, "http://elsewhere.example/"),
}

// wrongListings are those of listings alone.
var wrongListings = map[string]s3test.Fault{
	"no token":          s3test.NoToken,
	"same token":        s3test.SameToken,
	"empty pages":       s3test.EmptyPages,
	"too few":           s3test.TooFew,
	"backwards":         s3test.Backwards,
	"last, and a token": s3test.LastWithToken,
	"no content":        s3test.NoContent,
	"two pages":         s3test.TwoPages,
	"no size":           s3test.NoSize,
	"negative size":     s3test.NegativeSize,
	"huge page":         s3test.HugePage,
}

// A misbehaving is a mirror of a test on a server that answers wrongly.
type misbehaving struct {
	store
	requests *atomic.Int64
}

func (m misbehaving) Ways(op mirrortest.Op) []string {
	if raced { // these are enough for the race detector
		return []string{"drip", "late error as 200"}
	}
	ways := slices.Sorted(maps.Keys(wrongAnswers))
	if op == mirrortest.List {
		ways = slices.AppendSeq(ways, maps.Keys(wrongListings))
	}
	return ways
}

func (m misbehaving) Misbehave(way string, nth int) int {
	before := m.requests.Swap(0)
	m.server.Hook(func(r *http.Request) s3test.Fault {
		n := m.requests.Add(1)
		fault, listing := wrongListings[way]
		switch {
		case way == "" || nth != 0 && int(n) != nth, listing && s3test.Operation(r) != "ListObjectsV2":
			return s3test.None
		case listing:
			return fault
		}
		return wrongAnswers[way]
	})
	return int(before)
}

// TestMisbehavingStore runs the conformance suite with each wrong answer at every request.
func TestMisbehavingStore(t *testing.T) {
	mirrortest.RunMisbehaving(t, func(t *testing.T) mirrortest.Misbehaving {
		server := serve(t, quick(s3test.Options{PageSize: 2}))
		b := open(t, server)
		b.client.Options().HTTPClient.(*wire.Client).Patience = 500 * time.Millisecond
		m := b.Mirror("p")
		return misbehaving{store{m, m.Deleter(), server}, new(atomic.Int64)}
	})
}
