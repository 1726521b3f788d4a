package answer

import (
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Version returns an ETag in the form that conditions need. Some listings omit the quotes.
func Version(etag string) mirror.Version {
	if etag == "" || strings.HasPrefix(etag, `"`) || strings.HasPrefix(etag, "W/") {
		return mirror.Version(etag)
	}
	return mirror.Version(`"` + etag + `"`)
}

// MD5 returns the MD5 in an ETag. The ETag of an object that was uploaded in parts has none.
func MD5(v mirror.Version) string {
	s := strings.Trim(string(v), `"`)
	if len(s) != 32 || strings.ContainsFunc(s, notHex) {
		return ""
	}
	return strings.ToLower(s)
}

func notHex(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
}
