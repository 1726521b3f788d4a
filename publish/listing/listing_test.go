package listing

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

const manifest = `{"sourceBucket":"cache","destinationBucket":"arn:aws:s3:::lists","version":"2016-11-30","creationTimestamp":"1795910400000","fileFormat":"CSV",
"fileSchema":"Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass","files":[{"key":"lists/data/a.csv.gz","size":1,"MD5checksum":"x"},{"key":"lists/data/b.csv.gz"}]}`

func packed(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.Bytes()
}

func reading(files map[string]string) Open {
	return func(_ context.Context, key string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed(files[key]))), nil
	}
}

func collect(t *testing.T, i *Inventory, prefix string) (all []mirror.Info, err error) {
	for info, e := range i.Objects(t.Context(), prefix) {
		if e != nil {
			return all, e
		}
		all = append(all, info)
	}
	return all, nil
}

// Current objects below the prefix are listed, as S3 lists them.
func TestAnInventoryIsRead(t *testing.T) {
	i, err := Parse([]byte(manifest), reading(map[string]string{
		"lists/data/a.csv.gz": `"cache","noble/spack/v3/manifests/spec/zlib/a%2Bb.json","v","true","false","7","2026-01-02T03:04:05.000Z","d41d","STANDARD"` + "\n" +
			`"cache","noble/spack/old","v","false","false","7","2026-01-02T03:04:05.000Z","d41d","STANDARD"` + "\n" +
			`"cache","noble/spack/gone","v","true","true","","2026-01-02T03:04:05.000Z","",""` + "\n",
		"lists/data/b.csv.gz": `"cache","elsewhere/x","v","true","false","7","2026-01-02T03:04:05.000Z","d41d","STANDARD"` + "\n" +
			`"cache","noble/spack/blobs/x","v","true","false","8","2026-01-02T03:04:05.000Z","d41d-2","STANDARD"` + "\n",
	}))
	if err != nil || i.Bucket != "cache" || i.Created.Year() != 2026 {
		t.Fatalf("%+v, %v", i, err)
	}
	all, err := collect(t, i, "noble/spack/")
	if err != nil || len(all) != 2 || all[0].Name != "v3/manifests/spec/zlib/a+b.json" || all[0].Size != 7 || all[0].Version != `"d41d"` || all[0].Modified.Day() != 2 || all[1].Version != `"d41d-2"` {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestWhatIsNoInventoryIsRefused(t *testing.T) {
	good := func(from, to string) string {
		return string(bytes.Replace([]byte(manifest), []byte(from), []byte(to), 1))
	}
	for _, text := range []string{"", "{}", "[]", good("CSV", "Parquet"), good(" ETag,", ""), good("1795910400000", "yesterday")} {
		if _, err := Parse([]byte(text), nil); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	rows := []string{"a,b\n", `"cache","x","v","true","false","many","2026-01-02T03:04:05.000Z","d41d","S"`, `"cache","x","v","true","false","1","then","d41d","S"`, `"cache","%zz","v","true","false","1","2026-01-02T03:04:05.000Z","d41d","S"`}
	for _, row := range rows {
		i, err := Parse([]byte(manifest), reading(map[string]string{"lists/data/a.csv.gz": row}))
		if err != nil {
			t.Fatal(err)
		}
		if all, err := collect(t, i, ""); err == nil {
			t.Errorf("%q is taken: %v", row, all)
		}
	}
}
