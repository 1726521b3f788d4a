package policy

import "testing"

// TestWide: a pattern that fits every new branch or tag protects nothing.
func TestWide(t *testing.T) {
	for ref, want := range map[string]bool{
		"refs/*": true, "refs/**": true, "refs/h*": true, "refs/heads*": true, "refs/heads/*": true, "refs/heads/?*": true, "refs/heads/**": true,
		"refs/heads/*main": true, "refs/tags/*": true, "refs/?eads/main": true, "*": true,
		"refs/heads/main": false, "refs/tags/v*": false, "refs/heads/release/*": false, "": false,
	} {
		if got := Wide(ref); got != want {
			t.Errorf("%s: %t, want %t", ref, got, want)
		}
	}
}
