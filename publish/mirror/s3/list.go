package s3

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Limits on what a listing may consist of. They bound the memory and the time that a store with
// a fault can take.
const (
	pageKeys = 1000 // keys in one page, unless the request asks for fewer
	maxKey   = 1024 // bytes of a key

	// maxPage is several times what a page of the longest keys takes, escaped.
	maxPage = 16 * mib
	// maxNames is how many bytes of keys one listing may have: about five million objects
	// of a buildcache. Larger mirrors are listed in ranges.
	maxNames = 512 * mib
	// maxEmpty is how many pages in a row may have no key. Amazon S3 sends such pages where
	// very many objects were deleted.
	maxEmpty = 100
)

// List lists a range, a thousand objects with each request.
//
// Publishers build indices from listings, so one that ends early would make packages
// disappear. Therefore a page counts only if it agrees with the request and with the pages
// before it; see progress.
func (m *Mirror) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return m.pages(ctx, r, 0)
}

// pages is List with at most size objects a page; 0: as many as the store sends.
func (m *Mirror) pages(ctx context.Context, r mirror.Range, size int32) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		b, prefix := m.bucket, m.key(r.Prefix)
		in := &sdk.ListObjectsV2Input{Bucket: &b.opts.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		if size > 0 {
			in.MaxKeys = &size
		}
		seen := progress{prefix: prefix}
		if r.After != "" {
			in.StartAfter = aws.String(m.key(r.After))
			seen.last = *in.StartAfter
		}
		for {
			page, err := b.list(ctx, in)
			if err == nil {
				err = seen.page(&page)
			}
			if err != nil {
				yield(mirror.Info{}, b.failed(listing, prefix, err))
				return
			}
			for _, o := range page.objects {
				name := strings.TrimPrefix(o.key, m.prefix)
				if r.Until != "" && name >= r.Until {
					return
				}
				if name == "" { // the "directory" that some tools make of the prefix
					continue
				}
				if !yield(b.info(name, &o.size, &o.etag, &o.modified, ""), nil) {
					return
				}
			}
			if page.next == "" {
				return
			}
			in.ContinuationToken = &page.next
		}
	}
}

// progress checks the pages of one listing. Keys must have the prefix and come in increasing
// byte order, in one page and from page to page. So a store that ignores the prefix, the start
// or the token, or that sends a page twice, is noticed by what it sends.
type progress struct {
	prefix string
	last   string // the key after which the next one must come; empty: none yet
	token  string // of the page before
	names  int    // bytes of all keys
	empty  int    // pages in a row without a key
}

func (s *progress) page(p *page) error {
	for _, o := range p.objects {
		switch {
		case o.size < 0:
			return mirror.Faultf("it lists %q without a size, or with a negative one", o.key)
		case len(o.key) > maxKey:
			return mirror.Faultf("it lists a key of %d bytes, and S3 has none above %d", len(o.key), maxKey)
		case !strings.HasPrefix(o.key, s.prefix):
			return mirror.Faultf("asked for keys that start with %q, it lists %q", s.prefix, o.key)
		case s.last != "" && o.key <= s.last:
			return mirror.Faultf("it lists %q after %q, and keys must come in increasing byte order", o.key, s.last)
		}
		s.last = o.key
		s.names += len(o.key)
	}
	s.empty++
	if len(p.objects) > 0 {
		s.empty = 0
	}
	switch {
	case s.names > maxNames:
		return mirror.Faultf("its listing does not end: more than %d MiB of keys start with %q", maxNames/mib, s.prefix)
	case s.empty > maxEmpty:
		return mirror.Faultf("its listing does not end: %d pages in a row have no key", s.empty)
	case p.next != "" && p.next == s.token:
		return mirror.Faultf("its listing does not end: it sends the same continuation token again")
	}
	s.token = p.next
	return nil
}

// A page is one answer of ListObjectsV2, as far as we want to know.
type page struct {
	objects   []listed
	truncated string // "true" or "false"
	next      string // the token for the next page; empty: this is the last one
	encoding  string // of keys: "url", or empty for none
	count     int64  // how many objects there should be; 0: not said
}

