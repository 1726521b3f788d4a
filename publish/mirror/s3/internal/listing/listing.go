// Package listing reads the answers of a store to ListObjectsV2 and checks that a listing is complete. Publishers
// build indices from listings, so a listing that ends early would make packages disappear.
package listing

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

// Limits of a listing. They bound the memory and the time that a faulty store can take.
const (
	// PageKeys is the number of keys in a page, unless the request asks for fewer.
	PageKeys = 1000

	maxKey = 1024 // bytes of a key
	// maxNames is the maximum size of all keys of a listing, in bytes: about five million objects of a buildcache.
	// Larger mirrors are listed in ranges.
	maxNames = 512 << 20
	// maxEmpty is the maximum number of pages in a row without a key. Amazon S3 sends such pages after very many
	// objects were deleted.
	maxEmpty = 100
)

// Progress checks the pages of a listing. Keys must have the prefix and increase in byte order, within a page and
// from page to page. This detects a store that ignores the prefix, the start or the token, or that sends a page
// twice.
type Progress struct {
	Prefix string
	Last   string // the last key so far; empty before the first
	token  string // of the previous page
	names  int    // bytes of all keys
	empty  int    // pages in a row without a key
}

// Check returns an error if a page does not continue the previous ones.
func (s *Progress) Check(p *Page) error {
	for _, o := range p.Objects {
		switch {
		case o.Size < 0:
			return mirror.Faultf("it lists %q without a size, or with a negative one", o.Key)
		case len(o.Key) > maxKey:
			return mirror.Faultf("it lists a key of %d bytes, and S3 has none above %d", len(o.Key), maxKey)
		case !strings.HasPrefix(o.Key, s.Prefix):
			return mirror.Faultf("asked for keys that start with %q, it lists %q", s.Prefix, o.Key)
		case s.Last != "" && o.Key <= s.Last:
			return mirror.Faultf("it lists %q after %q, and keys must come in increasing byte order", o.Key, s.Last)
		}
		s.Last = o.Key
		s.names += len(o.Key)
	}
	s.empty++
	if len(p.Objects) > 0 {
		s.empty = 0
	}
	switch {
	case s.names > maxNames:
		return mirror.Faultf("its listing does not end: more than %d MiB of keys start with %q", maxNames>>20, s.Prefix)
	case s.empty > maxEmpty:
		return mirror.Faultf("its listing does not end: %d pages in a row have no key", s.empty)
	case p.Next != "" && p.Next == s.token:
		return mirror.Faultf("its listing does not end: it sends the same continuation token again")
	}
	s.token = p.Next
	return nil
}

// A Page is an answer to ListObjectsV2.
type Page struct {
	Objects []Object
	Next    string // the token of the next page; empty for the last page

	truncated string // "true" or "false"
	encoding  string // of keys: "url", or empty for none
	count     int64  // the number of objects according to the store; 0 if it does not say
}

// An Object is an object in a page.
type Object struct {
	Key, ETag string
	Size      int64
	Modified  time.Time
}

// Read reads an answer: quickly if it has the usual form, and with a decoder otherwise.
func Read(text []byte) (Page, error) {
	if p, ok := scanPage(text); ok {
		return p, nil
	}
	p, err := decodePage(text)
	if err != nil {
		// Keys may contain characters that XML does not permit, and not every store encodes them as requested.
		if plain := legible(text); !bytes.Equal(plain, text) {
			return decodePage(plain)
		}
	}
	return p, err
}

