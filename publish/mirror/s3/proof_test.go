package s3

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// marker is an object as publishers have it when they prove.
func marker(t *testing.T, m *Mirror) *mirror.Upload {
	t.Helper()
	u := upload1("v3/layout.json", []byte(`{"signing": "gpg"}`))
	if err := m.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	return &u
}

// Storage that obeys conditions is asked once for each, and nothing is stored by that.
func TestConditionsAreProvedOnce(t *testing.T) {
	server := serve(t, s3test.Options{})
	m := open(t, server).Mirror("p")
	there := marker(t, m)
	server.ForgetLog()
	for range 3 {
		for _, was := range []mirror.Version{mirror.Absent, `"seen"`} {
			if err := m.Prove(t.Context(), was, there); err != nil {
				t.Errorf("was %q: %v", was, err)
			}
		}
	}
	if n := len(server.Log()); n != 2 {
		t.Errorf("%d requests", n)
	}
	if _, stored := server.Object("p/" + proofObject); stored || server.Writes("p/v3/layout.json") != 1 {
		t.Error("the proof has stored something")
	}
	if a, b := m.Proof(mirror.Absent), m.Proof(`"seen"`); a == b || !strings.HasPrefix(a, "if-none-match ") || !strings.HasPrefix(b, "if-match ") {
		t.Errorf("the proofs are %q and %q", a, b)
	}
	// What was proved of a bucket is not believed of its copy elsewhere.
	if other := serve(t, s3test.Options{}); open(t, other).Mirror("p").Proof(mirror.Absent) == m.Proof(mirror.Absent) {
		t.Error("two endpoints have the same proof")
	}
	amazon, err := Open(t.Context(), config(t), Options{Bucket: "bucket", Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	if p := amazon.Mirror("p").Proof(mirror.Absent); p != "" {
		t.Errorf("of Amazon S3 %q is to be proved", p)
	}
}

// Storage that ignores a condition is found out, whichever it is.
func TestIgnoredConditionsAreFoundOut(t *testing.T) {
	for _, header := range []string{ifMatch, ifNoneMatch} {
		server := serve(t, s3test.Options{Ignores: []string{header}})
		m := open(t, server).Mirror("p")
		there := marker(t, m)
		for _, was := range []mirror.Version{mirror.Absent, `"seen"`} {
			asked, _ := conditionOf(was)
			err := m.Prove(t.Context(), was, there)
			var ignored *mirror.ConditionError
			if found := errors.As(err, &ignored); found != (asked == header) {
				t.Errorf("%s is ignored, and the proof of %s: %v", header, asked, err)
			} else if found && (ignored.Header != header || ignored.Said != "") {
				t.Errorf("got %+v", ignored)
			}
		}
	}
}

// An object that was to be there and is not accuses nobody.
func TestTheProofOfAnAbsentObject(t *testing.T) {
	server := serve(t, s3test.Options{})
	m := open(t, server).Mirror("p")
	u := upload1("v3/layout.json", []byte("{}"))
	if err := m.Prove(t.Context(), mirror.Absent, &u); err != nil {
		t.Error(err)
	}
	if err := open(t, server).Mirror("q").Prove(t.Context(), mirror.Absent, nil); err != nil {
		t.Errorf("without an object: %v", err)
	}
}

// A refusal whose text does not arrive is a refusal all the same.
func TestAProofNeedsNoTextOfARefusal(t *testing.T) {
	server := serve(t, s3test.Options{})
	server.Hook(s3test.Always("PutObject", s3test.Refuse(http.StatusNotFound, "")))
	if err := open(t, server).Mirror("p").Prove(t.Context(), "an etag", nil); err != nil {
		t.Error(err)
	}
}

// 501 says what is missing.
func TestWhatIsNotImplementedIsNamed(t *testing.T) {
	for message, words := range map[string]string{
		"Header 'x-amz-checksum-sha256' with value 'x' not implemented":                      "does not implement checksums",
		"A header you provided implies functionality that is not implemented":                "conditional writes (If-None-Match, If-Match) or checksums",
		"A header you provided implies functionality that is not implemented: If-None-Match": "does not implement the condition If-None-Match",
		"If-Match is not supported": "does not implement the condition If-Match",
	} {
		server := serve(t, quick(s3test.Options{}))
		m := open(t, server).Mirror("p")
		server.Hook(func(r *http.Request) s3test.Fault {
			if r.Method == http.MethodPut || r.Method == http.MethodPost {
				return s3test.Refuse(501, "NotImplemented").Saying(message)
			}
			return s3test.None
		})
		for _, content := range [][]byte{smallContent, largeContent} {
			err := m.Create(t.Context(), upload1("x", content))
			if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", message, err)
			}
		}
	}
}

// A single writer needs no conditions, and still replaces only what it has seen.
func TestASingleWriterLooksBeforeItWrites(t *testing.T) {
	server := serve(t, quick(s3test.Options{Unconditional: true}))
	server.Hook(func(r *http.Request) s3test.Fault {
		if r.Header.Get(ifMatch)+r.Header.Get(ifNoneMatch) != "" && r.Method != http.MethodGet {
			return s3test.Refuse(501, "NotImplemented")
		}
		return s3test.None
	})
	m := open(t, server, func(o *Options) { o.SingleWriter = true }).Mirror("p")
	ctx := context.Background()
	if p := m.Proof(mirror.Absent); p != "" {
		t.Errorf("%q is to be proved", p)
	}
	for name, content := range map[string][]byte{"small": smallContent, "large": largeContent} {
		if err := m.Create(ctx, upload1(name, content)); err != nil {
			t.Fatal(err)
		}
		if err := m.Create(ctx, upload1(name, content)); err != nil {
			t.Errorf("again: %v", err)
		}
		if err := m.Create(ctx, upload1(name, []byte("other"))); !errors.Is(err, mirror.ErrExist) {
			t.Errorf("other content: %v", err)
		}
		if n := server.Writes("p/" + name); n != 1 {
			t.Errorf("%s was stored %d times", name, n)
		}
		info, err := m.Stat(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Swap(ctx, upload1(name, []byte("next")), info.Version); err != nil {
			t.Errorf("swap: %v", err)
		}
		if _, err := m.Swap(ctx, upload1(name, []byte("late")), info.Version); !errors.Is(err, mirror.ErrConflict) {
			t.Errorf("swap of what has changed: %v", err)
		}
	}
}
