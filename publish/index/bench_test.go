package index_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
)

// bigIndex is an index of n packages of about 1.1 KB each, as Spack's are.
func bigIndex(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"database":{"version":"8","installs":{`)
	filler := strings.Repeat("x", 900)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		digits := strings.Map(func(r rune) rune { return 'a' + r - '0' }, fmt.Sprint(i))
		h := strings.Repeat("z", 32-len(digits)) + digits
		fmt.Fprintf(&b, `"%s":{"spec":{"name":"p%d","version":"1","arch":{"platform":"linux","platform_os":"ubuntu24.04","target":"x86_64_v3"},"package_hash":"%s","hash":"%s"},"ref_count":1,"in_buildcache":true}`, h, i%500, filler, h)
	}
	b.WriteString(`}}}`)
	return b.Bytes()
}

// Merging 20 packages into an index of 100,000: what a publish does between its reads
// and its writes.
func BenchmarkMerge(b *testing.B) {
	raw := bigIndex(100_000)
	add := fixtures(b)["v3-signed"].specs
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		x, err := index.Parse(raw, index.V8)
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range add {
			x.Add(s)
		}
		if _, err := blob.Sum(b.Context(), x.Content()); err != nil {
			b.Fatal(err)
		}
		_ = x.Coverage()
	}
}

// Checking an index of 100,000 that another program has written.
func BenchmarkCheck(b *testing.B) {
	raw := bigIndex(100_000)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	x, err := index.Parse(raw, index.V8)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if bad := x.Check(); len(bad) > 0 {
			b.Fatal(bad[0])
		}
	}
}
