package listing

import (
	"encoding/xml"
	"errors"
	"fmt"
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
func byDecoder(text string) (Page, error) {
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
		return Page{}, err
	}
	p := Page{truncated: doc.IsTruncated, Next: doc.NextContinuationToken, encoding: doc.EncodingType, count: doc.KeyCount, Objects: []Object{}}
	for _, c := range doc.Contents {
		l := Object{Key: c.Key, ETag: c.ETag}
		if c.Size != "" {
			if _, err := fmt.Sscanf(c.Size, "%d", &l.Size); err != nil {
				return Page{}, err
			}
		}
		if c.LastModified != "" {
			var err error
			if l.Modified, err = time.Parse(time.RFC3339Nano, c.LastModified); err != nil {
				return Page{}, err
			}
		}
		p.Objects = append(p.Objects, l)
	}
	return p, nil
}

func TestPages(t *testing.T) {
	for what, text := range pages {
		got, ok := scanPage([]byte(text))
		want, err := byDecoder(text)
		if !ok || err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", what, got, ok, want, err)
		}
	}
	for _, text := range strangePages {
		if got, ok := scanPage([]byte(text)); ok {
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
		got, ok := scanPage([]byte(text))
		if !ok {
			return
		}
		if want, err := byDecoder(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v, %v", got, want, err)
		}
	})
}

// A listing of ever new keys ends before it has filled the memory.
func TestAListingWithoutEndIsLeft(t *testing.T) {
	s := Progress{Prefix: "p/"}
	long := strings.Repeat("y", 900)
	var err error
	n := 0
	for ; err == nil && n < 2000; n++ {
		p := Page{Next: fmt.Sprint(n), Objects: make([]Object, PageKeys)}
		for i := range p.Objects {
			p.Objects[i].Key = fmt.Sprintf("p/%09d%04d%s", n, i, long)
		}
		err = s.Check(&p)
	}
	if !errors.Is(err, mirror.ErrFault) || !strings.Contains(err.Error(), "more than 512 MiB of keys") {
		t.Errorf("got error %v", err)
	}
	if n < 500 || n > 700 {
		t.Errorf("it was left after %d pages", n)
	}
}

// aPage is a page of 1,000 objects.
func aPage() []byte {
	var text strings.Builder
	text.WriteString(`<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>`)
	for i := range PageKeys {
		fmt.Fprintf(&text, `<Contents><Key>p/blobs/sha256/ab/%064d</Key><LastModified>2026-10-12T17:50:30.000Z</LastModified><ETag>&quot;%032d&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, i, i, i)
	}
	text.WriteString("</ListBucketResult>")
	return []byte(text.String())
}

func BenchmarkScan(b *testing.B) {
	text := aPage()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := scanPage(text); !ok {
			b.Fatal("it is left to the decoder")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text := aPage()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodePage(text); err != nil {
			b.Fatal(err)
		}
	}
}
