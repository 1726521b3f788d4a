package endpoint

import (
	"strings"
	"testing"
)

// What cannot be asked is refused, with what to write instead, and no password is shown.
func TestEndpoints(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:9000":           "",
		"https://s3.example.org/path":     "",
		"http://[::1]:9000":               "",
		"http://127.0.0.1:":               "",
		"127.0.0.1:9000":                  "http:// or https:// in front",
		"minio.example.org":               "http:// or https:// in front",
		"localhost:9000":                  "http:// or https:// in front",
		"ftp://minio.example.org":         "want http://host",
		"http://":                         "want http://host",
		"http://:9000":                    "want http://host",
		"http://minio.example.org?x=y":    "a query",
		"http://minio.example.org/a#x":    "want http://minio.example.org/a",
		"http://127.0.0.1:99999":          "port",
		"http://127.0.0.1:0":              "port",
		"http://user:word@127.0.0.1:9000": "user or a password",
	} {
		err := Check(endpoint)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(strings.ReplaceAll(err.Error(), "not have a query", "a query"), want) || strings.Contains(err.Error(), "word@")) {
			t.Errorf("%s: %v, want %q", endpoint, err, want)
		}
	}
}

// A region is a part of a host's name.
func TestRegions(t *testing.T) {
	for name, good := range map[string]bool{
		"us-east-1": true, "garage": true, "RegionOne": true, "1": true,
		"": false, "us_east_1": false, " us-east-1": false, "us-east-1\n": false, "us.east": false, "größe": false, strings.Repeat("a", 64): false,
	} {
		if err := CheckRegion(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
