package publish_test

import (
	"context"
	"errors"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// An unlisted is a mirror as a server shows it that may not list the bucket: what is not there is denied.
type unlisted struct{ mirror.Reader }

func (u unlisted) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := u.Reader.Open(ctx, name)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, &mirror.DeniedError{Action: "GET", Name: name, Detail: "403"}
	}
	return o, err
}

// A mirror that has the index of one layout can be copied, and be an upstream mirror, if a server denies that of the other one.
func TestWhatIsDeniedIsNotThereIfTheMirrorHasAnotherLayout(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		from, to := publishtest.EmptyMirror(t), publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, from, publishtest.Original(l+"-signed"), publish.Options{})
		empty := unlisted{publishtest.EmptyMirror(t)}
		p, err := planCopy(t.Context(), unlisted{from}, to, elsewhere.Closure{}, publish.Options{})
		if err != nil || len(p.Mirrors) != 1 {
			t.Errorf("%s: a copy: %v", l, err)
		}
		if offered, err := elsewhere.Offered(t.Context(), unlisted{from}); err != nil || len(offered) == 0 {
			t.Errorf("%s: an upstream mirror: %v", l, err)
		}
		// It may be needed, so where nothing else is there the denial is said, and that of one of several mirrors.
		if _, err := elsewhere.Offered(t.Context(), empty); !errors.Is(err, mirror.ErrDenied) {
			t.Errorf("%s: an upstream mirror without an index: %v", l, err)
		}
		for _, froms := range [][]mirror.Reader{{empty}, {unlisted{from}, empty}} {
			if _, err := elsewhere.Open(t.Context(), froms, to, elsewhere.Closure{}); !errors.Is(err, mirror.ErrDenied) {
				t.Errorf("%s: %d mirrors: %v", l, len(froms), err)
			}
		}
		other := map[string]string{"v3": "v2", "v2": "v3"}[l]
		if _, err := elsewhere.Open(t.Context(), []mirror.Reader{unlisted{from}}, to, elsewhere.Closure{Layout: other}); !errors.Is(err, mirror.ErrDenied) {
			t.Errorf("%s: a copy of layout %s: %v", l, other, err)
		}
	}
}
