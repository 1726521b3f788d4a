package s3test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func (s *Server) listObjects(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		last, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			fail(w, r, 400, "InvalidArgument")
			return
		}
		after = string(last)
	}
	prefix, delimiter, size := q.Get("prefix"), q.Get("delimiter"), s.opts.PageSize
	if n, err := strconv.Atoi(q.Get("max-keys")); err == nil {
		size = min(n, size)
	}
	encoding := q.Get("encoding-type")
	if s.opts.LiteralKeys {
		encoding = ""
	}
	p := newListing(encoding)
	p.element("Name", s.opts.Bucket)
	p.name("Prefix", prefix)
	p.element("Delimiter", delimiter)
	p.element("EncodingType", encoding)
	p.element("MaxKeys", strconv.Itoa(size))
	count, next := 0, ""
	last, group := "", "" // what the page ends with: a key, or a prefix that stands for several
	s.mu.Lock()
	for _, key := range s.keys(max(prefix, after)) {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if key <= after || group != "" && strings.HasPrefix(key, group) {
			continue
		}
		if count == size {
			next = base64.StdEncoding.EncodeToString([]byte(last))
			break
		}
		count++
		if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			group = key[:len(prefix)+i+len(delimiter)]
			last = group + "\xff" // behind all of them
			p.open("CommonPrefixes")
			p.name("Prefix", group)
			p.close("CommonPrefixes")
			continue
		}
		p.object(key, s.objects[key])
		last = key
	}
	s.mu.Unlock()
	p.element("KeyCount", strconv.Itoa(count))
	p.element("IsTruncated", strconv.FormatBool(next != ""))
	p.element("NextContinuationToken", next)
	p.write(w)
}

// A listing is the answer to ListObjectsV2. It is written by hand, because otherwise a server that lists a million
// objects would take longer than its client.
type listing struct {
	bytes.Buffer
	escaped bool // names are escaped as in a URL
}

const listingElement = "ListBucketResult"

func newListing(encoding string) *listing {
	p := &listing{escaped: encoding == "url"}
	p.WriteString(xml.Header)
	p.WriteString(`<` + listingElement + ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	return p
}

func (p *listing) open(name string)  { p.WriteString("<" + name + ">") }
func (p *listing) close(name string) { p.WriteString("</" + name + ">") }

// element omits empty values.
func (p *listing) element(name, text string) {
	if text == "" {
		return
	}
	p.open(name)
	xml.EscapeText(p, []byte(text))
	p.close(name)
}

func (p *listing) name(element, name string) {
	if p.escaped {
		p.element(element, escape(name, "/"))
		return
	}
	if name != "" {
		p.open(element)
		p.WriteString(literally.Replace(name))
		p.close(element)
	}
}

// literally escapes only what must be escaped. Characters that XML does not permit are written as some stores do.
var literally = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;", "\x08", "&#x8;")

func (p *listing) object(key string, o *object) {
	p.open("Contents")
	p.name("Key", key)
	p.element("LastModified", stamp(o.modified))
	p.element("ETag", o.etag)
	p.element("Size", strconv.FormatInt(o.size, 10))
	p.element("StorageClass", "STANDARD")
	p.close("Contents")
}

func (p *listing) write(w http.ResponseWriter) {
	p.close(listingElement)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(p.Len()))
	w.Write(p.Bytes())
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
