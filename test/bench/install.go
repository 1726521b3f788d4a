package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// Versions of the peers. Each is installed once, below the directory of the benchmark, by
// the package manager of its language.
const (
	s5cmdVersion  = "v2.3.0"
	rcloneVersion = "v1.76.0"
	mcVersion     = "v0.0.0-20250313080218-cf909e1063a9"
	awsVersion    = "1.45.11"
)

// peers are the clients of others. Each is run as its manual says, with its defaults.
var peers = []struct {
	name string
	get  func(dir string, install bool) (*Client, error)
}{
	{"s5cmd sync", s5cmd}, {"rclone sync", rclone}, {"mc mirror", mc}, {"aws s3 sync", awsCLI}, {"AWS CRT (Python)", crt},
}

func s5cmd(dir string, install bool) (*Client, error) {
	bin, err := goProgram(dir, "s5cmd", "github.com/peak/s5cmd/v2", s5cmdVersion, "", install)
	return &Client{
		Version: s5cmdVersion, bin: bin,
		args: func(from string, to destination) []string {
			return []string{"--endpoint-url", to.place.url(), "--log", "error", "sync", from + "/", to.s3() + "/"}
		},
	}, err
}

func rclone(dir string, install bool) (*Client, error) {
	bin, err := goProgram(dir, "rclone", "github.com/rclone/rclone", rcloneVersion, "", install)
	return &Client{
		Version: rcloneVersion, bin: bin,
		args: func(from string, to destination) []string {
			return []string{"--config", os.DevNull, "sync", from, ":s3:" + to.bucket + "/" + prefix,
				"--s3-provider", "Other", "--s3-list-version", "2", "--s3-env-auth", "--s3-endpoint", to.place.url(), "--s3-no-check-bucket"}
		},
	}, err
}

func mc(dir string, install bool) (*Client, error) {
	bin, err := goProgram(dir, "mc", "github.com/minio/mc", mcVersion, "", install)
	return &Client{
		Version: mcVersion, bin: bin,
		args: func(from string, to destination) []string {
			return []string{"--quiet", "--config-dir", filepath.Join(dir, "mc.config"), "mirror", from, "bench/" + to.bucket + "/" + prefix}
		},
		env: func(to destination) []string {
			scheme, _, _ := strings.Cut(to.place.url(), "://")
			return []string{"MC_HOST_bench=" + scheme + "://" + access + ":" + secret + "@" + hostOf(to.place.url())}
		},
	}, err
}

// goProgram returns the path of a Go program of an exact version, and builds it if it is not
// there. It is required by a module made for it, since that needs nothing but this version.
func goProgram(dir, name, module, version, pkg string, install bool) (string, error) {
	bin := filepath.Join(dir, name+"-"+version)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if !install {
		return "", fmt.Errorf("%s: not installed, and -install=false", name)
	}
	at := filepath.Join(dir, "build-"+name)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", err
	}
	mod := fmt.Sprintf("module peer\n\ngo 1.26\n\nrequire %s %s\n", module, version)
	if err := os.WriteFile(filepath.Join(at, "go.mod"), []byte(mod), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-mod=mod", "-o", bin, module+pkg)
	cmd.Dir = at
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s %s cannot be built: %s", name, version, lastLine(said, err))
	}
	return bin, os.RemoveAll(at)
}

func lastLine(said []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	if line := lines[len(lines)-1]; line != "" {
		return line
	}
	return err.Error()
}

func awsCLI(dir string, install bool) (*Client, error) {
	venv := filepath.Join(dir, "aws-"+awsVersion)
	bin := filepath.Join(venv, "bin", "aws")
	c := &Client{
		Version: awsVersion, bin: bin,
		args: func(from string, to destination) []string {
			return []string{"s3", "sync", "--only-show-errors", from, to.s3()}
		},
	}
	if _, err := os.Stat(bin); err == nil {
		return c, nil
	}
	if !install {
		return nil, errors.New("aws: not installed, and -install=false")
	}
	for _, args := range [][]string{{"python3", "-m", "venv", venv}, {filepath.Join(venv, "bin", "pip"), "install", "-q", "awscli==" + awsVersion}} {
		if said, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			os.RemoveAll(venv)
			return nil, fmt.Errorf("aws %s cannot be installed: %s", awsVersion, lastLine(said, err))
		}
	}
	return c, nil
}

// crtProgram sends a directory with the AWS CRT client.
//
//go:embed crt.py
var crtProgram []byte

// crt needs Debian's python3-awscrt, which is built for Debian's Python.
func crt(dir string, install bool) (*Client, error) {
	const python = "/usr/bin/python3"
	version := func() ([]byte, error) {
		return exec.Command(python, "-c", "import awscrt; print(awscrt.__version__)").Output()
	}
	at, err := version()
	if err != nil && install && os.Geteuid() == 0 {
		cmd := exec.Command("apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-awscrt")
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if said, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("AWS CRT: python3-awscrt cannot be installed: %s", lastLine(said, err))
		}
		at, err = version()
	}
	if err != nil {
		return nil, fmt.Errorf("AWS CRT: %s has no awscrt: apt-get install python3-awscrt", python)
	}
	program := filepath.Join(dir, "crt.py")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(program, crtProgram, 0o644); err != nil {
		return nil, err
	}
	return &Client{
		Version: strings.TrimSpace(string(at)), bin: python, Once: true, WellKnown: true,
		args: func(from string, to destination) []string {
			return []string{program, from, to.bucket, prefix, to.place.wellKnown()}
		},
	}, nil
}

// sdkVersion is that of one of the SDK's uploaders.
func sdkVersion(api string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/aws/aws-sdk-go-v2/feature/s3/"+api {
			return d.Version
		}
	}
	return ""
}
