package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// quick makes a server hash faster than the standard library does. Its ETags are no MD5.
func quick(o s3test.Options) s3test.Options {
	o.MD5 = func(*http.Request) hash.Hash { return crc64nvme.New() }
	o.CRC64NVME = crc64nvme.New
	return o
}

func noise(seed byte, size int) []byte {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(content)
	return content
}

func upload1(name string, content []byte) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes(content), Digest: blob.DigestOf(content), Type: "application/x-test", CacheControl: "no-cache"}
}

// impatient ends a request much sooner than a user would want, if it is not to be answered.
func impatient(b *Bucket, fault string) {
	patience := 500 * time.Millisecond // no request of ours takes that long, even on a machine that is busy
	if raced {
		patience = time.Second
	}
	if fault == "stall" || fault == "hang" {
		b.client.Options().HTTPClient.(*wire.Client).Patience = patience
	}
}

var (
	smallContent = noise(1, 3000)
	largeContent = noise(2, 2*minPart+1000) // three parts
)

// writes are the ways to store something.
var writes = []struct {
	name    string
	content []byte
	write   func(ctx context.Context, m *Mirror, u mirror.Upload) error
}{
	{"create small", smallContent, func(ctx context.Context, m *Mirror, u mirror.Upload) error { return m.Create(ctx, u) }},
	{"create large", largeContent, func(ctx context.Context, m *Mirror, u mirror.Upload) error { return m.Create(ctx, u) }},
	{"swap in", smallContent, func(ctx context.Context, m *Mirror, u mirror.Upload) error {
		_, err := m.Swap(ctx, u, mirror.Absent)
		return err
	}},
	{"swap large in", largeContent, func(ctx context.Context, m *Mirror, u mirror.Upload) error {
		_, err := m.Swap(ctx, u, mirror.Absent)
		return err
	}},
}

// passing are the faults that no user should ever hear of.
var passing = map[string]s3test.Fault{
	"drop":        s3test.Drop,
	"lie":         s3test.Lie,
	"reset":       s3test.Reset,
	"stall":       s3test.Stall,
	"hang":        s3test.Hang,
	"truncate":    s3test.Truncate,
	"408":         s3test.Refuse(408, "RequestTimeout"),
	"400 timeout": s3test.Refuse(400, "RequestTimeout"),
	"500":         s3test.Refuse(500, "InternalError"),
	"500 late":    s3test.Late(500, "InternalError"),
	"503":         s3test.Refuse(503, "SlowDown"),
	"502 late":    s3test.Late(502, "BadGateway"),
	"409":         s3test.Refuse(409, "ConditionalRequestConflict"),
	"412":         s3test.Refuse(412, "PreconditionFailed"), // by an object that has gone since
}

// interleaving are the faults after which two attempts can meet: enough for the race
// detector.
var interleaving = map[string]bool{"lie": true, "reset": true, "stall": true, "truncate": true}

// only says where a fault can happen, if not everywhere.
var only = map[string][]string{
	"409": {"PutObject", "UploadPart", "CompleteMultipartUpload"},
	"412": {"PutObject", "CompleteMultipartUpload"},
}

func can(fault, operation string) bool {
	if raced && !interleaving[fault] {
		return false
	}
	if only[fault] == nil {
		return true
	}
	for _, op := range only[fault] {
		if op == operation {
			return true
		}
	}
	return false
}

// requests are those of an undisturbed write: operation -> how many.
func requests(t *testing.T, write func(context.Context, *Mirror, mirror.Upload) error, content []byte) map[string]int {
	server := serve(t, quick(s3test.Options{}))
	if err := write(t.Context(), open(t, server).Mirror(""), upload1("x", content)); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, e := range server.Log() {
		n[e.Operation]++
	}
	return n
}

