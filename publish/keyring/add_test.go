package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// copies are public keys of one gpg key through its life: as it was made, extended, with a subkey, and revoked.
func copies(t *testing.T) (first, extended, subkey, revoked *key.Public) {
	t.Helper()
	home := gpgtest.Home(t)
	gpg := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--no-options", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	export := func() *key.Public {
		t.Helper()
		p, err := key.ReadPublic([]byte(gpg("", "--armor", "--export")))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ago := func(d time.Duration) []string {
		return []string{"--batch", "--faked-system-time", time.Now().Add(-d).UTC().Format("20060102T150405")}
	}
	gpg("", append(ago(72*time.Hour), "--quick-generate-key", "cache", "ed25519", "sign", "30d")...)
	first = export()
	f := string(first.Fingerprint())
	gpg("", append(ago(48*time.Hour), "--quick-set-expire", f, "2y")...)
	extended = export()
	gpg("", append(ago(24*time.Hour), "--quick-add-key", f, "ed25519", "sign", "never")...)
	subkey = export()
	gpg(gpg("y\n0\n\ny\n", "--command-fd", "0", "--armor", "--gen-revoke", f), "--batch", "--import")
	return first, extended, subkey, export()
}

// held is what a mirror holds of a key.
func held(t *testing.T, m *mirrortest.Mem, f buildcache.Layout, k key.Fingerprint) *key.Public {
	t.Helper()
	objects, err := f.ReadKey(t.Context(), m, k)
	if err != nil {
		t.Fatal(err)
	}
	p, err := buildcache.PublicKey(objects)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A key that was extended, got a subkey or was revoked is published over the old copy, and never an older copy over a newer
// one. What is listed of it is what clients get.
func TestANewerCopyOfAKeyIsPublished(t *testing.T) {
	first, extended, subkey, revoked := copies(t)
	for i, fixture := range []string{"v3-signed", "v2-signed"} {
		l := buildcache.Layouts()[i]
		m := published(t, fixture)
		for _, row := range []struct {
			name           string
			add            *key.Public
			added, updated bool
			expires        time.Time
			revoked        bool
		}{
			{"first", first, true, false, first.Expires(), false},
			{"extended", extended, false, true, extended.Expires(), false},
			{"extended again", extended, false, false, extended.Expires(), false},
			{"the first again", first, false, false, extended.Expires(), false},
			{"subkey", subkey, false, true, extended.Expires(), false},
			{"revoked", revoked, false, true, extended.Expires(), true},
			{"one without the revocation", subkey, false, false, extended.Expires(), true},
			{"the first at last", first, false, false, extended.Expires(), true},
		} {
			before := len(m.Snapshot())
			changes, err := keyring.Add(t.Context(), m, row.add)
			if err != nil || len(changes) != 1 || changes[0].Layout != l.Name() {
				t.Fatalf("%s: %s: %+v, %v", fixture, row.name, changes, err)
			}
			if c := changes[0]; c.Added != row.added || c.Updated != row.updated || (len(c.Stale) > 0) != (row.added || row.updated) {
				t.Errorf("%s: %s: %+v", fixture, row.name, c)
			}
			if !row.added && !row.updated && len(m.Snapshot()) != before {
				t.Errorf("%s: %s: something was stored", fixture, row.name)
			}
			p := held(t, m, l, first.Fingerprint())
			if !p.Expires().Equal(row.expires) || p.Revoked().IsZero() == row.revoked {
				t.Errorf("%s: %s: it expires at %s, revoked at %s", fixture, row.name, p.Expires(), p.Revoked())
			}
			listings, err := keyring.List(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range listings[0].Keys {
				if k.Fingerprint == first.Fingerprint() && (!k.Offered || !k.Expires.Equal(row.expires) || k.Revoked.IsZero() == row.revoked) {
					t.Errorf("%s: %s: listed is %+v", fixture, row.name, k)
				}
			}
		}
	}
}

// A mirror's copy of a key may be damaged: its document, or what that points at. Signing with the key and replacing its signatures
// fail then, and keys add puts the copy right.
func TestADamagedCopyOfAKeyIsPutRight(t *testing.T) {
	for i, fixture := range []string{"v3-signed", "v2-signed"} {
		l := buildcache.Layouts()[i]
		for _, what := range []string{"document", "content", "gone", "same size"} {
			k, next := signtest.Key(t, "old"), signtest.Key(t, "new")
			m := published(t, fixture)
			if _, err := keyring.Add(t.Context(), m, k.Public()); err != nil {
				t.Fatal(err)
			}
			objects, err := l.ReadKey(t.Context(), m, k.Fingerprint())
			if err != nil {
				t.Fatal(err)
			}
			name, size := objects[0].Name, objects[0].Size
			switch what {
			case "document":
				m.Plant(l.KeyName(k.Fingerprint()), []byte("junk"))
			case "content":
				m.Plant(name, []byte("junk"))
			case "same size":
				m.Plant(name, bytes.Repeat([]byte("x"), int(size)))
			case "gone":
				if l == buildcache.V2 {
					continue
				}
				m.Uproot(name)
			}
			before := m.Snapshot()
			damaged := (*same.DamagedKeyError)(nil)
			if _, err := keyring.Rotate(t.Context(), m, k.Fingerprint(), next); !errors.As(err, &damaged) || !strings.Contains(err.Error(), l.KeyName(k.Fingerprint())) {
				t.Errorf("%s: %s: rotate from it: %v", fixture, what, err)
			}
			if _, err := keyring.Rotate(t.Context(), m, old, k); !errors.As(err, &damaged) {
				t.Errorf("%s: %s: rotate to it: %v", fixture, what, err)
			}
			src, err := source.Open(t.Context(), testdata+strings.Replace(fixture, "signed", "unsigned", 1), source.Selection{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = publish.NewPlan(t.Context(), src, func(string) mirror.Store { return m }, publish.Options{Sign: publish.Signing{Key: k}})
			src.Close()
			// A manifest that names the content of the key at hand tells that the copy said nothing else.
			told := l == buildcache.V3 && (what == "gone" || what == "same size")
			if errors.As(err, &damaged) == told {
				t.Errorf("%s: %s: publish: %v", fixture, what, err)
			}
			if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
				t.Errorf("%s: %s: changed: %s", fixture, what, diff)
			}
			if changes, err := keyring.Add(t.Context(), m, k.Public()); err != nil || !changes[0].Updated {
				t.Errorf("%s: %s: add: %+v, %v", fixture, what, changes, err)
			}
			if held(t, m, l, k.Fingerprint()).Fingerprint() != k.Fingerprint() {
				t.Errorf("%s: %s: it is another key", fixture, what)
			}
		}
	}
}

// A store that does not answer is no damage: nothing is replaced.
func TestAKeyThatCannotBeFetchedIsNotPutRight(t *testing.T) {
	m, k := published(t, "v3-signed"), signtest.Key(t, "old")
	if _, err := keyring.Add(t.Context(), m, k.Public()); err != nil {
		t.Fatal(err)
	}
	before := m.Snapshot()
	if _, err := keyring.Add(t.Context(), mute{m}, k.Public()); !errors.Is(err, errMute) || mirrortest.Diff(before, m.Snapshot()) != "" {
		t.Errorf("add: %v", err)
	}
}

var errMute = errors.New("no answer")

// mute answers no request for content.
type mute struct{ mirror.Store }

func (m mute) Open(_ context.Context, name string) (*mirror.Object, error) {
	if strings.HasPrefix(name, "blobs/") {
		return nil, errMute
	}
	return m.Store.Open(context.Background(), name)
}

// late calls a function before the first document or signature is replaced.
type late struct {
	mirror.Store
	once sync.Once
	do   func()
}

func (l *late) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	l.once.Do(l.do)
	return l.Store.Swap(ctx, u, was)
}

// Of two publishers with different copies of a key, neither takes back what the other one has published.
func TestCopiesOfAKeyThatArePublishedAtOnce(t *testing.T) {
	first, extended, _, revoked := copies(t)
	for i, fixture := range []string{"v3-signed", "v2-signed"} {
		m := published(t, fixture)
		if _, err := keyring.Add(t.Context(), m, first); err != nil {
			t.Fatal(err)
		}
		s := &late{Store: m, do: func() {
			if _, err := keyring.Add(t.Context(), m, revoked); err != nil {
				t.Error(err)
			}
		}}
		if _, err := keyring.Add(t.Context(), s, extended); err != nil {
			t.Fatal(err)
		}
		if p := held(t, m, buildcache.Layouts()[i], first.Fingerprint()); p.Revoked().IsZero() || !p.Expires().Equal(extended.Expires()) {
			t.Errorf("%s: it expires at %s, revoked at %s", fixture, p.Expires(), p.Revoked())
		}
	}
}
