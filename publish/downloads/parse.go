package downloads

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A request is what is kept of a line of a log. Addresses and names of clients are not.
type request struct {
	path  string // without a slash at its beginning
	day   string // 2026-11-28
	bytes int64
	whole bool // a download from its beginning, not a later part of one
	hit   bool // answered by an edge
}

// A format reads the lines of one file. ok is false for a line that cannot be understood; keep is false for one that does not count: not a
// read, not answered, or of the CDN itself.
type format func(line string) (r request, keep, ok bool)

// formatOf recognises the format of a file by its first lines; nil: it has none that is known.
func formatOf(line string) format {
	switch {
	case strings.HasPrefix(line, "{"):
		return cloudFrontJSON
	case strings.HasPrefix(line, "#Version:"):
		return nil // the next line says more
	case strings.HasPrefix(line, "#Fields:"):
		return cloudFrontText(strings.Fields(line)[1:])
	case bucketLine.MatchString(line):
		return bucketLog
	}
	return nil
}

// cloudFrontJSON reads version 2 of CloudFront's access log.
func cloudFrontJSON(line string) (request, bool, bool) {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return request{}, false, false
	}
	return cloudFront(func(name string) string {
		switch v := fields[name].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return ""
	})
}

// cloudFrontText reads the older form of it, whose first lines name its fields.
func cloudFrontText(names []string) format {
	at := make(map[string]int)
	for i, name := range names {
		at[name] = i
	}
	return func(line string) (request, bool, bool) {
		if strings.HasPrefix(line, "#") {
			return request{}, false, true
		}
		values := strings.Split(line, "\t")
		if len(values) < len(names) {
			return request{}, false, false
		}
		return cloudFront(func(name string) string {
			if i, ok := at[name]; ok {
				return values[i]
			}
			return ""
		})
	}
}

func cloudFront(field func(string) string) (r request, keep, ok bool) {
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

// unescaped is a path as the name of an object.
func unescaped(path string) string {
	if text, err := url.PathUnescape(path); err == nil {
		path = text
	}
	return strings.TrimPrefix(path, "/")
}

// bucketLine is the form of S3's server access log: owner, bucket, [time], address, requester, request id, operation, key, "request",
// status, error, bytes.
var bucketLine = regexp.MustCompile(`^[0-9a-f]+ [a-z0-9.-]+ \[(\d{2}/\w{3}/\d{4}):[^\]]*\] \S+ (\S+) \S+ (\S+) (\S+) "(?:[^"\\]|\\.)*" (\d{3}|-) \S+ (\d+|-) `)

// bucketLog reads S3's server access log. What CloudFront reads there is in CloudFront's own log.
func bucketLog(line string) (r request, keep, ok bool) {
	m := bucketLine.FindStringSubmatch(line)
	if m == nil {
		return r, false, false
	}
	day, err := time.Parse("02/Jan/2006", m[1])
	if err != nil {
		return r, false, false
	}
	if m[3] != "REST.GET.OBJECT" || m[5] != "200" && m[5] != "206" || strings.HasPrefix(m[2], "svc:cloudfront") {
		return r, false, true
	}
	name, err := url.QueryUnescape(m[4]) // which S3 escapes twice
	if err == nil {
		name = unescaped(name)
	}
	r = request{path: name, day: day.Format(time.DateOnly), whole: m[5] == "200"}
	r.bytes, _ = strconv.ParseInt(m[6], 10, 64)
	return r, true, true
}
