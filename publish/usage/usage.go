// Package usage reads from access logs which packages clients have fetched. It does no I/O of its own.
//
// It takes the standard logs of CloudFront, as text and as JSON, and the server access logs of S3, each compressed or not. A
// package counts as used when its document or its tarball was answered: each installation requests them, from a lock file too.
package usage

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Log is what any number of log files say.
type Log struct {
	// From and Until are the times of the first and the last request of any kind; zero if there is none.
	From, Until time.Time
	last        map[spec.Hash]time.Time
}

// Since returns the packages that were fetched at a time or later.
func (l *Log) Since(t time.Time) map[spec.Hash]bool {
	used := make(map[spec.Hash]bool)
	for h, at := range l.last {
		if !at.Before(t) {
			used[h] = true
		}
	}
	return used
}

// maxLine is the length of the longest line that is read, in bytes: URLs may have 8 KiB, and a log has three of them.
const maxLine = 1 << 20

// Add reads one log file. The error names the line.
func (l *Log) Add(r io.Reader) error {
	in := bufio.NewReader(r)
	if head, _ := in.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		in = bufio.NewReader(z)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	var fields []string
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if names, ok := strings.CutPrefix(line, "#Fields:"); ok {
			fields = strings.Fields(names)
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		q, err := parse(line, fields)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		l.note(q)
	}
	return lines.Err()
}

// A request is one line of a log.
type request struct {
	at           time.Time
	method, path string
	status       string
}

var errForm = errors.New("want an access log of CloudFront (text or JSON) or of S3")

func parse(line string, fields []string) (request, error) {
	switch {
	case strings.HasPrefix(line, "{"):
		return parseJSON(line)
	case fields != nil:
		values := strings.Split(line, "\t")
		if len(values) != len(fields) {
			return request{}, fmt.Errorf("it has %d fields and should have %d", len(values), len(fields))
		}
		of := make(map[string]string, len(fields))
		for i, name := range fields {
			of[name] = values[i]
		}
		return cloudfront(of)
	}
	m := ofS3.FindStringSubmatch(line)
	if m == nil {
		return request{}, errForm
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[1])
	return request{at: at, method: m[2], path: m[3], status: m[4]}, err
}

// ofS3 matches a server access log: owner, bucket, time, address, requester, ID, operation, key, request, status.
var ofS3 = regexp.MustCompile(`^\S+ \S+ \[([^\]]+)\] \S+ \S+ \S+ [A-Z]+\.([A-Z]+)\.\S+ (\S+) (?:"[^"]*"|-) (\d{3}|-)`)

func parseJSON(line string) (request, error) {
	var raw map[string]any
	if err := json.Unmarshal([]byte(line), &raw); err != nil {
		return request{}, fmt.Errorf("%w: %w", errForm, err)
	}
	of := make(map[string]string, len(raw))
	for name, v := range raw {
		of[name] = fmt.Sprint(v)
	}
	return cloudfront(of)
}

func cloudfront(of map[string]string) (request, error) {
	at, err := time.Parse("2006-01-02 15:04:05", of["date"]+" "+of["time"])
	if err != nil {
		return request{}, fmt.Errorf("%w: date and time: %w", errForm, err)
	}
	return request{at: at, method: of["cs-method"], path: of["cs-uri-stem"], status: of["sc-status"]}, nil
}

// ofPackage matches what a client fetches of a package: a document or a tarball whose name ends in the hash.
var ofPackage = regexp.MustCompile(`-([a-z2-7]{32})\.(?:spec\.manifest\.json|spec\.json(?:\.sig)?|spack)$`)

func (l *Log) note(q request) {
	if l.From.IsZero() || q.at.Before(l.From) {
		l.From = q.at
	}
	if q.at.After(l.Until) {
		l.Until = q.at
	}
	if q.method != "GET" || !strings.HasPrefix(q.status, "2") && q.status != "304" {
		return
	}
	m := ofPackage.FindStringSubmatch(q.path)
	if m == nil {
		return
	}
	h, err := spec.ParseHash(m[1])
	if err != nil {
		return
	}
	if l.last == nil {
		l.last = make(map[spec.Hash]time.Time)
	}
	if q.at.After(l.last[h]) {
		l.last[h] = q.at
	}
}