type listed struct {
	key, etag string
	size      int64
	modified  time.Time
}

// answers are buffers for pages: one of 1,000 objects has some 400 KB.
var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keptBuffer is the size in bytes up to which a buffer is used again.
const keptBuffer = 2 * mib

// list asks for one page. The SDK takes some milliseconds of processing for a page of 1,000
// objects, most of it for reading XML token by token. So we read the answer before the SDK
// does, and leave it nothing to read.
func (b *Bucket) list(ctx context.Context, in *sdk.ListObjectsV2Input) (page, error) {
	var p page
	buf := answers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keptBuffer {
			answers.Put(buf)
		}
	}()
	_, err := call(ctx, b, func(ctx context.Context, in *sdk.ListObjectsV2Input, _ ...func(*sdk.Options)) (*sdk.ListObjectsV2Output, error) {
		return b.client.ListObjectsV2(ctx, in, sdk.WithAPIOptions(readingFirst(buf, func(answer []byte) (err error) {
			p, err = readPage(answer)
			return err
		})))
	}, in)
	if err != nil {
		return page{}, err
	}
	return p, p.settle()
}

var emptyPage = []byte("<ListBucketResult/>")

// readingFirst reads the body of each answer that is none of an error into buf and shows it to
// see. The SDK reads an empty page in its place.
func readingFirst(buf *bytes.Buffer, see func([]byte) error) func(*middleware.Stack) error {
	first := middleware.DeserializeMiddlewareFunc("ReadingFirst", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		answer, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok || answer.StatusCode/100 != 2 {
			return out, metadata, err
		}
		if answer.StatusCode != http.StatusOK {
			return out, metadata, mirror.Faultf("it answers ListObjectsV2 with status %d", answer.StatusCode)
		}
		buf.Reset()
		if _, err := buf.ReadFrom(answer.Body); err != nil {
			return out, metadata, fmt.Errorf("read the answer: %w", err) // it is asked for again
		}
		if err := see(buf.Bytes()); err != nil {
			return out, metadata, err
		}
		answer.Body = struct {
			io.Reader
			io.Closer
		}{bytes.NewReader(emptyPage), answer.Body}
		return out, metadata, nil
	})
	return func(s *middleware.Stack) error { return s.Deserialize.Add(first, middleware.After) }
}

// readPage reads an answer in the usual form quickly, and any other with a decoder.
func readPage(answer []byte) (page, error) {
	if p, ok := parsePage(answer); ok {
		return p, nil
	}
	p, err := decodePage(answer)
	if err != nil {
		// Keys may hold characters that XML cannot, and not every store encodes them
		// although it is asked to.
		if plain := legible(answer); !bytes.Equal(plain, answer) {
			return decodePage(plain)
		}
	}
	return p, err
}

// decodePage reads an answer with a decoder.
func decodePage(answer []byte) (page, error) {
	var doc struct {
		XMLName               xml.Name
		IsTruncated           string
		NextContinuationToken string
		EncodingType          string
		KeyCount              int64
		Contents              []struct {
			Key, ETag    string
			Size         *int64
			LastModified time.Time
		}
	}
	tokens := xml.NewTokenDecoder(&shallow{Decoder: xml.NewDecoder(bytes.NewReader(answer))})
	err := tokens.Decode(&doc)
	switch {
	case err == io.EOF:
		return page{}, mirror.Faultf("it answers ListObjectsV2 with an empty body")
	case err != nil:
		return page{}, mirror.Faultf("its answer to ListObjectsV2 cannot be read: %v", err)
	case doc.XMLName.Local != pageElement:
		return page{}, mirror.Faultf("it answers ListObjectsV2 with a %s", quoted(doc.XMLName.Local))
	}
	if err := ended(tokens); err != nil {
		return page{}, err
	}
	p := page{truncated: doc.IsTruncated, next: doc.NextContinuationToken, encoding: doc.EncodingType, count: doc.KeyCount}
	for _, c := range doc.Contents {
		o := listed{c.Key, c.ETag, unsized, c.LastModified}
		if c.Size != nil {
			o.size = *c.Size
		}
		p.objects = append(p.objects, o)
	}
	return p, nil
}

