// Package answer reads the answers of a store: it bounds their size, recognises errors in them, and describes
// refusals in few words.
package answer

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// maxBody is the maximum size, in bytes, of an answer without content: several times that of a page of a listing
// with the longest keys, escaped.
const maxBody = 16 << 20

// maxRefusal is how much of an error's text is read, in bytes.
const maxRefusal = 64 << 10

// Inspect prepares an answer for both clients. It bounds the size, and turns a success whose body is an error into
// that error. S3 sends such answers because it begins them before it knows the result. A success with a page of
// HTML becomes a refusal by a server other than S3. The content of objects passes unchanged.
func Inspect(op string, answer *http.Response) {
	switch success := answer.StatusCode/100 == 2; {
	case success && op == "GetObject" && answer.Header.Get("ETag") != "", answer.ContentLength == 0, answer.Request != nil && answer.Request.Method == http.MethodHead:
		return
	case success:
		body := bufio.NewReaderSize(&bounded{body: answer.Body, op: op, left: maxBody}, prologue)
		switch is := root(body); {
		case is == "Error" && op != "GetObject":
			answer.StatusCode = http.StatusInternalServerError
			answer.Status = "500 Internal Server Error, sent as 200"
		case strings.EqualFold(is, "html"):
			answer.StatusCode = notRepeated
			start, _ := body.Peek(prologue)
			answer.Body = replaced{strange(start, body), answer.Body}
			return
		}
		answer.Body = replaced{body, answer.Body}
	default:
		body := bufio.NewReaderSize(io.LimitReader(answer.Body, maxRefusal), prologue)
		if root(body) != "Error" {
			start, _ := body.Peek(prologue)
			answer.Body = replaced{strange(start, body), answer.Body}
			return
		}
		answer.Body = replaced{body, answer.Body}
	}
}

// notRepeated is the status that replaces the status of a false success. Requests with this status are not
// repeated.
const notRepeated = http.StatusMisdirectedRequest

// notS3 is the code of a refusal by a server other than S3: a proxy, a CDN or a website.
const notS3 = "NotS3"

// strange returns a refusal whose text begins with start, in the form that both clients read. An empty text stays
// as it is.
func strange(start []byte, body io.Reader) io.Reader {
	said := startOf(start)
	if said == "" {
		return body
	}
	var message bytes.Buffer
	xml.EscapeText(&message, []byte(said)) // writing to memory does not fail
	return strings.NewReader("<Error><Code>" + notS3 + "</Code><Message>" + message.String() + "</Message></Error>")
}

var tags = regexp.MustCompile(`(?s)<(script|style).*?</(script|style)>|<[^>]*>`)

// startOf returns the beginning of a text, on one line and without HTML tags.
func startOf(text []byte) string {
	words := strings.Join(strings.Fields(tags.ReplaceAllString(string(text), " ")), " ")
	return strings.ToValidUTF8(words[:min(len(words), 80)], "")
}

// replaced is a body with another reader in front of it.
type replaced struct {
	io.Reader
	io.Closer
}

// prologue is within how many bytes a document must begin, after the white space that S3 sends while it works.
const prologue = 1 << 10

// root returns the name of the outermost element of the document in a body, or an empty string if there is none. It
// does not consume the document.
func root(body *bufio.Reader) string {
	for {
		c, err := body.ReadByte()
		if err != nil {
			return ""
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			body.UnreadByte()
			break
		}
	}
	start, _ := body.Peek(prologue)
	d := xml.NewDecoder(bytes.NewReader(start))
	for {
		t, err := d.RawToken()
		if err != nil {
			return ""
		}
		if e, ok := t.(xml.StartElement); ok {
			return e.Name.Local
		}
	}
}

// bounded is a body that fails if it is too long.
type bounded struct {
	body io.Reader
	op   string
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, mirror.Faultf("its answer to %s does not end: more than %d MiB", b.op, maxBody>>20)
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
