package same_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

// plant stores objects, the document of the first key with other content where it is given, and lists them.
func plant(t *testing.T, objects []buildcache.Object, document string) (*mirrortest.Mem, *buildcache.Survey) {
	t.Helper()
	m := mirrortest.NewMem(t)
	seen := &buildcache.Survey{Objects: map[string]mirror.Info{}}
	for i, o := range objects {
		r, err := o.Content.Open()
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, o.Content.Size())
		if _, err := r.ReadAt(content, 0); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if i == len(objects)-1 && document != "" {
			content = []byte(document)
		}
		m.Plant(o.Name, content)
		seen.Objects[o.Name] = listed(t, m, o.Name, buildcache.MD5(content))
	}
	return m, seen
}

// What a mirror lacks of a key is stored. A copy that is the same is not read, and one that cannot be read stays, is said to be
// damaged, and is replaced by a repair alone.
func TestKey(t *testing.T) {
	public := signtest.Key(t, "cache").Public()
	for _, l := range buildcache.Layouts() {
		objects, err := buildcache.KeyObjects(l, public)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range []struct {
			what     string
			there    []buildcache.Object
			document string // in place of the document that is there
			absent   int
			damaged  bool
			requests string // of Key
		}{
			{"nothing", nil, "", len(objects), false, ""},
			{"the same", objects, "", 0, false, ""},
			{"damaged", objects, "{}", 0, true, "open"},
		} {
			m, seen := plant(t, row.there, row.document)
			got, err := same.Key(t.Context(), seen, l, m, public, objects)
			if calls := requests(m); err != nil || len(got.Absent) != row.absent || (got.Damage != nil) != row.damaged || calls != row.requests {
				t.Errorf("%s: %s: %d absent, damage %v after %q, %v", l.Name(), row.what, len(got.Absent), got.Damage, calls, err)
			}
			var damage *same.DamagedKeyError
			known, err := same.Known(t.Context(), seen, l, m, public)
			if row.damaged != errors.As(err, &damage) || !row.damaged && (err != nil || known.Fingerprint() != public.Fingerprint()) {
				t.Errorf("%s: %s: known is %v, %v", l.Name(), row.what, known, err)
			}
			if _, _, err := same.Merged(t.Context(), l, m, public, false); row.damaged != errors.As(err, &damage) {
				t.Errorf("%s: %s: merged: %v", l.Name(), row.what, err)
			}
			replaces, was, err := same.Merged(t.Context(), l, m, public, true)
			if err != nil || (len(replaces) > 0) != (row.damaged || row.absent > 0) || row.damaged == (was == mirror.Absent || was == "") {
				t.Errorf("%s: %s: a repair stores %d objects in place of %q, %v", l.Name(), row.what, len(replaces), was, err)
			}
		}
	}
}

// The content of a key that has another size under its name is damage, though its document is right.
func TestDamagedContentOfAKey(t *testing.T) {
	public := signtest.Key(t, "cache").Public()
	objects, err := buildcache.KeyObjects(buildcache.V3, public)
	if err != nil {
		t.Fatal(err)
	}
	m, seen := plant(t, objects, "")
	m.Plant(objects[0].Name, []byte("cut off"))
	seen.Objects[objects[0].Name] = listed(t, m, objects[0].Name, "")
	got, err := same.Key(t.Context(), seen, buildcache.V3, m, public, objects)
	if err != nil || len(got.Absent) > 0 || got.Damage == nil || !strings.Contains(got.Damage.Error(), same.Mend) {
		t.Errorf("%d absent, damage %v, %v", len(got.Absent), got.Damage, err)
	}
	var damage *same.DamagedKeyError
	if _, err := same.Known(t.Context(), seen, buildcache.V3, m, public); !errors.As(err, &damage) || damage.Key != public.Fingerprint() {
		t.Errorf("known: %v", err)
	}
	repaired, _, err := same.Merged(t.Context(), buildcache.V3, m, public, true)
	if err != nil || len(repaired) != 2 || repaired[0].Name == objects[0].Name {
		t.Errorf("a repair stores %v, %v", repaired, err)
	}
}

// An index of keys that names all of them will do, though it names more; it is read only if it is another one. Keys that it names
// and that were retired are returned.
func TestKeyIndex(t *testing.T) {
	one, two := signtest.Key(t, "one").Fingerprint(), signtest.Key(t, "two").Fingerprint()
	for _, l := range buildcache.Layouts() {
		index := func(keys ...key.Fingerprint) []buildcache.Object {
			objects, err := l.KeyIndex(keys)
			if err != nil {
				t.Fatal(err)
			}
			return objects
		}
		for _, row := range []struct {
			what    string
			there   []buildcache.Object
			retired bool // one
			want    []key.Fingerprint
			names   bool
			reads   bool
		}{
			{"nothing is there", nil, false, []key.Fingerprint{one}, false, false},
			{"the same", index(one), false, []key.Fingerprint{one}, true, false},
			{"more", index(one, two), false, []key.Fingerprint{two}, true, true},
			{"less", index(one), false, []key.Fingerprint{one, two}, false, true},
			{"others", index(one), false, []key.Fingerprint{two}, false, true},
			{"more, and retired", index(one, two), true, []key.Fingerprint{two}, true, true},
		} {
			m, seen := plant(t, row.there, "")
			if row.retired {
				seen.Objects[l.RetiredKeyName(one)] = mirror.Info{Size: 1}
			}
			last := index(row.want...)
			names, retired, err := same.KeyIndex(t.Context(), seen, l, m, last[len(last)-1], row.want)
			if calls := requests(m); err != nil || names != row.names || (len(retired) > 0) != row.retired || (calls != "") != row.reads {
				t.Errorf("%s: %s: %v, retired %v after %q, %v", l.Name(), row.what, names, retired, calls, err)
			}
			if holds := (same.Retirements{{Layout: l, Seen: seen}}).Holds(one); holds != row.retired {
				t.Errorf("%s: %s: retired %v", l.Name(), row.what, holds)
			}
		}
	}
}
