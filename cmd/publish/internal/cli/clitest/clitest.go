// Package clitest holds helpers shared by the tests of commands.
package clitest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// start is the initial working directory: tests may change it.
var start, _ = os.Getwd()

// Root returns the path of a file or directory of the source tree.
func Root(path string) string {
	dir := start
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, path)
}

// Spack returns the path of a mirror written by Spack.
func Spack(_ testing.TB, fixture string) string { return Root("test/testdata/" + fixture) }

// Variables are the variables of an environment.
type Variables map[string]string

// Lookup is os.LookupEnv of the variables.
func (v Variables) Lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// Environ is os.Environ of the variables.
func (v Variables) Environ() []string {
	var all []string
	for name, value := range v {
		all = append(all, name+"="+value)
	}
	return all
}

// Write writes a file.
func Write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Tree returns the files below a directory.
func Tree(t testing.TB, dir string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			all[rel] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
