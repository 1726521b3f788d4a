// Package answer reads what a store answers: it bounds answers, recognises errors in them, and says in few words what a
// refusal means.
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

// maxBody is how many bytes an answer may have that is no content: several times what a page of a listing takes whose keys
// are the longest, escaped.
const maxBody = 16 << 20

// maxRefusal is how many bytes of an error's text are read.
const maxRefusal = 64 << 10

// Inspect prepares an answer for both clients: none is longer than it may be, and a success whose
// body is an error becomes that error. S3 sends such answers, because it begins them before it
// knows how the request ends. A success that is a page of HTML is a refusal of a server that is no S3.
// Content of objects is passed on as it is.
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

// notRepeated stands for the status of a success that is none. It is a status for which a request is not sent again.
const notRepeated = http.StatusMisdirectedRequest

// notS3 is the code of a refusal in other words than those of S3: by a proxy, a CDN or a website.
const notS3 = "NotS3"

// strange returns a refusal that begins with start as both clients can read it. What says nothing stays as it is.
func strange(start []byte, body io.Reader) io.Reader {
	said := startOf(start)
	if said == "" {
		return body
	}
	var message bytes.Buffer
	xml.EscapeText(&message, []byte(said)) // into memory, which does not fail
	return strings.NewReader("<Error><Code>" + notS3 + "</Code><Message>" + message.String() + "</Message></Error>")
}

var tags = regexp.MustCompile(`(?s)<(script|style).*?</(script|style)>|<[^>]*>`)

// startOf is the beginning of a text, on one line and without the tags of HTML.
func startOf(text []byte) string {
	words := strings.Join(strings.Fields(tags.ReplaceAllString(string(text), " ")), " ")
	return strings.ToValidUTF8(words[:min(len(words), 80)], "")
}

// replaced is a body that is read through something.
type replaced struct {
	io.Reader
	io.Closer
}

// prologue is within how many bytes a document begins, behind the white space that S3 sends
// while it works.
const prologue = 1 << 10

// root is the name of the outermost element of the document in a body; empty: there is none. It
// leaves the document unread.
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

// bounded is a body that fails when it is too long.
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
