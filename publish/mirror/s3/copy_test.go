package s3

import (
	"errors"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// vouched is an object that has its SHA-256 in S3, as those sent in one request have.
func vouched(t *testing.T, b *Bucket, content []byte) {
	t.Helper()
	if err := b.Mirror("from").Create(t.Context(), upload1("blob", content)); err != nil {
		t.Fatal(err)
	}
}

func TestS3CopiesWithoutReading(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	vouched(t, b, smallContent)
	s.ForgetLog()
	var sent int64
	u := upload1("blob", smallContent)
	u.Type, u.CacheControl, u.Sent = "application/gzip", "max-age=7", func(n int64) { sent += n }
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", u); err != nil {
		t.Fatal(err)
	}
	got, _ := s.Object("to/blob")
	labels := s.Labels("to/blob")
	if string(got) != string(smallContent) || labels.Get("Content-Type") != "application/gzip" || labels.Get("Cache-Control") != "max-age=7" || sent != int64(len(smallContent)) {
		t.Errorf("%d bytes, %v, %d sent", len(got), labels, sent)
	}
	if s.Count("CopyObject") != 1 || s.Count("HeadObject") != 1 || len(s.Log()) != 2 {
		t.Errorf("%+v", s.Log())
	}
}

// S3 does not vouch for what was sent in parts, nor for what another program has sent, and what is not there cannot be copied.
func TestWhatS3DoesNotVouchForIsNotCopied(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	if err := b.Mirror("from").Create(t.Context(), upload1("parts", largeContent)); err != nil {
		t.Fatal(err)
	}
	s.Put("from/composite", smallContent, true)
	vouched(t, b, noise(9, 3000)) // of the same size
	for name, content := range map[string][]byte{"parts": largeContent, "composite": smallContent, "blob": smallContent} {
		err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), name, upload1("x", content))
		if _, there := s.Object("to/x"); !errors.Is(err, errors.ErrUnsupported) || there {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "gone", upload1("x", smallContent)); !errors.Is(err, mirror.ErrNotExist) {
		t.Error(err)
	}
	nameless := upload1("x", smallContent)
	nameless.Digest = blob.Digest{}
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", nameless); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	elsewhere := open(t, serve(t, s3test.Options{}))
	if err := elsewhere.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("x", noise(9, 3000))); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if s.Count("CopyObject") != 0 {
		t.Errorf("%d copies", s.Count("CopyObject"))
	}
}

// Whatever becomes of a copy, it is there whole, or nothing was stored and it can be sent.
func TestCopiesThatFail(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault s3test.Fault
		once  bool
		there bool
		ok    func(error) bool
	}{
		{"answer lost", s3test.Late(500, "InternalError"), true, true, func(err error) bool { return err == nil }},
		{"always lost", s3test.Late(500, "InternalError"), false, true, func(err error) bool { return err == nil }},
		{"refused once", s3test.Refuse(503, "SlowDown"), true, true, func(err error) bool { return err == nil }},
		{"down", s3test.Refuse(500, "InternalError"), false, false, func(err error) bool {
			return err != nil && !errors.Is(err, errors.ErrUnsupported)
		}},
		{"denied", s3test.Refuse(403, "AccessDenied"), false, false, func(err error) bool { return errors.Is(err, errors.ErrUnsupported) }},
		{"unknown", s3test.Refuse(501, "NotImplemented"), false, false, func(err error) bool { return errors.Is(err, errors.ErrUnsupported) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, s3test.Options{})
			b := open(t, s)
			vouched(t, b, smallContent)
			if c.once {
				s.Hook(s3test.Once("CopyObject", 1, c.fault))
			} else {
				s.Hook(s3test.Always("CopyObject", c.fault))
			}
			err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("blob", smallContent))
			if _, there := s.Object("to/blob"); !c.ok(err) || there != c.there {
				t.Errorf("%v, there: %v", err, there)
			}
		})
	}
}

// One that may not read the other bucket asks once.
func TestOneThatMayNotCopyAsksOnce(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	vouched(t, b, smallContent)
	s.Hook(s3test.Always("CopyObject", s3test.Refuse(403, "AccessDenied")))
	for range 3 {
		if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("blob", smallContent)); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	if s.Count("CopyObject") != 1 {
		t.Errorf("%d copies", s.Count("CopyObject"))
	}
}

// What is there is not overwritten: the same content is success, another is left to Create, which raises the alarm.
func TestACopyOverwritesNothing(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	vouched(t, b, smallContent)
	to := b.Mirror("to")
	for range 2 {
		if err := to.CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("blob", smallContent)); err != nil {
			t.Fatal(err)
		}
	}
	if s.Writes("to/blob") != 1 {
		t.Errorf("written %d times", s.Writes("to/blob"))
	}
	other := noise(9, 3000)
	if err := to.Create(t.Context(), upload1("taken", other)); err != nil {
		t.Fatal(err)
	}
	err := to.CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("taken", smallContent))
	if got, _ := s.Object("to/taken"); !errors.Is(err, errors.ErrUnsupported) || string(got) != string(other) {
		t.Error(err)
	}
}

// The name of a source is escaped once.
func TestCopiesOfStrangeNames(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	name := "a b/gcc+x%20ü?=&#.json"
	if err := b.Mirror("from").Create(t.Context(), upload1(name, smallContent)); err != nil {
		t.Fatal(err)
	}
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), name, upload1(name, smallContent)); err != nil {
		t.Fatal(err)
	}
	if got, there := s.Object("to/" + name); !there || !strings.HasPrefix(string(smallContent), string(got)) {
		t.Error(there)
	}
}
