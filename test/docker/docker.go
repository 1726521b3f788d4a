// Package docker is the little of Docker that tests need. They use the client's command line,
// as GitHub's runner does.
package docker

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Need skips a test where no engine answers. In the gate there is one, so there it fails.
func Need(t testing.TB) {
	t.Helper()
	out, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("no Docker engine: %v\n%s", err, out)
	default:
		t.Skipf("no Docker engine: %v", err)
	}
}

// Run runs the client and returns what it prints.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("docker", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

// Index returns the index of the OCI image layout in dir, which has one.
func Index(dir string) (v1.ImageIndex, error) {
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("%s: %d manifests in index.json, not one", dir, len(m.Manifests))
	}
	return top.ImageIndex(m.Manifests[0].Digest)
}

// Platform returns the image for linux on arch.
func Platform(index v1.ImageIndex, arch string) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == arch {
			return index.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("no image for %s", arch)
}

// Load gives the engine the image of this machine's platform from the layout in dir, under the
// name tag.
func Load(t testing.TB, dir, tag string) {
	t.Helper()
	index, err := Index(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := Platform(index, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "load")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = tarball.Write(ref, img, in)
	in.Close()
	if werr := cmd.Wait(); err != nil || werr != nil {
		t.Fatalf("docker load: %v, %v\n%s", err, werr, &said)
	}
}

var gateway = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").Output()
	if addr := strings.TrimSpace(string(out)); addr != "" {
		return addr, err
	}
	// An engine that has not started a container yet knows only the subnet, whose first address it is.
	out, err = exec.Command("docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").Output()
	if err != nil {
		return "", err
	}
	ip, _, err := net.ParseCIDR(strings.TrimSpace(string(out)))
	if err != nil {
		return "", err
	}
	ip = ip.To4()
	ip[3]++
	return ip.String(), nil
})

// Gateway is the address of this machine as containers on the default network see it.
func Gateway(t testing.TB) string {
	t.Helper()
	Need(t)
	host, err := gateway()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// Expose lets containers reach the server at addr, which listens on loopback, until the test
// ends. It returns the address that they use.
func Expose(t testing.TB, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(Gateway(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { forward(c, addr) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// forward copies both ways until either side is done.
func forward(c net.Conn, addr string) {
	defer c.Close()
	s, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer s.Close()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
		wg.Go(func() {
			io.Copy(way[0], way[1])
			c.Close()
			s.Close()
		})
	}
	wg.Wait()
}