// TestPassingFaults: whatever goes wrong once, with any one request, the write succeeds, the
// object is stored once, and nothing is left behind.
func TestPassingFaults(t *testing.T) {
	for _, w := range writes {
		for operation, times := range requests(t, w.write, w.content) {
			if w.name == "swap large in" && operation != "CompleteMultipartUpload" {
				continue // all else is as in creating
			}
			for n := 1; n <= times; n++ {
				for what, fault := range passing {
					if !can(what, operation) {
						continue
					}
					for _, forgetful := range []bool{false, true} {
						if forgetful && operation != "CompleteMultipartUpload" {
							continue
						}
						t.Run(fmt.Sprintf("%s/%s/%d/%s/%v", w.name, operation, n, what, forgetful), func(t *testing.T) {
							t.Parallel()
							server := serve(t, quick(s3test.Options{Forgetful: forgetful}))
							b := open(t, server)
							impatient(b, what)
							m := b.Mirror("p")
							server.Hook(s3test.Once(operation, n, fault))
							if err := w.write(t.Context(), m, upload1("x", w.content)); err != nil {
								t.Fatalf("it was heard of: %v", err)
							}
							server.Hook(nil)
							wantStoredOnce(t, server, "p/x", w.content)
							wantNothingNew(t, server, func() error { return w.write(t.Context(), m, upload1("x", w.content)) })
						})
					}
				}
			}
		}
	}
}

func wantStoredOnce(t *testing.T, server *s3test.Server, key string, content []byte) {
	t.Helper()
	got, ok := server.Object(key)
	if !ok || !bytes.Equal(got, content) {
		t.Errorf("%s: there %v, %d bytes, want %d", key, ok, len(got), len(content))
	}
	if n := server.Writes(key); n != 1 {
		t.Errorf("%s was stored %d times", key, n)
	}
	if h := server.Labels(key); h.Get("Cache-Control") != "no-cache" || h.Get("Content-Type") != "application/x-test" {
		t.Errorf("%s has the labels %v", key, h)
	}
	if n := server.OpenUploads(); n != 0 {
		t.Errorf("%d uploads are left behind", n)
	}
}

// wantNothingNew checks that writing again what is there changes nothing, and that no part
// goes up again.
func wantNothingNew(t *testing.T, server *s3test.Server, write func() error) {
	t.Helper()
	server.ForgetLog()
	if err := write(); err != nil {
		t.Fatalf("again: %v", err)
	}
	for _, e := range server.Log() {
		if e.Status == 0 { // one from before, that hung until now
			continue
		}
		if e.Mutates() && e.Status < 300 || e.Operation == "UploadPart" {
			t.Errorf("again: %s was answered %d", e.Operation, e.Status)
		}
	}
}

