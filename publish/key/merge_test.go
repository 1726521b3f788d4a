package key_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

func mustRead(t *testing.T, armored []byte) *key.Public {
	t.Helper()
	p, err := key.ReadPublic(armored)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Copies of a key are merged as gpg merges them when it imports one after the other, in either order: what was added stays, of times of
// expiry the last one set counts, and a revocation is never lost.
func TestCopiesOfAKeyAreMergedAsByGPG(t *testing.T) {
	k := newKeyring(t).at("20250101")
	f := k.key("a", "ed25519", "sign", "20260101T000000")
	first := k.public(f)
	k = k.at("20250102")
	k.run(nil, "--quick-set-expire", f, "20400101T000000")
	extended := k.public(f)
	k = k.at("20250103")
	k.run(nil, "--quick-add-key", f, "ed25519", "sign", "never")
	k.run(nil, "--quick-add-uid", f, "second <second@example.invalid>")
	more := k.public(f)
	k.revoke(f, "0")
	revoked := k.public(f)

	for _, row := range []struct {
		name        string
		there, with []byte
		more        bool
	}{
		{"an extended one over the first", first, extended, true},
		{"the first over an extended one", extended, first, false},
		{"the same", more, more, false},
		{"an identity and a subkey", extended, more, true},
		{"a revocation", more, revoked, true},
		{"one without the revocation", revoked, more, false},
		{"the first over a revoked one", revoked, first, false},
		{"a revoked one over the first", first, revoked, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			there, with := mustRead(t, row.there), mustRead(t, row.with)
			merged, more, err := there.Merged(with)
			if err != nil || more != row.more {
				t.Fatalf("more: %t, %v", more, err)
			}
			armored, err := merged.Armored()
			if err != nil {
				t.Fatal(err)
			}
			want := newKeyring(t)
			want.run(row.there, "--import")
			want.run(row.with, "--import")
			got := newKeyring(t)
			got.run(armored, "--import")
			if a, b := listing(got, f), listing(want, f); a != b {
				t.Errorf("gpg lists\n%s\nand of both copies\n%s", a, b)
			}
			if again, more, err := merged.Merged(with); err != nil || more || again != merged {
				t.Errorf("merged again: %t, %v", more, err)
			}
		})
	}
	p, _, err := mustRead(t, first).Merged(mustRead(t, revoked))
	if err != nil || p.Revoked().IsZero() || !p.Expires().Equal(time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("revoked %s, expires %s, %v", p.Revoked(), p.Expires(), err)
	}
	if _, _, err := p.Merged(mustRead(t, k.public(k.key("b", "ed25519", "sign", "never")))); err == nil || !strings.Contains(err.Error(), "is another key than "+f) {
		t.Errorf("two keys are merged: %v", err)
	}
}

// listing is what gpg knows of a key, without what depends on the order in which it learned of it.
func listing(k *keyring, f string) string {
	var lines []string
	for line := range strings.Lines(string(k.run(nil, "--with-colons", "--fixed-list-mode", "--list-keys", f))) {
		if !strings.HasPrefix(line, "tru:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// A ring that is given a newer copy of a key judges by both.
func TestARingTakesOverANewerCopy(t *testing.T) {
	k := newKeyring(t).at("20250101")
	f := k.key("a", "ed25519", "sign", "20250110T000000")
	ring, err := key.ReadRing(k.public(f))
	if err != nil {
		t.Fatal(err)
	}
	k = k.at("20250105")
	k.run(nil, "--quick-set-expire", f, "never")
	document := k.at("20250120").sign(f, []byte(manifestText))
	if _, err := ring.Verify(document); err == nil {
		t.Error("the old copy accepts what was signed after its expiry")
	}
	extended := mustRead(t, k.public(f))
	if _, err := ring.With(extended).Verify(document); err != nil {
		t.Error(err)
	}
	if ring.With(extended).With(mustRead(t, k.public(f))) == nil || len(ring.With(extended).Fingerprints()) != 1 {
		t.Error("it holds two copies")
	}
}
