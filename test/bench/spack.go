package bench

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// spackName is what Spack's part is called.
const spackName = "spack buildcache update-index"

// spackIndex is the part of `spack buildcache push --update-index` that a matrix of jobs waits for: Spack reads the documents of all packages of
// the mirror and replaces the index, so one job can do it at a time. $SPACK is a checkout of Spack, and $SPACK_PYTHON a python that has boto3.
func spackIndex() (*Client, error) {
	dir := os.Getenv("SPACK")
	if dir == "" {
		return nil, errors.New("$SPACK names no checkout of Spack")
	}
	bin := filepath.Join(dir, "bin", "spack")
	path := os.Getenv("PATH")
	if python := os.Getenv("SPACK_PYTHON"); python != "" {
		path = filepath.Dir(python) + string(os.PathListSeparator) + path
	}
	env := []string{"PATH=" + path, "SPACK_DISABLE_LOCAL_CONFIG=1"}
	cmd := exec.Command(bin, "--version")
	cmd.Env = append(os.Environ(), env...)
	version, err := cmd.Output()
	return &Client{
		Name: spackName, Version: strings.TrimSpace(string(version)), bin: bin,
		args: func(_ string, to destination) []string { return []string{"buildcache", "update-index", to.s3()} },
		env:  func(to destination) []string { return append(env, "S3_ENDPOINT_URL="+to.place.url()) },
	}, err
}
