package s3

import (
	"bytes"
	"errors"
	"fmt"
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
	if s.Count("CopyObject") != 2 || s.Count("HeadObject") != 1 || len(s.Log()) != 3 { // one of them is the proof that it refuses to overwrite
		t.Errorf("%+v", s.Log())
	}
}

// composite is an object of which S3 has no SHA-256, as those that other programs send in parts.
func composite(s *s3test.Server, key string, content []byte) { s.Put(key, content, true) }

// Of what was sent in parts, or by another program, S3 computes the SHA-256 while it copies, and vouches for it from then on.
func TestS3ComputesWhatItCopies(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	if err := b.Mirror("from").Create(t.Context(), upload1("parts", largeContent)); err != nil {
		t.Fatal(err)
	}
	composite(s, "from/composite", largeContent)
	for _, name := range []string{"parts", "composite"} {
		s.ForgetLog()
		u := upload1(name, largeContent)
		u.Type, u.CacheControl = "application/gzip", "max-age=7"
		if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), name, u); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, _ := s.Object("to/" + name); !bytes.Equal(got, largeContent) || s.Labels("to/"+name).Get("Cache-Control") != "max-age=7" {
			t.Errorf("%s: %d bytes, %v", name, len(got), s.Labels("to/"+name))
		}
		if s.Count("UploadPartCopy") != 1 || s.Count("GetObject") != 0 || s.Count("UploadPart") != 0 {
			t.Errorf("%s: %+v", name, s.Log())
		}
		s.ForgetLog()
		if err := b.Mirror("again").CopyFrom(t.Context(), b.Mirror("to"), name, upload1(name, largeContent)); err != nil || s.Count("CopyObject") == 0 || s.Count("GetObject") != 0 {
			t.Errorf("%s, copied again: %v, %+v", name, err, s.Log())
		}
		// Another publisher that sends the same content finds it there.
		s.ForgetLog()
		if err := b.Mirror("to").Create(t.Context(), upload1(name, largeContent)); err != nil || s.Writes("to/"+name) != 1 || s.Count("GetObject") != 0 {
			t.Errorf("%s, sent again: %v, %+v", name, err, s.Log())
		}
	}
	if n := s.OpenUploads(); n != 0 {
		t.Errorf("%d unfinished uploads", n)
	}
}

// Content that is not what it is said to be never gets the name, nor what is not worth three requests; and what is not there
// cannot be copied.
func TestWhatS3DoesNotVouchForIsNotCopied(t *testing.T) {
	s := serve(t, s3test.Options{})
	b := open(t, s)
	if err := b.Mirror("from").Create(t.Context(), upload1("parts", largeContent)); err != nil {
		t.Fatal(err)
	}
	composite(s, "from/composite", smallContent)
	other := noise(9, len(largeContent))
	vouched(t, b, noise(9, 3000)) // of the same size
	for name, content := range map[string][]byte{"parts": other, "composite": smallContent, "blob": smallContent} {
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
	if s.Count("CopyObject") != 0 || s.OpenUploads() != 0 {
		t.Errorf("%d copies, %d unfinished uploads", s.Count("CopyObject"), s.OpenUploads())
	}
	mute := serve(t, s3test.Options{NoChecksums: true})
	b = open(t, mute)
	composite(mute, "from/x", largeContent)
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "x", upload1("x", largeContent)); !errors.Is(err, errors.ErrUnsupported) || mute.Writes("to/x") > 0 || mute.OpenUploads() > 0 {
		t.Errorf("storage that does not say what it has copied: %v", err)
	}
}

// huge opens a server that copies at most 6 MiB by one request, and a bucket on it that knows.
func huge(t *testing.T) (*s3test.Server, *Bucket) {
	t.Helper()
	s := serve(t, s3test.Options{LargestCopy: 6 << 20})
	b := open(t, s)
	b.copies.OnePart = 6 << 20
	return s, b
}

// What is too large for one request is copied in parts, if its publisher has noted the SHA-256 of all of it.
func TestS3CopiesInParts(t *testing.T) {
	s, b := huge(t)
	if err := b.Mirror("from").Create(t.Context(), upload1("huge", largeContent)); err != nil {
		t.Fatal(err)
	}
	if noted := s.Labels("from/huge").Get("X-Amz-Meta-Sha256"); noted != blob.DigestOf(largeContent).String() {
		t.Fatalf("noted %q", noted)
	}
	s.ForgetLog()
	for range 2 {
		if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "huge", upload1("huge", largeContent)); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := s.Object("to/huge"); !bytes.Equal(got, largeContent) || s.Writes("to/huge") != 1 || s.OpenUploads() != 0 {
		t.Errorf("%d bytes, written %d times, %d unfinished uploads", len(got), s.Writes("to/huge"), s.OpenUploads())
	}
	if want := 2 * ((len(largeContent) + 6<<20 - 1) / (6 << 20)); s.Count("UploadPartCopy") != want || s.Count("GetObject")+s.Count("UploadPart")+s.Count("CopyObject") != 0 {
		t.Errorf("%+v", s.Log())
	}
	if err := b.Mirror("again").CopyFrom(t.Context(), b.Mirror("to"), "huge", upload1("huge", largeContent)); err != nil {
		t.Errorf("a copy of the copy: %v", err)
	}
	other := noise(9, len(largeContent))
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "huge", upload1("other", other)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("other content than was noted: %v", err)
	}
	composite(s, "from/unnoted", largeContent)
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "unnoted", upload1("unnoted", largeContent)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("nothing was noted: %v", err)
	}
}

