package downloads

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A request holds the data that is kept of a line of a log. Addresses and names of clients are not kept.
type request struct {
	path  string // without a slash at its beginning
	day   string // 2026-11-28
	bytes int64
	whole bool // from the first byte, not a later part of a download
	hit   bool // answered by an edge
}

// A format parses the lines of one file. ok is false for a line that cannot be parsed. keep is false for a line
// that does not count: it is not a read, it failed, or it is a request of the CDN itself.
type format func(line string) (r request, keep, ok bool)

// formatOf returns the format of a file that a line shows. It is nil if the line shows no known format.
func formatOf(line string) format {
	switch {
	case strings.HasPrefix(line, "{"):
		return cloudFrontJSON
	case strings.HasPrefix(line, "#Version:"):
		return nil // the next line says more
	case strings.HasPrefix(line, fieldsPrefix):
		return cloudFrontText(strings.Fields(strings.TrimPrefix(line, fieldsPrefix)))
	case bucketLine.MatchString(line):
		return bucketLog
	}
	return nil
}

// maxLine is the maximum length of a line, in bytes. A URL may have 8 KiB, and a line contains three URLs.
const maxLine = 1 << 20

// eachLine calls do with the number and text of each line of a log, compressed or not.
func eachLine(log io.Reader, do func(n int, line string) error) error {
	in := bufio.NewReader(log)
	if head, _ := in.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		in = bufio.NewReader(z)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if err := do(n, lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// fields returns a field of a line of CloudFront's log by its name; empty if there is none.
type fields func(name string) string

// jsonFields parses a line of version 2 of CloudFront's access log.
func jsonFields(line string) (fields, error) {
	var of map[string]any
	if err := json.Unmarshal([]byte(line), &of); err != nil {
		return nil, err
	}
	return func(name string) string {
		switch v := of[name].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return ""
	}, nil
}

// fieldsPrefix begins the line that names the fields in the older format of CloudFront's log.
const fieldsPrefix = "#Fields:"

// textFields parses a line of the older format with the given fields.
func textFields(names []string, line string) (fields, error) {
	values := strings.Split(line, "\t")
	if len(values) != len(names) {
		return nil, fmt.Errorf("it has %d fields and should have %d", len(values), len(names))
	}
	return func(name string) string {
		if i := slices.Index(names, name); i >= 0 {
			return values[i]
		}
		return ""
	}, nil
}

// cloudFrontJSON parses a line of version 2 of CloudFront's access log.
func cloudFrontJSON(line string) (request, bool, bool) {
	of, err := jsonFields(line)
	if err != nil {
		return request{}, false, false
	}
	return cloudFront(of)
}

// cloudFrontText returns the older format of CloudFront's log, with the given fields.
func cloudFrontText(names []string) format {
	return func(line string) (request, bool, bool) {
		if strings.HasPrefix(line, "#") {
			return request{}, false, true
		}
		of, err := textFields(names, line)
		if err != nil {
			return request{}, false, false
		}
		return cloudFront(of)
	}
}

func cloudFront(field fields) (r request, keep, ok bool) {
	stem, day := field("cs-uri-stem"), field("date")
	if !strings.HasPrefix(stem, "/") || !isDay(day) {
		return r, false, false
	}
	status := field("sc-status")
	if field("cs-method") != "GET" || status != "200" && status != "206" {
		return r, false, true
	}
	r.path, r.day = unescaped(stem), day
	r.bytes, _ = strconv.ParseInt(field("sc-bytes"), 10, 64)
	start := field("sc-range-start")
	r.whole = status == "200" || start == "0"
	switch field("x-edge-result-type") {
	case "Hit", "RefreshHit", "OriginShieldHit":
		r.hit = true
	}
	return r, true, true
}

func isDay(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// unescaped returns a path as the name of an object.
func unescaped(path string) string {
	if text, err := url.PathUnescape(path); err == nil {
		path = text
	}
	return strings.TrimPrefix(path, "/")
}

// bucketLine matches a line of S3's server access log: owner, bucket, [time], address, requester, request id,
// operation, key, "request", status, error, bytes.
var bucketLine = regexp.MustCompile(`^[0-9a-f]+ [a-z0-9.-]+ \[(\d{2}/\w{3}/\d{4}):[^\]]*\] \S+ (\S+) \S+ (\S+) (\S+) (?:"(?:[^"\\]|\\.)*"|-) (\d{3}|-) \S+ (\d+|-) `)

// bucketLog parses a line of S3's server access log. It skips the reads of CloudFront, which are in CloudFront's
// own log.
func bucketLog(line string) (r request, keep, ok bool) {
	m := bucketLine.FindStringSubmatch(line)
	if m == nil {
		return r, false, false
	}
	day, err := time.Parse("02/Jan/2006", m[1])
	if err != nil {
		return r, false, false
	}
	if m[3] != "REST.GET.OBJECT" && m[3] != "WEBSITE.GET.OBJECT" || m[5] != "200" && m[5] != "206" || strings.HasPrefix(m[2], "svc:cloudfront") {
		return r, false, true
	}
	name, err := url.QueryUnescape(m[4]) // S3 escapes names twice
	if err == nil {
		name = unescaped(name)
	}
	r = request{path: name, day: day.Format(time.DateOnly), whole: m[5] == "200"}
	r.bytes, _ = strconv.ParseInt(m[6], 10, 64)
	return r, true, true
}
