package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// What cannot hold a mirror, or means something else to Spack, is refused before the first request, by the
// command line and by the daemon, with what to give instead.
func TestDestinationsThatCannotHoldAMirror(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(400) }))
	defer server.Close()
	for where, words := range map[string]string{
		"s3://a--use1-az4--x-s3/x":                                          "general purpose bucket",
		"s3://ap--use1-az4--xa-s3/x":                                        "general purpose bucket",
		"s3://arn:aws:s3:eu-west-1:111122223333:accesspoint/ap/pre":         "get-access-point --region eu-west-1 --account-id 111122223333 --name ap --query Alias",
		"s3://arn:aws-cn:s3:cn-north-1:111122223333:accesspoint:ap":         "--name ap",
		"arn:aws:s3:eu-west-1:111122223333:accesspoint/ap":                  "--name ap",
		"s3://arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap/pre":  "multi-region access point",
		"s3://arn:aws:s3-outposts:us-west-2:111122223333:outpost/op/bucket": "give the name of the bucket",
		"s3://bucket/a?x":                 "cannot have ? or #",
		"s3://bucket/a#x":                 "cannot have ? or #",
		"s3://bucket/a//b":                "want s3://bucket/a/b",
		"s3://bucket//a":                  "want s3://bucket/a",
		"s3://bucket/a/../b":              "want s3://bucket/b",
		"s3//bucket/x":                    "did you mean s3://bucket/x?",
		"file//tmp/x":                     "did you mean file:///tmp/x?",
		"~/mirror":                        "only a shell knows what ~ stands for",
		"~root/mirror":                    "only a shell knows what ~root stands for",
		"$HOME/mirror":                    "only a shell knows what $HOME stands for",
		"${HOME}":                         "only a shell knows what ${HOME} stands for",
		"s3://buck%65t/a":                 "no name of a bucket",
		"s3://ab/x":                       "want 3 to 63 characters",
		"s3://" + strings.Repeat("a", 64): "want 3 to 63 characters",
		"s3://My-Bucket/x":                "S3 takes no capitals, did you mean my-bucket?",
		"s3://my_bucket/x":                "no name of a bucket: want lower-case letters",
		"s3://a..b/x":                     "no name of a bucket: want lower-case letters",
		"s3://-ab/x":                      "no name of a bucket: want lower-case letters",
		"s3://ab-/x":                      "no name of a bucket: want lower-case letters",
		"s3://192.168.5.4/x":              "but an address",
		"s3://xn--abc/x":                  "S3 reserves names",
		"s3:///a":                         "want s3://bucket",
		"file:/x":                         "did you mean file:///x?",
		"s3:/bucket/x":                    "did you mean s3://bucket/x?",
		"s3://bucket/a\xff":               "must be UTF-8",
		"s3://bucket/a\nb":                "without control characters",
		"file:///tmp/x#y":                 "%23 for #",
		"file:///tmp/x#":                  "%23 for #",
		"file:///tmp/x?y":                 "%3F for ?",
		"file:///tmp/x%0ay":               "without control characters",
		"file:///tmp/x%ffy":               "must be UTF-8",
		"file://other.host/x":             "want an absolute path",
		"https://bucket/x":                "want s3://bucket[/prefix], file:///directory or the path of a directory",
	} {
		code, _, stderr := execute(t, nil, "--endpoint-url", server.URL, clitest.Spack(t, "v3-unsigned"), where)
		if code != cli.ExitUsage || !strings.Contains(stderr, words) {
			t.Errorf("%q: exit %d, said:\n%s", where, code, stderr)
		}
		if err := target.Check(where); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: a daemon says: %v", where, err)
		}
	}
	if asked > 0 {
		t.Errorf("%d requests", asked)
	}
	_, err := service.ParseConfig([]byte("state_dir: /tmp/s\nsocket: /tmp/s.sock\nmirrors:\n  - name: a\n    source: /tmp\n    destination: s3://a--use1-az4--x-s3/x\n"))
	if err == nil || !strings.Contains(err.Error(), "general purpose bucket") {
		t.Errorf("the daemon's configuration: %v", err)
	}
}
