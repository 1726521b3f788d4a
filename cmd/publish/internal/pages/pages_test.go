package pages

import "testing"

// A page shows neither user nor password of the address that clients use.
func TestAPageHoldsNoPassword(t *testing.T) {
	for _, row := range [][3]string{
		{"", "noble", ""},
		{"https://cache.example.org/noble", "", "https://cache.example.org/noble"},
		{"https://cache.example.org/", "noble/spack", "https://cache.example.org/noble/spack"},
		{"https://user:secret@cache.example.org", "", "https://cache.example.org"},
		{"https://user:secret@cache.example.org/", "noble/spack", "https://cache.example.org/noble/spack"},
	} {
		if got := address(row[0], row[1]); got != row[2] {
			t.Errorf("%s, %q: %s, want %s", row[0], row[1], got, row[2])
		}
	}
}