// TestLastingFaults: what goes wrong every time is said in the mirror's words, leaves nothing
// visible, and what had arrived does not go up again when the fault is gone.
func TestLastingFaults(t *testing.T) {
	denied := func(action string) func(error) bool {
		return func(err error) bool {
			var d *mirror.DeniedError
			return errors.As(err, &d) && d.Action == action && d.Name == "p/x"
		}
	}
	is := func(want error) func(error) bool {
		return func(err error) bool { return errors.Is(err, want) && !errors.Is(err, mirror.ErrDenied) }
	}
	elsewhere := func(err error) bool {
		var r *mirror.RegionError
		return errors.As(err, &r) && r.Region == "eu-west-3" && r.Asked == "us-east-1"
	}
	some := func(err error) bool { return err != nil }
	for _, row := range []struct {
		name      string
		operation string
		content   []byte
		fault     s3test.Fault
		want      func(error) bool
	}{
		{"put denied", "PutObject", smallContent, s3test.Refuse(403, "AccessDenied"), denied("s3:PutObject")},
		{"begin denied", "CreateMultipartUpload", largeContent, s3test.Refuse(403, "AccessDenied"), denied("s3:PutObject")},
		{"part denied", "UploadPart", largeContent, s3test.Refuse(403, "AccessDenied"), denied("s3:PutObject")},
		{"complete denied", "CompleteMultipartUpload", largeContent, s3test.Refuse(403, "AccessDenied"), denied("s3:PutObject")},
		{"put expired", "PutObject", smallContent, s3test.Refuse(400, "ExpiredToken"), is(mirror.ErrCredentials)},
		{"part expired", "UploadPart", largeContent, s3test.Refuse(400, "ExpiredToken"), is(mirror.ErrCredentials)},
		{"complete expired", "CompleteMultipartUpload", largeContent, s3test.Refuse(400, "ExpiredToken"), is(mirror.ErrCredentials)},
		{"wrong key", "PutObject", smallContent, s3test.Refuse(403, "InvalidAccessKeyId"), is(mirror.ErrCredentials)},
		{"wrong secret", "PutObject", smallContent, s3test.Refuse(403, "SignatureDoesNotMatch"), is(mirror.ErrCredentials)},
		{"no bucket", "PutObject", smallContent, s3test.Refuse(404, "NoSuchBucket"), is(mirror.ErrNoBucket)},
		{"no bucket, large", "CreateMultipartUpload", largeContent, s3test.Refuse(404, "NoSuchBucket"), is(mirror.ErrNoBucket)},
		{"elsewhere", "PutObject", smallContent, s3test.Refuse(301, "PermanentRedirect").With("X-Amz-Bucket-Region", "eu-west-3"), elsewhere},
		{"elsewhere, large", "CreateMultipartUpload", largeContent, s3test.Refuse(400, "AuthorizationHeaderMalformed").With("X-Amz-Bucket-Region", "eu-west-3"), elsewhere},
		{"full", "PutObject", smallContent, s3test.Refuse(507, "InsufficientStorage"), is(mirror.ErrFull)},
		{"500 for ever", "PutObject", smallContent, s3test.Refuse(500, "InternalError"), some},
		{"part 500 for ever", "UploadPart", largeContent, s3test.Refuse(500, "InternalError"), some},
		{"complete 503 for ever", "CompleteMultipartUpload", largeContent, s3test.Refuse(503, "SlowDown"), some},
		{"409 for ever", "PutObject", smallContent, s3test.Refuse(409, "ConditionalRequestConflict"), some},
		{"complete 409 for ever", "CompleteMultipartUpload", largeContent, s3test.Refuse(409, "ConditionalRequestConflict"), some},
		{"corrupted for ever", "PutObject", smallContent, s3test.Refuse(400, "BadDigest"), is(blob.ErrChanged)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, quick(s3test.Options{}))
			m := open(t, server).Mirror("p")
			server.Hook(s3test.Always(row.operation, row.fault))
			err := m.Create(t.Context(), upload1("x", row.content))
			if !row.want(err) {
				t.Errorf("got error %v", err)
			}
			if _, there := server.Object("p/x"); there {
				t.Error("it is there all the same")
			}
			arrived := parts(server)
			server.Hook(nil)
			if err := m.Create(t.Context(), upload1("x", row.content)); err != nil {
				t.Fatalf("without the fault: %v", err)
			}
			wantStoredOnce(t, server, "p/x", row.content)
			// A 409 on Complete makes us begin anew. Where no part had arrived, one may still
			// have been on its way when the first call gave up.
			if begunAnew := row.name == "complete 409 for ever"; arrived > 0 && !begunAnew && parts(server) > arrived {
				t.Errorf("%d parts were sent, %d of them before", parts(server), arrived)
			}
		})
	}
}

// parts is how many parts have arrived so far.
func parts(server *s3test.Server) int {
	n := 0
	for _, e := range server.Log() {
		if e.Operation == "UploadPart" && e.Status == 200 {
			n++
		}
	}
	return n
}

// TestLied: everything was done and no answer ever came. We look, and it is success.
func TestLied(t *testing.T) {
	for _, row := range []struct {
		operation string
		content   []byte
		fault     s3test.Fault
	}{
		{"PutObject", smallContent, s3test.Lie},
		{"PutObject", smallContent, s3test.Late(500, "InternalError")},
		{"CompleteMultipartUpload", largeContent, s3test.Lie},
		{"CompleteMultipartUpload", largeContent, s3test.Late(503, "SlowDown")},
	} {
		server := serve(t, quick(s3test.Options{}))
		m := open(t, server).Mirror("p")
		server.Hook(s3test.Always(row.operation, row.fault))
		if err := m.Create(t.Context(), upload1("x", row.content)); err != nil {
			t.Errorf("%s: %v", row.operation, err)
		}
		wantStoredOnce(t, server, "p/x", row.content)
	}
}

