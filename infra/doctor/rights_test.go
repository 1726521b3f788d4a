package doctor

import (
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// TestWidestNamesWideRefs: the doctor warns of a ref that fits every branch as it does of no
// scope at all.
func TestWidestNamesWideRefs(t *testing.T) {
	for sub, want := range map[string]int{
		"repo:o/r:*": 1, "repo:o/r:ref:refs/*": 1, "repo:o@1/r@2:ref:refs/heads/*": 1,
		"repo:o/r:ref:refs/heads/main": 0, "repo:o/r:ref:refs/tags/v*": 0, "repo:o/r:environment:release": 0,
	} {
		trust := policy.New(policy.Statement{Condition: policy.Condition{"StringLike": {"token.actions.githubusercontent.com:sub": {sub}}}})
		if got := widest(trust); len(got) != want {
			t.Errorf("%s: %v, want %d", sub, got, want)
		}
	}
}
