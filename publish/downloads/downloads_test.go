package downloads

import (
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

const blobName = "blobs/sha256/69/69c1a3c1d53a54135d8e8fdedb79959d8b1ffbbd262f1ca9fd2a0834d2321cc5"

// documents are those of two packages: zlib, whose tarball is blobName, and slurm, which nobody reads.
func documents(t testing.TB) (all []*inventory.Document) {
	t.Helper()
	for i, name := range []string{"zlib", "slurm"} {
		v, err := query.ParseVersion("1.3")
		if err != nil {
			t.Fatal(err)
		}
		n := &query.Node{Name: name, Version: v, Hash: strings.Repeat("ab"[i:i+1], 32)}
		blobs := []inventory.Blob{{Name: []string{blobName, "blobs/sha256/00/00"}[i], Size: 1000, Digest: blob.Digest{}, Tarball: true}}
		all = append(all, &inventory.Document{Build: &inventory.Build{Node: n}, Size: 10, Blobs: blobs})
	}
	return all
}

func w3c(rows ...string) string {
	return "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status x-edge-result-type sc-range-start\n" + strings.Join(rows, "\n") + "\n"
}

func bucketRow(requester, operation, status string) string {
	return fmt.Sprintf(`79a59df9 my-cache [27/Nov/2026:10:00:00 +0000] 192.0.2.3 %s 3E57427F3EXAMPLE %s noble/spack/%s "GET /x HTTP/1.1" %s - 500 1000 7 6 "-" "spack/1.2 \"x\"" -`, requester, operation, blobName, status)
}

func read(t testing.TB, files map[string]string, since time.Time) *Report {
	t.Helper()
	at := t.TempDir()
	for name, text := range files {
		f, err := os.Create(filepath.Join(at, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".gz") {
			zw := gzip.NewWriter(f)
			_, _ = zw.Write([]byte(text))
			err = zw.Close()
		} else {
			_, err = f.WriteString(text)
		}
		if f.Close() != nil || err != nil {
			t.Fatal(err)
		}
	}
	d, err := dir.Open(at, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := NewCounter(documents(t), "/noble/spack/")
	if err := c.Read(t.Context(), d.Mirror(""), since); err != nil {
		t.Fatal(err)
	}
	return c.Report(time.Now())
}

// Each format of logs, and what does not count: other mirrors, writes, failures, later parts, and what the CDN reads in the bucket.
func TestLogs(t *testing.T) {
	path := "/noble/spack/" + blobName
	for name, row := range map[string]struct {
		file, text                          string
		downloads, requests, hits, odd, sum int64
	}{
		"json": {"x.gz", `{"date":"2026-11-27","c-ip":"192.0.2.1","cs-method":"GET","cs-uri-stem":"` + path + `","sc-status":"200","sc-bytes":"700","x-edge-result-type":"Hit"}
{"date":"2026-11-28","cs-method":"GET","cs-uri-stem":"` + path + `","sc-status":206,"sc-bytes":300,"sc-range-start":"500","x-edge-result-type":"Miss"}
{"date":"2026-11-28","cs-method":"HEAD","cs-uri-stem":"` + path + `","sc-status":"200"}
{"date":"2026-11-28","cs-method":"GET","cs-uri-stem":"` + path + `","sc-status":"404"}
{"date":"2026-11-28","cs-method":"GET","cs-uri-stem":"/other/` + blobName + `","sc-status":"200","sc-bytes":"1"}
{"broken`, 1, 2, 1, 1, 1000},
		"text": {"E2.gz", w3c("2026-11-27\t10:00:00\tFRA\t700\t192.0.2.1\tGET\td1.cloudfront.net\t"+path+"\t200\tRefreshHit\t-", "2026-11-27\tshort"), 1, 1, 1, 1, 700},
		"s3":   {"2026-11-27-10-00-00-ABC", bucketRow("-", "REST.GET.OBJECT", "200") + "\n" + bucketRow("svc:cloudfront.amazonaws.com", "REST.GET.OBJECT", "200") + "\n" + bucketRow("arn:aws:iam::1:role/p", "REST.PUT.OBJECT", "200") + "\n" + bucketRow("-", "REST.GET.OBJECT", "403") + "\n", 1, 1, 0, 0, 500},
		"none": {"readme.txt", "this is no log\n", 0, 0, 0, 1, 0},
	} {
		r := read(t, map[string]string{row.file: row.text}, time.Time{})
		if r.Packages[0].Downloads != row.downloads || r.Requests != row.requests || r.Hits != row.hits || r.Strange != row.odd || r.Bytes != row.sum {
			t.Errorf("%s: %+v", name, r)
		}
		if row.downloads > 0 && (r.Packages[0].Name != "zlib" || r.Packages[0].Last != "2026-11-27" || r.Unread != (Unread{1, 1010})) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Several files are added up, what is older is left out, and no address is kept.
func TestReport(t *testing.T) {
	row := func(day string) string {
		return day + "\t10:00:00\tFRA\t700\t192.0.2.1\tGET\td1.cloudfront.net\t/noble/spack/" + blobName + "\t200\tMiss\t-"
	}
	files := map[string]string{}
	for i := range 40 {
		files[fmt.Sprintf("%d.gz", i)] = w3c(row("2026-11-01"), row("2026-11-20"))
	}
	r := read(t, files, time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC))
	if r.Files != 40 || r.Packages[0].Downloads != 40 || r.From != "2026-11-20" || r.To != "2026-11-20" || r.HitRate() != 0 {
		t.Errorf("%+v", r)
	}
	if strings.Contains(fmt.Sprintf("%+v", r), "192.0.2") {
		t.Error("an address is kept")
	}
}

func FuzzLines(f *testing.F) {
	f.Add(`{"date":"2026-11-27"}`)
	f.Add(bucketRow("-", "REST.GET.OBJECT", "200"))
	f.Fuzz(func(t *testing.T, text string) {
		c := NewCounter(documents(t), "")
		_ = c.readFile(context.Background(), strings.NewReader(text), "")
		c.Report(time.Now())
	})
}
