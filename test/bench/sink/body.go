package sink

import (
	"bufio"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/crc64nvme"
)

const (
	unsigned = "UNSIGNED-PAYLOAD"

	contentSHA = "X-Amz-Content-Sha256"
	contentMD5 = "Content-Md5"
)

// sums are the checksums that a request may tell of its body, in a header or in a trailer, beside
// those that s3test looks at.
var sums = map[string]func() hash.Hash{
	"X-Amz-Checksum-Crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"X-Amz-Checksum-Crc32c":    func() hash.Hash { return crc32.New(castagnoli) },
	"X-Amz-Checksum-Crc64nvme": func() hash.Hash { return crc64nvme.New() },
	"X-Amz-Checksum-Sha1":      sha1.New,
	"X-Amz-Checksum-Sha256":    sha256.New,
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// plain makes of a request what s3test expects: a body of a known length without any
// framing, and no claims on it but those that s3test checks. All others are checked as
// the body is read.
func (s *Server) plain(r *http.Request) {
	if r.Method != http.MethodPut || r.Body == nil {
		return
	}
	body := &checkedBody{server: s, from: r.Body}
	if strings.HasPrefix(r.Header.Get(contentSHA), "STREAMING-") {
		size, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil {
			return // s3test refuses it
		}
		framed := &chunks{from: bufio.NewReaderSize(r.Body, 64<<10)}
		body.from, body.trailer = framed, &framed.trailer
		r.ContentLength = size
		r.Header.Set(contentSHA, unsigned)
		if name := http.CanonicalHeaderKey(r.Header.Get("X-Amz-Trailer")); sums[name] != nil {
			body.expect(name, sums[name](), "")
		}
	}
	large := r.ContentLength > small
	looked := !large || s.turn.Add(1)%int64(s.opts.Sample) == 0
	for name, sum := range sums {
		told := r.Header.Get(name)
		if told == "" || name == "X-Amz-Checksum-Crc64nvme" || name == "X-Amz-Checksum-Sha256" { // s3test's
			continue
		}
		body.expect(name, sum(), told)
	}
	if told := r.Header.Get(contentMD5); told != "" && looked {
		body.expect(contentMD5, md5.New(), told)
	}
	if !looked {
		r.Header.Set(contentSHA, unsigned)
		r.Header.Set(unlooked, "1")
	}
	r.Body = body
}

// unlooked marks a request whose SHA-256 and MD5 are taken as told.
const unlooked = "X-Sink-Unlooked"

// md5 is the hash that makes ETags. That of a large body is what the client says that it is,
// or none: nobody can tell from an ETag that has not the length of an MD5.
func (s *Server) md5(r *http.Request) hash.Hash {
	if r == nil || r.ContentLength <= small {
		return md5.New()
	}
	if told, err := base64.StdEncoding.DecodeString(r.Header.Get(contentMD5)); err == nil && len(told) == md5.Size {
		return toldHash(told)
	}
	return crc64nvme.New()
}

// sha256 is the hash of a body, or of a part of what is kept, for which there is no request.
func (s *Server) sha256(r *http.Request) hash.Hash {
	if r == nil || r.Header.Get(unlooked) == "" {
		return sha256.New()
	}
	told, _ := base64.StdEncoding.DecodeString(r.Header.Get("X-Amz-Checksum-Sha256"))
	return toldHash(told)
}

// A toldHash is what somebody says that the hash is.
type toldHash []byte

func (toldHash) Write(p []byte) (int, error) { return len(p), nil }
func (h toldHash) Sum(b []byte) []byte       { return append(b, h...) }
func (toldHash) Reset()                      {}
func (h toldHash) Size() int                 { return len(h) }
func (toldHash) BlockSize() int              { return 64 }

// A claim is a checksum that a body should have. What is told may still come, in the trailer.
type claim struct {
	name, told string
	sum        hash.Hash
}

// A checkedBody ends in an error if it has not the checksums that it came with.
type checkedBody struct {
	server  *Server
	from    io.Reader
	claims  []claim
	trailer *http.Header // nil: there is none
}

func (b *checkedBody) expect(name string, sum hash.Hash, told string) {
	b.claims = append(b.claims, claim{name, told, sum})
}

func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.server.bytes.Add(int64(n))
	for _, c := range b.claims {
		c.sum.Write(p[:n])
	}
	if err == io.EOF {
		if wrong := b.wrong(); wrong != nil {
			b.server.corrupt.Add(1)
			return n, wrong
		}
	}
	return n, err
}

func (b *checkedBody) wrong() error {
	for _, c := range b.claims {
		told := c.told
		if told == "" && b.trailer != nil {
			told = b.trailer.Get(c.name)
		}
		if got := base64.StdEncoding.EncodeToString(c.sum.Sum(nil)); got != told {
			return fmt.Errorf("%s is %s, was told %q", c.name, got, told)
		}
	}
	return nil
}

func (*checkedBody) Close() error { return nil }

// chunks is a body in chunks as AWS frames them, with a trailer. Signatures of chunks are not
// looked at.
type chunks struct {
	from    *bufio.Reader
	left    int64 // of the chunk
	inside  bool  // a chunk was begun
	trailer http.Header
	err     error
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.err == nil && c.left == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next goes to the next chunk. The last is empty, and the trailer comes behind it.
func (c *chunks) next() error {
	if c.inside {
		if end, err := c.line(); err != nil || end != "" {
			return errors.Join(err, errFraming)
		}
	}
	head, err := c.line()
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(head, ";")
	if c.left, err = strconv.ParseInt(size, 16, 64); err != nil {
		return errFraming
	}
	c.inside = true
	if c.left > 0 {
		return nil
	}
	c.trailer = make(http.Header)
	for {
		line, err := c.line()
		if err == io.ErrUnexpectedEOF || err == nil && line == "" {
			return io.EOF
		}
		name, value, ok := strings.Cut(line, ":")
		if err != nil || !ok {
			return errors.Join(err, errFraming)
		}
		c.trailer.Set(name, strings.TrimSpace(value))
	}
}

var errFraming = errors.New("chunks that are framed wrongly")

func (c *chunks) line() (string, error) {
	line, err := c.from.ReadString('\n')
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimRight(line, "\r\n"), err
}
