package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A source is a directory with the source of the product.
type source struct {
	dir       string
	version   string // value of the constant in cmd/publish
	toolchain string // of go.mod, as go1.26.8
}

func openSource(dir string) (*source, error) {
	version, err := versionIn(filepath.Join(dir, "cmd/publish/main.go"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = dir
	said, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod edit -json: %w", err)
	}
	var mod struct{ Toolchain string }
	if err := json.Unmarshal(said, &mod); err != nil {
		return nil, fmt.Errorf("go mod edit -json: %w", err)
	}
	if mod.Toolchain == "" {
		return nil, errors.New("go.mod names no toolchain: another Go makes another image")
	}
	return &source{dir: dir, version: version, toolchain: mod.Toolchain}, nil
}

func versionIn(file string) (string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, name := range v.Names {
				if name.Name != "version" || i >= len(v.Values) {
					continue
				}
				if lit, ok := v.Values[i].(*ast.BasicLit); ok {
					return strconv.Unquote(lit.Value)
				}
			}
		}
	}
	return "", fmt.Errorf("%s: no constant version", file)
}

// goBuild are the arguments of go that build the released binary. The Dockerfile and `make build` have the same
// line, which a test checks. The binary contains no path, no state of the repository and no build id.
var goBuild = []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid="}

// settings returns the environment variables that the binary depends on.
func settings(toolchain, arch string) []string {
	s := []string{
		"GOWORK=off", // use the versions in go.mod
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch,
		"GOTOOLCHAIN=" + toolchain, "GOFLAGS=-mod=readonly", "GOFIPS140=off",
	}
	switch arch {
	case "amd64":
		return append(s, "GOAMD64=v1")
	case "arm64":
		return append(s, "GOARM64=v8.0")
	}
	return s
}

// compile returns the binary for linux on arch.
func (s *source) compile(arch string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	bin := filepath.Join(tmp, "publish")
	cmd := exec.Command("go", append(slices.Clone(goBuild), "-o", bin, "./cmd/publish")...)
	cmd.Dir = s.dir
	// Experiments that the caller has enabled for other builds must not change this one.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOEXPERIMENT=") })
	cmd.Env = append(env, settings(s.toolchain, arch)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build for %s with %s: %w\n%s", arch, s.toolchain, err, said)
	}
	info, err := buildinfo.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	if info.GoVersion != s.toolchain {
		return nil, fmt.Errorf("built with %s; go.mod asks for %s", info.GoVersion, s.toolchain)
	}
	return os.ReadFile(bin)
}

// architectures are those for which the project has runners.
var architectures = []string{"amd64", "arm64"}

// compileAll returns the binaries for linux, by architecture.
func (s *source) compileAll() (map[string][]byte, error) {
	binaries := make(map[string][]byte)
	for _, arch := range architectures {
		bin, err := s.compile(arch)
		if err != nil {
			return nil, err
		}
		binaries[arch] = bin
	}
	return binaries, nil
}
