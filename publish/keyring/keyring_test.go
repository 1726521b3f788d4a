package keyring_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

const (
	testdata = "../../test/testdata/"
	old      = key.Fingerprint("E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5") // keys/one.pub, which signed the fixtures
)

type ignored struct{}

func (ignored) Sent(string, int64, int64) {}
func (ignored) Step(string, string)       {}
func (ignored) Stored(string, int64)      {}

func published(t testing.TB, fixture string) *mirrortest.Mem {
	t.Helper()
	m := mirrortest.NewMem(t)
	src, err := source.Open(t.Context(), testdata+fixture, source.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	plan, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return m }, publish.Options{})
	if err == nil {
		_, err = plan.Apply(t.Context(), ignored{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func isDocument(name string) bool {
	_, v3 := layout.ParseV3Spec(name)
	_, v2 := layout.ParseV2Spec(name)
	return v3 || v2
}

// signers counts the packages that each key has signed, with valid signatures.
func signers(t testing.TB, m *mirrortest.Mem, to *sign.Key) (byOld, byNew int) {
	t.Helper()
	armored, err := os.ReadFile(testdata + "keys/one.pub")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := key.ReadRing(armored)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range m.Snapshot() {
		if !isDocument(name) {
			continue
		}
		_, oldErr := ring.Verify(content)
		newErr := to.Verify(content)
		switch {
		case newErr == nil:
			byNew++
		case oldErr == nil:
			byOld++
		default:
			t.Errorf("%s: %v, %v", name, oldErr, newErr)
		}
	}
	return byOld, byNew
}

// A rotation offers the new key and signs every package again. It reads no content and leaves everything else as it was; the
// second one changes nothing.
func TestRotateSignsEverythingAgain(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		m, to := published(t, fixture), signtest.Key(t, "new")
		before := m.Snapshot()
		n, _ := signers(t, m, to)
		m.Forget()
		changes, err := keyring.Rotate(t.Context(), m, old, to)
		if err != nil || len(changes) != 1 || changes[0].Resigned != n || !changes[0].Added {
			t.Fatalf("%s: %+v, %v", fixture, changes, err)
		}
		if byOld, byNew := signers(t, m, to); byOld != 0 || byNew != n {
			t.Errorf("%s: %d packages by the old key, %d by the new one", fixture, byOld, byNew)
		}
		for _, c := range m.Calls() {
			if c.Op == mirrortest.Open && strings.Contains(c.Name, ".spack") && !isDocument(c.Name) {
				t.Errorf("%s: it reads %s", fixture, c.Name)
			}
		}
		for name, content := range before {
			if after := m.Snapshot()[name]; !isDocument(name) && !strings.Contains(name, "key") && !strings.Contains(name, "_pgp") && string(after) != string(content) {
				t.Errorf("%s: %s was changed", fixture, name)
			}
		}
		listings, err := keyring.List(t.Context(), m)
		if err != nil || len(listings) != 1 {
			t.Fatal(listings, err)
		}
		for _, k := range listings[0].Keys {
			if want := map[key.Fingerprint]int{old: 0, to.Fingerprint(): n}[k.Fingerprint]; !k.Offered || k.Packages != want || k.Problem != "" {
				t.Errorf("%s: listed is %+v, want %d packages", fixture, k, want)
			}
		}
		changes, err = keyring.Rotate(t.Context(), m, old, to)
		if err != nil || changes[0].Resigned != 0 || changes[0].Added || changes[0].Already != n || len(changes[0].Stale) != 0 {
			t.Errorf("%s: again: %+v, %v", fixture, changes, err)
		}
	}
}

// What was interrupted is completed by the next run, and meanwhile each package is signed by one of the two keys.
func TestAnInterruptedRotationIsCompleted(t *testing.T) {
	m, good := published(t, "v3-signed"), signtest.Key(t, "new")
	n, _ := signers(t, m, good)
	broken := errors.New("the token was pulled")
	to, err := sign.New(&signtest.Counter{Signer: good.Signer(), Fail: 3, Err: broken})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Rotate(t.Context(), m, old, to); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if byOld, byNew := signers(t, m, good); byOld+byNew != n || byOld == 0 {
		t.Errorf("half-way: %d by the old key, %d by the new one", byOld, byNew)
	}
	if _, err := keyring.Rotate(t.Context(), m, old, good); err != nil {
		t.Error(err)
	}
	if byOld, byNew := signers(t, m, good); byOld != 0 || byNew != n {
		t.Errorf("after: %d by the old key, %d by the new one", byOld, byNew)
	}
}

// meddling replaces each document once, between the reading and the writing of a rotation.
type meddling struct {
	mirror.Store
	mu   sync.Mutex
	done map[string]bool
}

func (m *meddling) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	m.mu.Lock()
	first := isDocument(u.Name) && !m.done[u.Name]
	m.done[u.Name] = true
	m.mu.Unlock()
	if first {
		document, info, err := mirror.Read(ctx, m.Store, u.Name, 1<<20)
		if err != nil {
			return "", err
		}
		other := u
		other.Content = blob.Bytes(append([]byte("\n"), document...))
		other.Digest = [32]byte{}
		if _, err := m.Store.Swap(ctx, other, info.Version); err != nil {
			return "", err
		}
		other.Content = blob.Bytes(document)
		now, err := m.Store.Stat(ctx, u.Name)
		if err != nil {
			return "", err
		}
		if _, err := m.Store.Swap(ctx, other, now.Version); err != nil {
			return "", err
		}
	}
	return m.Store.Swap(ctx, u, was)
}

// A document that another publisher replaces meanwhile is read again, never overwritten unseen.
func TestRotateBesidePublishers(t *testing.T) {
	m, to := published(t, "v3-signed"), signtest.Key(t, "new")
	n, _ := signers(t, m, to)
	changes, err := keyring.Rotate(t.Context(), &meddling{Store: m, done: map[string]bool{}}, old, to)
	if err != nil || changes[0].Resigned != n {
		t.Errorf("%+v, %v", changes, err)
	}
	if byOld, byNew := signers(t, m, to); byOld != 0 || byNew != n {
		t.Errorf("%d by the old key, %d by the new one", byOld, byNew)
	}
}

// Nothing is changed for a key that the mirror does not hold, and packages that are not signed by it stay as they are.
func TestRotateOfAnotherKey(t *testing.T) {
	m, to, other := published(t, "v3-signed"), signtest.Key(t, "new"), signtest.Key(t, "other")
	before := len(m.Snapshot())
	if _, err := keyring.Rotate(t.Context(), m, other.Fingerprint(), to); !errors.Is(err, keyring.ErrUnknownKey) || len(m.Snapshot()) != before {
		t.Errorf("error is %v, %d objects, %d before", err, len(m.Snapshot()), before)
	}
	if _, err := keyring.Add(t.Context(), m, other.Public()); err != nil {
		t.Fatal(err)
	}
	changes, err := keyring.Rotate(t.Context(), m, other.Fingerprint(), to)
	if err != nil || changes[0].Resigned != 0 || changes[0].Others == 0 {
		t.Errorf("%+v, %v", changes, err)
	}
}

// While eight publishers sign with the old key and one process rotates, every package that can be read is signed by exactly one
// of the two keys, and the next rotation leaves none to the old one.
func TestEightPublishersAndARotation(t *testing.T) {
	m, from, to := mirrortest.NewMem(t), signtest.Key(t, "old"), signtest.Key(t, "new")
	publishOne := func() error {
		src, err := source.Open(t.Context(), testdata+"v3-unsigned", source.Selection{})
		if err != nil {
			return err
		}
		defer src.Close()
		o := publish.Options{Sign: publish.Signing{Key: from}, IfExists: publish.Overwrite}
		plan, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return m }, o)
		if err == nil {
			_, err = plan.Apply(t.Context(), ignored{})
		}
		return err
	}
	if err := publishOne(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range 8 {
		wg.Go(func() { errs <- publishOne() })
	}
	wg.Go(func() {
		_, err := keyring.Rotate(t.Context(), m, from.Fingerprint(), to)
		errs <- err
	})
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for name, content := range m.Snapshot() {
			if isDocument(name) && (from.Verify(content) == nil) == (to.Verify(content) == nil) {
				t.Fatalf("%s is signed by none of the two keys, or by both", name)
			}
		}
	}
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := keyring.Rotate(t.Context(), m, from.Fingerprint(), to); err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, content := range m.Snapshot() {
		if isDocument(name) {
			n++
			if err := to.Verify(content); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n == 0 {
		t.Error("no packages")
	}
}
