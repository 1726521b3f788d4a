package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/listing"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// names lists everything below a prefix.
func names(t *testing.T, m *Mirror, r mirror.Range) (all []string, err error) {
	t.Helper()
	for info, err := range m.List(t.Context(), r) {
		if err != nil {
			return all, err
		}
		all = append(all, info.Name)
	}
	return all, nil
}

// wantFault checks that an error names a fault of the storage.
func wantFault(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, mirror.ErrFault) || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, want a fault of the storage: %s", err, words)
	}
}

// A listing that is not whole is an error that says what is wrong with the store.
func TestAListingIsWholeOrAnError(t *testing.T) {
	for way, words := range map[string]string{
		"no token":          "truncates a listing after 2 keys without NextContinuationToken",
		"same token":        "", // AWS would say that the token is none; see below
		"empty pages":       "101 pages in a row have no key",
		"too few":           "has 1 keys and says that it has 2",
		"backwards":         "increasing byte order",
		"last, and a token": "is the last one by IsTruncated",
		"no content":        "status 204",
		"two pages":         "goes on after its end",
		"no size":           "without a size",
		"negative size":     "negative",
		"huge page":         "more than 16 MiB",
		"a page":            "no S3 answers",
		"blank":             "an empty body",
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			server := serve(t, s3test.Options{PageSize: 2})
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				server.Put("p/"+name, []byte(name), false)
			}
			m := open(t, server).Mirror("p")
			fault, ok := wrongListings[way]
			if !ok {
				fault = wrongAnswers[way]
			}
			server.Hook(s3test.Always("ListObjectsV2", fault))
			got, err := names(t, m, mirror.Range{})
			if err == nil || len(got) == 5 {
				t.Fatalf("listed %q, %v", got, err)
			}
			if words != "" {
				wantFault(t, err, words)
			}
			if n := server.Count("ListObjectsV2"); n > 100+1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// Stores that ignore a part of the question are noticed, and so are pages that go round.
func TestAListingAnswersTheQuestion(t *testing.T) {
	object := func(key string) string {
		return "<Contents><Key>" + key + "</Key><ETag>x</ETag><Size>1</Size></Contents>"
	}
	page := func(token string, keys ...string) string {
		s := "<ListBucketResult>"
		for _, k := range keys {
			s += object(k)
		}
		if token == "" {
			return s + "<IsTruncated>false</IsTruncated></ListBucketResult>"
		}
		return s + "<IsTruncated>true</IsTruncated><NextContinuationToken>" + token + "</NextContinuationToken></ListBucketResult>"
	}
	full := make([]string, listing.PageKeys)
	for i := range full {
		full[i] = fmt.Sprintf("p/%04d", i)
	}
	for what, row := range map[string]struct {
		r     mirror.Range
		pages []string // answered in turn, and then from the start
		words string
	}{
		"the prefix":               {mirror.Range{}, []string{page("", "other/a")}, `start with "p/"`},
		"the start":                {mirror.Range{After: "b"}, []string{page("", "p/a", "p/c")}, "increasing byte order"},
		"the token":                {mirror.Range{}, []string{page("1", "p/a"), page("2", "p/a")}, "increasing byte order"},
		"the token, in a circle":   {mirror.Range{}, []string{page("1", "p/a"), page("2", "p/b"), page("3", "p/c"), page("1", "p/a")}, "increasing byte order"},
		"the same token":           {mirror.Range{}, []string{page("1", "p/a"), page("1", "p/b")}, "the same continuation token"},
		"whether it is the end":    {mirror.Range{}, []string{strings.Replace(page("", full...), "<IsTruncated>false</IsTruncated>", "", 1)}, "IsTruncated is missing"},
		"truth":                    {mirror.Range{}, []string{strings.Replace(page("", "p/a"), "false", "perhaps", 1)}, `IsTruncated is "perhaps"`},
		"the limit of keys":        {mirror.Range{}, []string{page("", "p/"+strings.Repeat("k", 1100))}, "a key of 1102 bytes"},
		"the encoding that it has": {mirror.Range{}, []string{strings.Replace(page("", "p/100%"), "<Contents>", "<EncodingType>url</EncodingType><Contents>", 1)}, "are encoded"},
		"the end of the document":  {mirror.Range{}, []string{strings.TrimSuffix(page("", "p/a"), "</ListBucketResult>")}, "unexpected EOF"},
		"what it is to be":         {mirror.Range{}, []string{"<ListBucketResult>" + strings.Repeat("<a>", 1<<20)}, "nested more than 16 deep"},
	} {
		t.Run(what, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, row.pages[asked%len(row.pages)])
				asked++
			}))
			defer server.Close()
			b, err := Open(t.Context(), config(t), Options{Bucket: "bucket", EndpointURL: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			got, err := names(t, b.Mirror("p"), row.r)
			if err == nil {
				t.Fatalf("listed %q", got)
			}
			if row.words != "" {
				wantFault(t, err, row.words)
			}
			if asked > 5 {
				t.Errorf("%d requests", asked)
			}
		})
	}
}