// unsized is the size of an object that a listing does not tell.
const unsized = -1

// ended makes sure that nothing but space and comments follows a document.
func ended(tokens *xml.Decoder) error {
	for {
		switch t, err := tokens.Token(); t := t.(type) {
		case nil:
			if err == io.EOF {
				return nil
			}
			return mirror.Faultf("its answer to ListObjectsV2 cannot be read: %v", err)
		case xml.StartElement:
			return mirror.Faultf("its answer to ListObjectsV2 goes on after its end with a %s", quoted(t.Name.Local))
		}
	}
}

// shallow reads documents whose elements are not nested deeply: others take time without end.
type shallow struct {
	*xml.Decoder
	depth int
}

// Token implements xml.TokenReader.
func (s *shallow) Token() (xml.Token, error) {
	t, err := s.Decoder.Token()
	switch t.(type) {
	case xml.StartElement:
		s.depth++
	case xml.EndElement:
		s.depth--
	}
	if s.depth > deepest {
		return nil, fmt.Errorf("elements are nested more than %d deep", deepest)
	}
	return t, err
}

// deepest is several times how deep elements are nested in a listing.
const deepest = 16

// quoted is a name of the store's as it may be shown.
func quoted(name string) string {
	if len(name) > 40 {
		name = name[:40]
	}
	return strconv.Quote(name)
}

// settle says what a page means: whether it is whole, and its keys as they are.
func (p *page) settle() error {
	more, err := strconv.ParseBool(p.truncated)
	switch {
	case p.truncated == "": // not said: then the token says it
		more = p.next != ""
		if !more && len(p.objects) >= pageKeys {
			return mirror.Faultf("a full page of its listing does not say whether it is the last one: IsTruncated is missing")
		}
	case err != nil:
		return mirror.Faultf("a page of its listing says that IsTruncated is %s", quoted(p.truncated))
	case !more && p.truncated != "" && p.next != "":
		return mirror.Faultf("a page of its listing is the last one by IsTruncated, and has a NextContinuationToken")
	case more && p.next == "":
		return mirror.Faultf("it truncates a listing after %d keys without NextContinuationToken, so the rest cannot be had: it does not support ListObjectsV2", len(p.objects))
	case p.count > int64(len(p.objects)):
		return mirror.Faultf("a page of its listing has %d keys and says that it has %d", len(p.objects), p.count)
	}
	if !more {
		p.next = ""
	}
	if !strings.EqualFold(p.encoding, string(types.EncodingTypeUrl)) {
		p.dropIllegible()
		return nil
	}
	for i := range p.objects {
		if p.objects[i].key, err = decodeKey(p.objects[i].key); err != nil {
			return err
		}
	}
	return nil
}

// decodeKey undoes encoding-type=url, in which a space is a plus.
func decodeKey(key string) (string, error) {
	if !strings.ContainsAny(key, "%+") {
		return key, nil
	}
	plain, err := url.QueryUnescape(key)
	if err != nil {
		return "", mirror.Faultf("it says that the keys of its listing are encoded, and lists %q", key)
	}
	return plain, nil
}

// illegal are references to characters that XML does not have.
var illegal = regexp.MustCompile(`&#(?:x0*(?:[0-8bcBC]|[eE]|[fF]|1[0-9a-fA-F]|[dD][89a-fA-F][0-9a-fA-F]{2}|[fF]{3}[eEfF])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));`)

// legible replaces everything in an answer that XML does not have by U+FFFD.
func legible(answer []byte) []byte {
	text := illegal.ReplaceAll(bytes.ToValidUTF8(answer, []byte("\ufffd")), []byte("\ufffd"))
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, text)
}

// dropIllegible removes keys in which we, or the store, have replaced what XML does not have. No
// name of a mirror is one of them, and their place in the order of keys is not known.
func (p *page) dropIllegible() {
	p.objects = slices.DeleteFunc(p.objects, func(o listed) bool { return strings.ContainsRune(o.key, utf8.RuneError) })
}