// decodePage reads an answer with a decoder.
func decodePage(text []byte) (Page, error) {
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
	tokens := xml.NewTokenDecoder(&shallow{Decoder: xml.NewDecoder(bytes.NewReader(text))})
	err := tokens.Decode(&doc)
	switch {
	case err == io.EOF:
		return Page{}, mirror.Faultf("it answers ListObjectsV2 with an empty body")
	case err != nil:
		return Page{}, mirror.Faultf("its answer to ListObjectsV2 cannot be read: %v", err)
	case doc.XMLName.Local != pageElement:
		return Page{}, mirror.Faultf("it answers ListObjectsV2 with a %s", answer.Quoted(doc.XMLName.Local))
	}
	if err := ended(tokens); err != nil {
		return Page{}, err
	}
	p := Page{truncated: doc.IsTruncated, Next: doc.NextContinuationToken, encoding: doc.EncodingType, count: doc.KeyCount}
	for _, c := range doc.Contents {
		o := Object{c.Key, c.ETag, unsized, c.LastModified}
		if c.Size != nil {
			o.Size = *c.Size
		}
		p.Objects = append(p.Objects, o)
	}
	return p, nil
}

// unsized is the size of an object whose size the listing omits.
const unsized = -1

// ended checks that only white space and comments follow a document.
func ended(tokens *xml.Decoder) error {
	for {
		switch t, err := tokens.Token(); t := t.(type) {
		case nil:
			if err == io.EOF {
				return nil
			}
			return mirror.Faultf("its answer to ListObjectsV2 cannot be read: %v", err)
		case xml.StartElement:
			return mirror.Faultf("its answer to ListObjectsV2 goes on after its end with a %s", answer.Quoted(t.Name.Local))
		}
	}
}

// shallow refuses documents with deeply nested elements, which could take unbounded time.
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

// deepest is the maximum nesting depth: several times that of a listing.
const deepest = 16

// Settle checks that a page is complete, and decodes its keys.
func (p *Page) Settle() error {
	more, err := strconv.ParseBool(p.truncated)
	switch {
	case p.truncated == "": // omitted: the token decides
		more = p.Next != ""
		if !more && len(p.Objects) >= PageKeys {
			return mirror.Faultf("a full page of its listing does not say whether it is the last one: IsTruncated is missing")
		}
	case err != nil:
		return mirror.Faultf("a page of its listing says that IsTruncated is %s", answer.Quoted(p.truncated))
	case !more && p.truncated != "" && p.Next != "":
		return mirror.Faultf("a page of its listing is the last one by IsTruncated, and has a NextContinuationToken")
	case more && p.Next == "":
		return mirror.Faultf("it truncates a listing after %d keys without NextContinuationToken, so the rest cannot be had: it does not support ListObjectsV2", len(p.Objects))
	case p.count > int64(len(p.Objects)):
		return mirror.Faultf("a page of its listing has %d keys and says that it has %d", len(p.Objects), p.count)
	}
	if !more {
		p.Next = ""
	}
	if !strings.EqualFold(p.encoding, string(types.EncodingTypeUrl)) {
		p.dropIllegible()
		return nil
	}
	for i := range p.Objects {
		if p.Objects[i].Key, err = DecodeKey(p.Objects[i].Key); err != nil {
			return err
		}
	}
	return nil
}

// DecodeKey reverses encoding-type=url, in which a plus is a space.
func DecodeKey(key string) (string, error) {
	if !strings.ContainsAny(key, "%+") {
		return key, nil
	}
	plain, err := url.QueryUnescape(key)
	if err != nil {
		return "", mirror.Faultf("it says that the keys of its listing are encoded, and lists %q", key)
	}
	return plain, nil
}

// illegal matches references to characters that XML does not permit.
var illegal = regexp.MustCompile(`&#(?:x0*(?:[0-8bcBC]|[eE]|[fF]|1[0-9a-fA-F]|[dD][89a-fA-F][0-9a-fA-F]{2}|[fF]{3}[eEfF])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));`)

// legible replaces everything in an answer that XML does not permit by U+FFFD.
func legible(text []byte) []byte {
	plain := illegal.ReplaceAll(bytes.ToValidUTF8(text, []byte("\ufffd")), []byte("\ufffd"))
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return utf8.RuneError
		}
		return r
	}, plain)
}

// dropIllegible removes keys with characters that were replaced. No name of a mirror has any, and their place in
// the order of keys is unknown.
func (p *Page) dropIllegible() {
	p.Objects = slices.DeleteFunc(p.Objects, func(o Object) bool { return strings.ContainsRune(o.Key, utf8.RuneError) })
}