// A key that nobody can write into XML, or that is not UTF-8, harms nobody else, whether the
// store encodes keys or not.
func TestAStrangeKeyHarmsNoOther(t *testing.T) {
	strange := []string{"p/a\x08b", "p/a\xff", "p/b\nc", "p/b\r", "p/c &<>\"'", "p/d%41+e f", "p/grüße/日本", "p/\uffff"}
	for _, encoded := range []bool{true, false} {
		t.Run(fmt.Sprintf("encoded %v", encoded), func(t *testing.T) {
			server := serve(t, s3test.Options{PageSize: 3, LiteralKeys: !encoded})
			for _, key := range append(strange, "p/a", "p/b", "p/z") {
				server.Put(key, []byte("x"), false)
			}
			got, err := names(t, open(t, server).Mirror("p"), mirror.Range{})
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"a", "b", "c &<>\"'", "d%41+e f", "grüße/日本", "z"}
			for _, name := range want {
				if !slices.Contains(got, name) {
					t.Errorf("%q is missing in %q", name, got)
				}
			}
			if encoded && len(got) != len(strange)+3 {
				t.Errorf("listed %q", got)
			}
		})
	}
}

// An unfinished upload of a strange key hides no other, and a list of uploads or of parts that does
// not end is left.
func TestUploadsAreListedWhole(t *testing.T) {
	server := serve(t, s3test.Options{PageSize: 2})
	for _, key := range []string{"p/a\x08b", "p/a+b %41", "p/b", "p/c"} {
		server.Abandon(key)
	}
	m := open(t, server).Mirror("p")
	var got []string
	for l, err := range m.Leftovers(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Name)
	}
	if !slices.Equal(got, []string{"a\x08b", "a+b %41", "b", "c"}) {
		t.Errorf("listed %q", got)
	}
	server.Hook(s3test.Always("ListMultipartUploads", s3test.Alter(func(a *s3test.Answer) {
		a.Body = []byte("<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>")
	})))
	for _, err := range m.Leftovers(t.Context(), "") {
		wantFault(t, err, "does not end")
	}
}

// Credentials and content go to the host that the user has named, and to no other.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached = append(reached, r.Method+" "+r.Header.Get("Authorization"))
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := serve(t, s3test.Options{})
		server.Put("p/x", smallContent, false)
		m := open(t, server).Mirror("p")
		server.Hook(func(*http.Request) s3test.Fault { return s3test.Redirect(status, other.URL+"/bucket/p/x?token=secret") })
		_, _, err := mirror.Read(t.Context(), m, "x", 1<<20)
		_, unseen := m.Stat(t.Context(), "x")
		_, unlisted := names(t, m, mirror.Range{})
		for _, err := range []error{err, unseen, unlisted, m.Create(t.Context(), upload1("y", smallContent)), m.Create(t.Context(), upload1("z", largeContent))} {
			wantFault(t, err, other.URL)
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("the error tells what may be secret: %v", err)
			}
		}
	}
	if len(reached) > 0 {
		t.Errorf("the other host was sent %q", reached)
	}
}

// A body that drips is left after the time that nothing at all may take, and is not asked for again.
func TestADrippingAnswerIsLeft(t *testing.T) {
	t.Parallel()
	server := serve(t, quick(s3test.Options{}))
	server.Put("p/x", largeContent, false)
	b := open(t, server)
	b.client.Options().HTTPClient.(*wire.Client).Patience = 3 * time.Second // for the answer to begin, too, on a busy machine
	asked := 0
	server.Hook(func(*http.Request) s3test.Fault {
		asked++
		return s3test.Drip
	})
	_, _, err := mirror.Read(t.Context(), b.Mirror("p"), "x", 1<<30)
	if err == nil || !strings.Contains(err.Error(), "less than 1024 bytes a second") {
		t.Errorf("got error %v", err)
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// Of what a store says with a refusal, only the beginning is read.
func TestLongRefusalsAreCut(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<Error><Code>")
		for range 1 << 10 {
			if _, err := fmt.Fprint(w, strings.Repeat("X", 64<<10)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	b, err := Open(t.Context(), config(t), Options{Bucket: "bucket", EndpointURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	m := b.Mirror("p")
	_, listErr := names(t, m, mirror.Range{})
	for _, err := range []error{listErr, m.Create(t.Context(), upload1("x", smallContent))} {
		if err == nil || len(err.Error()) > 2*64<<10 {
			t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
		}
	}
}

// A page in another form is read all the same, and one that is cut short is asked for again.
func TestEveryPageIsRead(t *testing.T) {
	strange := "<ListBucketResult><!-- strange --><IsTruncated>false</IsTruncated><Contents><Key>p/a&#xA;b</Key><Size>7</Size></Contents></ListBucketResult>"
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(strange)))
			fmt.Fprint(w, strange[:len(strange)/2])
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, strange)
	}))
	defer server.Close()
	b, err := Open(t.Context(), config(t), Options{Bucket: "bucket", EndpointURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for info, err := range b.Mirror("p").List(t.Context(), mirror.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(info.Name, info.Size))
	}
	if strings.Join(got, ",") != "a\nb7" || asked != 2 {
		t.Errorf("got %q after %d requests", got, asked)
	}
}

// BenchmarkPage is a page of 1,000 objects.
func BenchmarkPage(b *testing.B) {
	var text strings.Builder
	text.WriteString(`<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>`)
	for i := range 1000 {
		fmt.Fprintf(&text, `<Contents><Key>p/blobs/sha256/ab/%064d</Key><LastModified>2026-10-12T17:50:30.000Z</LastModified><ETag>&quot;%032d&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, i, i, i)
	}
	text.WriteString("</ListBucketResult>")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text.String()) }))
	defer server.Close()
	bucket, err := Open(b.Context(), config(b), Options{Bucket: "bucket", EndpointURL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range bucket.Mirror("p").List(b.Context(), mirror.Range{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}
