package s3

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// What AWS, versitygw and MinIO answer, with nothing changed but names.
var pages = map[string]string{
	"AWS": `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix>p/</Prefix><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><IsTruncated>true</IsTruncated><Contents><Key>p/a&amp;b &lt;&apos;&#34;</Key><LastModified>2026-10-12T17:50:30.000Z</LastModified><ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>434234</Size><StorageClass>STANDARD</StorageClass></Contents><Contents><Key>p/c</Key><LastModified>2026-10-12T17:50:30.000Z</LastModified><ETag>&quot;fba9dede5f27731c9771645a39863328-2&quot;</ETag><Size>0</Size><Owner><ID>75aa</ID><DisplayName/></Owner><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>`,
	"versitygw": `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix></Prefix><StartAfter></StartAfter><ContinuationToken></ContinuationToken><NextContinuationToken></NextContinuationToken><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><Delimiter></Delimiter><IsTruncated>false</IsTruncated><Contents><ETag>&#34;1c7d&#34;</ETag><Key>größe/日本</Key><LastModified>2026-11-24T12:00:00Z</LastModified><Size>6</Size><StorageClass>STANDARD</StorageClass></Contents><EncodingType></EncodingType></ListBucketResult>`,
	"indented": `<ListBucketResult>
	<IsTruncated>false</IsTruncated>
	<Contents>
		<Key>c</Key>
		<ETag>"1c7d"</ETag>
		<Size>6</Size>
	</Contents>
	<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>
</ListBucketResult>
`,
	"empty": `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated></ListBucketResult>`,
}

// These are left to the SDK.
var strangePages = []string{
	"", "<", "<a", "<ListBucketResult/>", "<ListBucketResult>", "<Other></Other>", "<ListBucketResult></Other>",
	`<?xml version="1.0" encoding="ISO-8859-1"?><ListBucketResult></ListBucketResult>`,
	`<ListBucketResult><!-- <Contents> --></ListBucketResult>`,
	`<ListBucketResult><Contents><Key><![CDATA[a]]></Key></Contents></ListBucketResult>`,
	`<ListBucketResult><Contents><Key>a&#xA;b</Key></Contents></ListBucketResult>`,
	`<ListBucketResult><Contents><Key encoding="x">a</Key></Contents></ListBucketResult>`,
	`<ListBucketResult><Contents ><Key>a</Key></Contents></ListBucketResult>`,
	`<ListBucketResult><Contents><Key>a</Contents></ListBucketResult>`,
	`<ListBucketResult><Contents><Size>six</Size></Contents></ListBucketResult>`,
	`<ListBucketResult><Contents><LastModified>today</LastModified></Contents></ListBucketResult>`,
	`<ListBucketResult><Contents>text<Key>a</Key></Contents></ListBucketResult>`,
	"<ListBucketResult><Contents><Key>a\rb</Key></Contents></ListBucketResult>",
	"<ListBucketResult><Contents><Key>a\xff</Key></Contents></ListBucketResult>",
	`<ListBucketResult></ListBucketResult><ListBucketResult></ListBucketResult>`,
	`<s3:ListBucketResult></s3:ListBucketResult>`,
}

// byDecoder reads a page with a decoder.
func byDecoder(text string) (page, error) {
	var doc struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           string
		NextContinuationToken string
		EncodingType          string
		KeyCount              int64
		Contents              []struct {
			Key, ETag, Size, LastModified string
		}
	}
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		return page{}, err
	}
	p := page{truncated: doc.IsTruncated, next: doc.NextContinuationToken, encoding: doc.EncodingType, count: doc.KeyCount, objects: []listed{}}
	for _, c := range doc.Contents {
		l := listed{key: c.Key, etag: c.ETag}
		if c.Size != "" {
			if _, err := fmt.Sscanf(c.Size, "%d", &l.size); err != nil {
				return page{}, err
			}
		}
		if c.LastModified != "" {
			var err error
			if l.modified, err = time.Parse(time.RFC3339Nano, c.LastModified); err != nil {
				return page{}, err
			}
		}
		p.objects = append(p.objects, l)
	}
	return p, nil
}

func TestPages(t *testing.T) {
	for what, text := range pages {
		got, ok := parsePage([]byte(text))
		want, err := byDecoder(text)
		if !ok || err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", what, got, ok, want, err)
		}
	}
	for _, text := range strangePages {
		if got, ok := parsePage([]byte(text)); ok {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

// What we read, a decoder reads just so.
func FuzzPage(f *testing.F) {
	for _, text := range pages {
		f.Add(text)
	}
	for _, text := range strangePages {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parsePage([]byte(text))
		if !ok {
			return
		}
		if want, err := byDecoder(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v, %v", got, want, err)
		}
	})
}

// A page in another form is read all the same, and one that is cut short is asked for again.
func TestEveryPageIsRead(t *testing.T) {
	strange := "<ListBucketResult><!-- strange --><IsTruncated>false</IsTruncated><Contents><Key>p/a&#xA;b</Key><Size>7</Size></Contents></ListBucketResult>"
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(strange)))
			fmt.Fprint(w, strange[:len(strange)/2])
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, strange)
	}))
	defer server.Close()
	b, err := Open(t.Context(), config(t), Options{Bucket: "bucket", EndpointURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for info, err := range b.Mirror("p").List(t.Context(), mirror.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(info.Name, info.Size))
	}
	if strings.Join(got, ",") != "a\nb7" || asked != 2 {
		t.Errorf("got %q after %d requests", got, asked)
	}
}

// BenchmarkPage is a page of 1,000 objects.
func BenchmarkPage(b *testing.B) {
	var text strings.Builder
	text.WriteString(`<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>`)
	for i := range 1000 {
		fmt.Fprintf(&text, `<Contents><Key>p/blobs/sha256/ab/%064d</Key><LastModified>2026-10-12T17:50:30.000Z</LastModified><ETag>&quot;%032d&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, i, i, i)
	}
	text.WriteString("</ListBucketResult>")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text.String()) }))
	defer server.Close()
	bucket, err := Open(b.Context(), config(b), Options{Bucket: "bucket", EndpointURL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range bucket.Mirror("p").List(b.Context(), mirror.Range{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}