// TestReadingFaults: reading and listing are repeated, or fail in the mirror's words.
func TestReadingFaults(t *testing.T) {
	read := func(ctx context.Context, m *Mirror) error {
		got, _, err := mirror.Read(ctx, m, "x", 1<<20)
		if err == nil && !bytes.Equal(got, smallContent) {
			err = errors.New("read something else")
		}
		return err
	}
	stat := func(ctx context.Context, m *Mirror) error { _, err := m.Stat(ctx, "x"); return err }
	list := func(ctx context.Context, m *Mirror) error {
		n := 0
		for _, err := range m.List(ctx, mirror.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		if n != 1 {
			return fmt.Errorf("listed %d", n)
		}
		return nil
	}
	remove := func(ctx context.Context, m *Mirror) error {
		return m.Deleter().Delete(ctx, "x", answer.Version(fmt.Sprintf("%016x", crc64nvme.Checksum(smallContent))))
	}
	for _, act := range []struct {
		operation, action string
		run               func(context.Context, *Mirror) error
	}{
		{"GetObject", "s3:GetObject", read},
		{"HeadObject", "s3:GetObject", stat},
		{"ListObjectsV2", "s3:ListBucket", list},
		{"DeleteObject", "s3:DeleteObject", remove},
	} {
		start := func(t *testing.T, fault string) (*s3test.Server, *Mirror) {
			server := serve(t, quick(s3test.Options{}))
			server.Put("p/x", smallContent, false)
			b := open(t, server)
			impatient(b, fault)
			return server, b.Mirror("p")
		}
		for what, fault := range passing {
			if only[what] != nil {
				continue
			}
			t.Run(act.operation+"/"+what, func(t *testing.T) {
				t.Parallel()
				server, m := start(t, what)
				server.Hook(s3test.Once(act.operation, 1, fault))
				if err := act.run(t.Context(), m); err != nil {
					t.Error(err)
				}
			})
		}
		t.Run(act.operation+"/denied", func(t *testing.T) {
			t.Parallel()
			server, m := start(t, "")
			server.Hook(func(*http.Request) s3test.Fault { return s3test.Refuse(403, "AccessDenied") })
			var d *mirror.DeniedError
			if err := act.run(t.Context(), m); !errors.As(err, &d) || d.Action != act.action {
				t.Errorf("got error %v", err)
			}
		})
		for code, want := range map[string]error{"ExpiredToken": mirror.ErrCredentials, "NoSuchBucket": mirror.ErrNoBucket} {
			if code == "NoSuchBucket" && act.operation == "HeadObject" {
				continue // which a HEAD cannot tell
			}
			t.Run(act.operation+"/"+code, func(t *testing.T) {
				t.Parallel()
				server, m := start(t, "")
				status := map[string]int{"ExpiredToken": 400, "NoSuchBucket": 404}[code]
				server.Hook(func(*http.Request) s3test.Fault { return s3test.Refuse(status, code) })
				if err := act.run(t.Context(), m); !errors.Is(err, want) || errors.Is(err, mirror.ErrDenied) {
					t.Errorf("got error %v, want %v", err, want)
				}
			})
		}
	}
}

// A role that may list a part of a bucket is not told that an object is not there: it is
// forbidden. It is told so by the list.
func TestWhatIsNotThereIsHidden(t *testing.T) {
	server := s3test.Handler(s3test.Options{})
	late := "bucket/noble/spack/late"
	before := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, key, _ := strings.Cut(r.URL.Path[1:], "/")
		_, there := server.Object(key)
		switch operation := s3test.Operation(r); {
		case (operation == "GetObject" || operation == "HeadObject") && (!there || strings.HasPrefix(key, "secret/")):
			w.WriteHeader(http.StatusForbidden)
			if operation == "GetObject" {
				fmt.Fprint(w, "<Error><Code>AccessDenied</Code></Error>")
			}
			return
		case operation == "ListObjectsV2" && strings.HasSuffix(late, r.URL.Query().Get("prefix")):
			server.Put("noble/spack/late", []byte("come"), false)
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(before.Close)
	server.URL = before.URL
	m, ctx := open(t, server).Mirror("noble/spack"), t.Context()
	server.Put("noble/spack/index.json.hash", []byte("there"), false)
	if _, err := m.Open(ctx, "index.json"); !errors.Is(err, mirror.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if _, err := m.Stat(ctx, "index.json"); !errors.Is(err, mirror.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	if o, err := m.Open(ctx, "late"); err != nil {
		t.Errorf("what came in the meantime: %v", err)
	} else {
		o.Body.Close()
	}
	server.Put("secret/index.json", []byte("there"), false)
	secret := open(t, server).Mirror("secret")
	if _, err := secret.Open(ctx, "index.json"); !errors.Is(err, mirror.ErrDenied) {
		t.Errorf("open what is forbidden: %v", err)
	}
	if _, err := secret.Stat(ctx, "index.json"); !errors.Is(err, mirror.ErrDenied) {
		t.Errorf("look at what is forbidden: %v", err)
	}
}
