package spec_test

import (
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec/spectest"
)

// What Spack cannot read is refused, and what it reads is not, except for what Spack never writes.
func TestContractIsThatOfSpacksReaders(t *testing.T) {
	for file, format := range map[string]int{"v5.jsonl.gz": spec.Format5, "v4.jsonl.gz": spec.Format4} {
		all := spectest.Read(t, testdata+"/reader/"+file)
		unchanged, err := spec.Parse([]byte(all[len(all)-1].Document), format)
		if err != nil {
			t.Fatalf("the unchanged document: %v", err)
		}
		for _, v := range all {
			s, err := spec.Parse([]byte(v.Document), format)
			switch {
			case err == nil && !v.Readable() && s.Root().ID() == unchanged.Root().ID():
				t.Errorf("%s %s: accepted, and Spack says %v", file, v.Change, v.Spack)
			case err != nil && v.Readable() && !v.Unusual():
				t.Errorf("%s %s: Spack reads it, refused: %v", file, v.Change, err)
			}
		}
	}
}
