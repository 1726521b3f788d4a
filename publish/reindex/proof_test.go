package reindex_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// A suspect is a mirror on storage that has to prove that it obeys conditions.
type suspect struct {
	*mirrortest.Mem
	proofs *[]string // that were asked for, in order
	broken bool      // it does not
}

func suspected(t *testing.T) suspect {
	return suspect{Mem: mirrortest.NewMem(t), proofs: new([]string)}
}

func (suspect) Proof(was mirror.Version) string {
	if was == mirror.Absent {
		return "if-none-match here"
	}
	return "if-match here"
}

func (s suspect) Prove(_ context.Context, was mirror.Version, there *mirror.Upload) error {
	*s.proofs = append(*s.proofs, s.Proof(was))
	if there != nil && s.Snapshot()[there.Name] == nil {
		return fmt.Errorf("%s is not there", there.Name)
	}
	if s.broken {
		return &mirror.ConditionError{Header: "If-Match"}
	}
	return nil
}

// An index is replaced only on storage that was seen to obey conditions, and what was seen is remembered
// by the next write of an index, which needs no other reason than before.
func TestConditionsAreProvedBeforeAnIndexIsWritten(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		s := suspected(t)
		publishtest.MustPublish(t, s, publishtest.Original(fixture), publishtest.Only("zlib"))
		publishtest.MustPublish(t, s, publishtest.Original(fixture), publishtest.Only("zlib", "hwloc"))
		if want := []string{"if-none-match here", "if-match here"}; !slices.Equal(*s.proofs, want) {
			t.Errorf("%s: proved %q", fixture, *s.proofs)
		}
		*s.proofs = nil
		publishtest.MustPublish(t, s, publishtest.Original(fixture), publish.Options{})
		if remembered := len(*s.proofs) == 0; remembered != (publishtest.LayoutOf(fixture) == "v3") {
			t.Errorf("%s: proved again: %q", fixture, *s.proofs)
		}
		*s.proofs = nil
		s.Forget()
		publishtest.MustPublish(t, s, publishtest.Original(fixture), publish.Options{})
		if len(*s.proofs)+len(s.Mutations()) > 0 {
			t.Errorf("%s: with nothing to do, %q was proved and %v written", fixture, *s.proofs, s.Mutations())
		}
	}
}

// A mirror of before gets its proofs with the next change of its index, and not for their own sake.
func TestAProofIsNoReasonToWriteAnIndex(t *testing.T) {
	s := suspected(t)
	publishtest.MustPublish(t, s.Mem, publishtest.Original("v3-unsigned"), publishtest.Only("zlib"))
	before := string(s.Snapshot()[layout.V3Index])
	publishtest.MustPublish(t, s, publishtest.Original("v3-unsigned"), publishtest.Only("zlib"))
	if after := string(s.Snapshot()[layout.V3Index]); after != before || len(*s.proofs) > 0 {
		t.Errorf("proved %q and wrote %s", *s.proofs, after)
	}
	publishtest.MustPublish(t, s, publishtest.Original("v3-unsigned"), publishtest.Only("zlib", "hwloc"))
	if after := string(s.Snapshot()[layout.V3Index]); !strings.Contains(after, "if-match here") {
		t.Errorf("not remembered: %s", after)
	}
}

// Where conditions are not obeyed, no index is written, whoever would write it.
func TestStorageWithoutConditionsGetsNoIndex(t *testing.T) {
	for what, write := range map[string]func(suspect) error{
		"publish": func(s suspect) error {
			_, err := publishtest.PublishTo(t, s, publishtest.Original("v3-unsigned"), publish.Options{})
			return err
		},
		"rebuild": func(s suspect) error { _, err := reindex.Rebuild(t.Context(), s, buildcache.Trust{}); return err },
		"heal": func(s suspect) error {
			_, err := reindex.Heal(t.Context(), s, buildcache.Trust{}, reindex.Changes{Names: []string{layout.V3Index}})
			return err
		},
	} {
		s := suspected(t)
		s.broken = true
		if what != "publish" {
			publishtest.MustPublish(t, s.Mem, publishtest.Original("v3-unsigned"), publish.Options{})
			s.Uproot(layout.V3Index)
		}
		err := write(s)
		var ignored *mirror.ConditionError
		if !errors.As(err, &ignored) {
			t.Errorf("%s: got error %v", what, err)
		}
		if s.Snapshot()[layout.V3Index] != nil {
			t.Errorf("%s: the index was written", what)
		}
	}
}

// A fault of the storage is no damage of the packages that could not be read because of it: what lacks
// them is not taken for complete.
func TestAFaultOfTheStorageIsNoDamage(t *testing.T) {
	m := mirrortest.NewMem(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{})
	m.Uproot(layout.V3Index)
	for _, fault := range []error{mirror.Faultf("no ETag"), mirror.ErrCredentials, mirror.ErrNoBucket, &mirror.CertificateError{Host: "s3", Err: errors.New("unknown authority")}} {
		s := mirrortest.Break(m, mirrortest.On(mirrortest.Open, mirrortest.Fail(layout.V3Specs, fault)))
		if _, err := publishtest.PublishTo(t, s, publishtest.Original("v3-unsigned"), publish.Options{}); !errors.Is(err, fault) {
			t.Errorf("publish: got error %v, want %v", err, fault)
		}
		if _, err := reindex.Rebuild(t.Context(), s, buildcache.Trust{}); !errors.Is(err, fault) {
			t.Errorf("rebuild: got error %v, want %v", err, fault)
		}
	}
	s := mirrortest.Break(m, mirrortest.Cut(layout.V3Specs+"zlib", 20))
	if _, err := publishtest.PublishTo(t, s, publishtest.Original("v3-unsigned"), publish.Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a document that breaks off: got error %v", err)
	}
}
