package same_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// requests are the calls of a mirror so far, which are forgotten.
func requests(m *mirrortest.Mem) string {
	var all []string
	for _, c := range m.Calls() {
		all = append(all, fmt.Sprint(c.Op))
	}
	m.Forget()
	return strings.Join(all, " ")
}

// listed is what a listing says of an object, with an MD5 or without.
func listed(t *testing.T, m *mirrortest.Mem, name, md5 string) mirror.Info {
	t.Helper()
	info, err := m.Stat(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info.MD5 = md5
	m.Forget()
	return info
}

// A document is compared by its MD5 where that decides, and read where it does not and it matters.
func TestDocument(t *testing.T) {
	const name = "v3/manifests/spec/zlib/a"
	md5 := func(text string) string { return buildcache.MD5([]byte(text)) }
	for _, row := range []struct {
		what             string
		there, ours, md5 string
		doubt            bool
		equal            bool
		requests         string
	}{
		{"the same, by its MD5", "text", "text", md5("text"), true, true, ""},
		{"of another size", "text", "texts", "", true, false, ""},
		{"of another size and the same MD5", "text", "texts", md5("texts"), true, false, ""},
		{"another, by its MD5", "text", "next", md5("text"), false, false, ""},
		{"another, and it matters", "text", "next", md5("text"), true, false, "open"},
		{"the same, encrypted: its ETag is no MD5", "text", "text", md5("cipher"), true, true, "open"},
		{"the same, encrypted, and it does not matter", "text", "text", md5("cipher"), false, false, ""},
		{"the same, without an MD5", "text", "text", "", false, true, "open"},
		{"another, without an MD5", "text", "next", "", false, false, "open"},
	} {
		m := mirrortest.NewMem(t)
		m.Plant(name, []byte(row.there))
		info := listed(t, m, name, row.md5)
		equal, err := same.Document(t.Context(), m, info, []byte(row.ours), row.doubt)
		if got := requests(m); err != nil || equal != row.equal || got != row.requests {
			t.Errorf("%s: %v after %q, %v", row.what, equal, got, err)
		}
		of, err := same.Listed(info, buildcache.NewObject(name, []byte(row.ours), "text/plain", ""))
		if want := row.md5 == md5(row.ours); err != nil || of != want {
			t.Errorf("%s: listed %v, %v", row.what, of, err)
		}
	}
}

// checksummed is a store that tells CRCs.
type checksummed struct {
	mirror.Store
	crc string
}

func (c checksummed) Stat(ctx context.Context, name string) (mirror.Info, error) {
	info, err := c.Store.Stat(ctx, name)
	info.CRC64NVME = c.crc
	return info, err
}

// A file is compared by the checksums that the storage has, and read only where it has none.
func TestFile(t *testing.T) {
	const name = "release/slurm.tar"
	crc := func(text string) string {
		h := crc64nvme.New()
		h.Write([]byte(text))
		return base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	for _, row := range []struct {
		what                  string
		there, ours, md5, crc string
		equal                 bool
		requests              string
	}{
		{"the same, by its MD5", "text", "text", buildcache.MD5([]byte("text")), "", true, ""},
		{"of another size", "text", "texts", "", "", false, ""},
		{"the same, sent in parts", "text", "text", "etag-2", crc("text"), true, "stat"},
		{"another, sent in parts", "text", "next", "etag-2", crc("text"), false, "stat"},
		{"the same, without checksums", "text", "text", "", "", true, "stat open"},
		{"another, without checksums", "text", "next", "", "", false, "stat open"},
	} {
		m := mirrortest.NewMem(t)
		m.Plant(name, []byte(row.there))
		equal, err := same.File(t.Context(), checksummed{m, row.crc}, buildcache.NewObject(name, []byte(row.ours), "", ""), listed(t, m, name, row.md5))
		if got := requests(m); err != nil || equal != row.equal || got != row.requests {
			t.Errorf("%s: %v after %q, %v", row.what, equal, got, err)
		}
	}
}

// A tarball of layout v2 under a name that is taken must be the one that is there. In layout v3, the name says so.
func TestTarball(t *testing.T) {
	const name = "build_cache/zlib.spack"
	ours := buildcache.NewObject(name, []byte("ours"), "", "")
	spoilt := ours
	spoilt.Digest = blob.DigestOf([]byte("promised"))
	for _, row := range []struct {
		what   string
		layout buildcache.Layout
		there  string // content; empty: nothing is there
		object buildcache.Object
		want   string // in the error; empty: there is none
	}{
		{"nothing is there", buildcache.V2, "", ours, ""},
		{"the same is there", buildcache.V2, "ours", ours, ""},
		{"another is there", buildcache.V2, "else", ours, "another build"},
		{"ours is not what its document says", buildcache.V2, "ours", spoilt, "sha256"},
		{"a name that says the content", buildcache.V3, "else", ours, ""},
	} {
		m := mirrortest.NewMem(t)
		seen := &buildcache.Survey{Objects: map[string]mirror.Info{}}
		if row.there != "" {
			m.Plant(name, []byte(row.there))
			seen.Objects[name] = listed(t, m, name, "")
		}
		err := same.Tarball(t.Context(), seen, row.layout, m, row.object)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.what, err)
		}
	}
}

// A document whose text is complete is never too short, whatever signatures the two have; half of it is.
func TestShort(t *testing.T) {
	text := []byte("[" + strings.Repeat("\"a line of a document\",\n", 100) + "0]")
	signed, err := signtest.Key(t, "cache").Document(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		size int
		ours []byte
		want bool
	}{
		{len(text), text, false}, {len(signed), text, false}, {len(text), signed, false}, {len(signed), signed, false},
		{len(text) / 2, text, true}, {len(text) / 2, signed, true}, {0, signed, true},
	} {
		if got := same.Short(mirror.Info{Size: int64(row.size)}, row.ours); got != row.want {
			t.Errorf("%d bytes beside %d: %v", row.size, len(row.ours), got)
		}
	}
}

// Documents that clients fail on are found. One that is gone or withdrawn is nothing to clients, and a fault of the storage says
// nothing about any.
func TestUnreadable(t *testing.T) {
	for i, fixture := range []string{"v3-signed", "v2-signed"} {
		l := buildcache.Layouts()[i]
		m := publishtest.Planted(t, fixture)
		var names []string
		for _, name := range slices.Sorted(slices.Values(publishtest.NamesOf(m.Snapshot()))) {
			if _, ok := l.ParsePackageName(name); ok {
				names = append(names, name)
			}
		}
		if len(names) < 4 {
			t.Fatalf("%s has %q", fixture, names)
		}
		damaged, withdrawn, gone := names[0], names[1], names[2]
		m.Plant(damaged, []byte("{}"))
		grave, err := (&tombstone.Tombstone{Withdrawal: history.Withdrawal{Reason: "it is broken", Document: withdrawn}, Text: "text"}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if l.NamesContent() { // else tombstones are apart
			m.Plant(withdrawn, grave)
		}
		m.Uproot(gone)
		wrong, err := same.Unreadable(t.Context(), l, m, names)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if bad := name == damaged; (wrong[name] != nil) != bad {
				t.Errorf("%s: %s: %v", fixture, name, wrong[name])
			}
		}
		fault := mirrortest.Break(m, mirrortest.Fail(names[3], mirror.ErrFault))
		if _, err := same.Unreadable(t.Context(), l, fault, names); !errors.Is(err, mirror.ErrFault) {
			t.Errorf("%s: of a fault: %v", fixture, err)
		}
	}
}
