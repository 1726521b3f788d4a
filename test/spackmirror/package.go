package spackmirror

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
)

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_+.-]`)

// WritePackage adds a package of layout v3 to a mirror, whatever its spec document says. format is the one that the
// manifest labels the spec with.
func WritePackage(dir, name, version, hash string, format int, document string) error {
	return WritePacked(dir, name, version, hash, format, document, "tarball of "+hash)
}

// WritePacked is WritePackage with the bytes of the tarball.
func WritePacked(dir, name, version, hash string, format int, document, tarball string) error {
	var records []manifestRecord
	for _, b := range [][2]string{
		{"application/vnd.spack.install.v2.tar+gzip", tarball}, {fmt.Sprintf("application/vnd.spack.spec.v%d+json", format), document},
	} {
		s, err := blob(dir, func(w io.Writer) error {
			_, err := io.WriteString(w, b[1])
			return err
		})
		if err != nil {
			return err
		}
		records = append(records, s.record(b[0], "none"))
	}
	file := notInNames.ReplaceAllString(name+"-"+version+"-"+hash, "_") + ".spec.manifest.json"
	return write(filepath.Join(dir, "v3/manifests/spec", name, file), manifest(records...))
}
