package downloads

import (
	"bytes"
	"compress/gzip"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const (
	zlib  = "abcdefghijklmnopqrstuvwxyz234567"
	munge = "bbcdefghijklmnopqrstuvwxyz234567"
)

const text = "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer)\n" +
	"2026-01-02\t03:04:05\tFRA2\t100\t192.0.2.1\tGET\td1.cloudfront.net\t/noble/spack/v3/manifests/spec/zlib/zlib-1.3.1-" + zlib + ".spec.manifest.json\t200\t-\n" +
	"2026-03-02\t03:04:05\tFRA2\t100\t192.0.2.1\tGET\td1.cloudfront.net\t/noble/spack/v3/manifests/spec/munge/munge-0.5.16-" + munge + ".spec.manifest.json\t404\t-\n" +
	"2026-03-03\t03:04:05\tFRA2\t100\t192.0.2.1\tHEAD\td1.cloudfront.net\t/noble/spack/v3/manifests/spec/munge/munge-0.5.16-" + munge + ".spec.manifest.json\t200\t-\n"

const ofJSON = `{"date":"2026-01-02","time":"03:04:05","cs-method":"GET","sc-status":200,"cs-uri-stem":"/x/build_cache/linux-zlib-1.3.1-` + zlib + `.spec.json.sig"}
{"date":"2026-03-03","time":"03:04:05","cs-method":"GET","sc-status":"200","cs-uri-stem":"/x/index.html"}
`

const ofBucket = `79a5 cache [02/Jan/2026:03:04:05 +0000] 192.0.2.3 79a5 3E57 REST.GET.OBJECT x/build_cache/linux/gcc/zlib-1.3.1/linux-zlib-1.3.1-` + zlib + `.spack "GET /x HTTP/1.1" 206 - 2662992 3462992 70 10 "-" "curl/7.15.1" - - -
79a5 cache [03/Mar/2026:03:04:05 +0000] 192.0.2.3 - 3E57 REST.GET.OBJECT x/v3/manifests/spec/munge/munge-0.5.16-` + munge + `.spec.manifest.json "GET /x HTTP/1.1" 403 AccessDenied 243 - 70 - "-" "curl" -
79a5 cache [03/Mar/2026:03:04:05 +0000] 192.0.2.3 - 3E57 BATCH.DELETE.OBJECT x - 204 - - - - - - - -
` + others

// others are lines of S3's server access log that tell of no download.
const others = `79a5 cache [02/Feb/2026:03:04:05 +0000] - AmazonS3 3E58 S3.EXPIRE.OBJECT x/v3/manifests/spec/munge/munge-0.5.16-` + munge + `.spec.manifest.json "-" - - - 3462992 - - "-" "-" - 9vKB - - - - - - - -
79a5 cache [02/Feb/2026:03:04:06 +0000] - AmazonS3 3E59 S3.TRANSITION_SIA.OBJECT x "-" - - - 3462992 - - "-" "-" - 9vKB - - - - - - - -
79a5 cache [02/Feb/2026:03:04:06 +0000] - AmazonS3 3E59 S3.CREATE.DELETEMARKER x - - - - - - - - - - - - - - - - - - -
79a5 cache [02/Feb/2026:03:04:07 +0000] 192.0.2.3 79a5 3E60 REST.GET.OBJECT_TAGGING x/munge-0.5.16-` + munge + `.spec.manifest.json "GET /x?tagging HTTP/1.1" 200 - 113 - 7 - "-" "curl" - - -
79a5 cache [02/Feb/2026:03:04:07 +0000] 192.0.2.3 79a5 3E60 REST.COPY.OBJECT_GET x/munge-0.5.16-` + munge + `.spec.manifest.json - 200 - - 113 - - - - - - -
79a5 cache [02/Feb/2026:03:04:08 +0000] 192.0.2.3 79a5 3E61 SOAP.CreateBucket - "POST /soap HTTP/1.1" 200 - 113 - 7 - "-" "a \"quoted\" agent" - - -
79a5 cache [02/Feb/2026:03:04:08 +0000] 192.0.2.3 - - - - - 400 BadRequest - - - - - - - - -
`

// A package was used when its document or its tarball was answered, and not when it was asked for in vain.
func TestPackagesThatWereFetched(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(text))
	z.Close()
	for name, log := range map[string]string{"text": text, "gzip": packed.String(), "JSON": ofJSON, "S3": ofBucket} {
		var l Uses
		if err := l.Add(strings.NewReader(log)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		if got := slices.Collect(maps.Keys(l.Since(at))); !slices.Equal(got, []spec.Hash{zlib}) {
			t.Errorf("%s: used are %v", name, got)
		}
		if got := l.Since(at.Add(time.Second)); len(got) > 0 {
			t.Errorf("%s: used since are %v", name, got)
		}
		if !l.From.Equal(at) || !l.Until.Equal(time.Date(2026, 3, 3, 3, 4, 5, 0, time.UTC)) {
			t.Errorf("%s: it is about %v to %v", name, l.From, l.Until)
		}
	}
}

func TestWhatIsNoLogIsRefused(t *testing.T) {
	for _, log := range []string{"hello\n", `{"a":1}` + "\n", "#Fields: date time\n2026-01-02\n", "{\n", "\x1f\x8bxx", strings.Repeat("x", maxLine+1)} {
		if err := new(Uses).Add(strings.NewReader(log)); err == nil {
			t.Errorf("%.40q is taken", log)
		}
	}
}

func FuzzAdd(f *testing.F) {
	for _, log := range []string{text, ofJSON, ofBucket} {
		f.Add(log)
	}
	f.Fuzz(func(t *testing.T, log string) { _ = new(Uses).Add(strings.NewReader(log)) })
}

// A log of S3 may begin with any operation, and downloads from a website endpoint are downloads.
func TestALogThatBeginsWithAnotherOperation(t *testing.T) {
	for _, line := range strings.SplitAfter(strings.TrimSpace(others), "\n") {
		line = strings.TrimSpace(line)
		if formatOf(line) == nil {
			t.Errorf("not recognised: %s", line)
		} else if _, keep, ok := bucketLog(line); keep || !ok {
			t.Errorf("keep %t, understood %t: %s", keep, ok, line)
		}
	}
	site := strings.ReplaceAll(strings.SplitAfter(ofBucket, "\n")[0], "REST.GET", "WEBSITE.GET")
	var u Uses
	if err := u.Add(strings.NewReader(site)); err != nil || !u.Since(time.Time{})[zlib] {
		t.Errorf("%v, %+v", err, u)
	}
	if _, keep, ok := bucketLog(strings.TrimSpace(site)); !keep || !ok {
		t.Errorf("keep %t, understood %t: %s", keep, ok, site)
	}
}