// Whatever becomes of a copy in parts: it is there whole, or nothing is, and nothing is left over unless the storage is down.
func TestCopiesInPartsThatFail(t *testing.T) {
	for _, large := range []bool{false, true} {
		for _, operation := range []string{"CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"} {
			for _, c := range []struct {
				name  string
				fault s3test.Fault
				once  bool
				whole bool // it must succeed
			}{
				{"answer lost", s3test.Late(500, "InternalError"), true, true},
				{"refused once", s3test.Refuse(503, "SlowDown"), true, true},
				{"down", s3test.Refuse(500, "InternalError"), false, false},
				{"denied", s3test.Refuse(403, "AccessDenied"), false, false},
				{"unknown", s3test.Refuse(501, "NotImplemented"), false, false},
			} {
				t.Run(fmt.Sprintf("%v %s %s", large, operation, c.name), func(t *testing.T) {
					t.Parallel()
					s, b := huge(t)
					if !large {
						s = serve(t, s3test.Options{})
						b = open(t, s)
					}
					if err := b.Mirror("from").Create(t.Context(), upload1("huge", largeContent)); err != nil {
						t.Fatal(err)
					}
					if c.once {
						s.Hook(s3test.Once(operation, 1, c.fault))
					} else {
						s.Hook(s3test.Always(operation, c.fault))
					}
					err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "huge", upload1("huge", largeContent))
					got, there := s.Object("to/huge")
					if there && !bytes.Equal(got, largeContent) || (err == nil) != there || c.whole && err != nil {
						t.Errorf("%v, there: %v", err, there)
					}
					if !there && c.name != "down" && operation != "CreateMultipartUpload" && s.OpenUploads() != 0 {
						t.Errorf("%d unfinished uploads", s.OpenUploads())
					}
					s.Hook(nil)
					if b.refusesCopies.Clear(); b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "huge", upload1("huge", largeContent)) != nil {
						t.Error("the second copy fails")
					}
				})
			}
		}
	}
}

// Storage that copies over what is there although it must not is found out by its first copy. From then on objects are copied as
// parts, since it obeys where an upload is completed, and small ones are left to be sent.
func TestStorageThatIgnoresConditionsOnCopies(t *testing.T) {
	s := serve(t, s3test.Options{Overwrites: true})
	b := open(t, s)
	large := noise(7, 300<<10)
	for name, content := range map[string][]byte{"blob": smallContent, "large": large} {
		if err := b.Mirror("from").Create(t.Context(), upload1(name, content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("blob", smallContent)); err != nil {
		t.Fatal(err)
	}
	other := noise(9, len(large))
	if err := b.Mirror("to").Create(t.Context(), upload1("taken", other)); err != nil {
		t.Fatal(err)
	}
	copied := s.Count("CopyObject")
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "large", upload1("taken", large)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("over another object: %v", err)
	}
	if got, _ := s.Object("to/taken"); !bytes.Equal(got, other) {
		t.Error("an object was overwritten")
	}
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "blob", upload1("small", smallContent)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a small object: %v", err)
	}
	if err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), "large", upload1("large", large)); err != nil || s.Count("GetObject") != 0 || s.Count("CopyObject") != copied {
		t.Errorf("a large object: %v, %d reads, %d copies", err, s.Count("GetObject"), s.Count("CopyObject"))
	}
}

// Storage that copies no parts of uploads with checksums is asked once, and nothing of that is left.
func TestStorageThatCopiesNoPartsIsAskedOnce(t *testing.T) {
	s := serve(t, s3test.Options{Overwrites: true})
	s.Hook(s3test.Always("UploadPartCopy", s3test.Refuse(400, "InvalidArgument")))
	b := open(t, s)
	for i := range 3 {
		name, content := fmt.Sprint("blob", i), noise(byte(i), 300<<10)
		if err := b.Mirror("from").Create(t.Context(), upload1(name, content)); err != nil {
			t.Fatal(err)
		}
		err := b.Mirror("to").CopyFrom(t.Context(), b.Mirror("from"), name, upload1(name, content))
		if i > 0 && !errors.Is(err, errors.ErrUnsupported) { // the first is copied whole, which shows that conditions are ignored
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.Count("UploadPartCopy") != 1 || s.OpenUploads() != 0 {
		t.Errorf("%d requests to copy a part, %d uploads are left", s.Count("UploadPartCopy"), s.OpenUploads())
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
