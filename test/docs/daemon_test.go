package docs

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

// column returns the first cells of the table in a section of a page, without quotes.
func column(t *testing.T, page, section string) []string {
	t.Helper()
	_, text, ok := strings.Cut(pages(t)[page], "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", page, section)
	}
	text, _, _ = strings.Cut(text, "\n#")
	var cells []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		cells = append(cells, m[1])
	}
	return cells
}

func differ(t *testing.T, what string, documented, known []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(known)
	if !slices.Equal(documented, known) {
		t.Errorf("%s: documented are\n%v\nand there are\n%v", what, documented, known)
	}
}

// Every key of the configuration is documented, and every key that is documented is one.
func TestKeysOfTheDaemon(t *testing.T) {
	out, err := exec.Command(publish(t), "daemon", "--print-example-config").Output()
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	list := ""
	for _, line := range strings.Split(string(out), "\n") {
		m := regexp.MustCompile(`^( *)#?( *(?:- )?)([a-z_0-9]+):( |$)`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		switch indented := len(m[1] + m[2]); {
		case indented == 0:
			keys[m[3]] = true
			list = m[3]
		default:
			keys[list+"[]."+m[3]] = true
		}
	}
	differ(t, "keys", column(t, "docs/daemon.md", "Configuration"), slices.Collect(maps.Keys(keys)))
}

// Metrics and states are compared with what a daemon tells.
func TestMetricsAndStatesOfTheDaemon(t *testing.T) {
	dir, err := os.MkdirTemp("", "docs")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir+"/source", os.DirFS("../testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/key", signtest.Private(t, "release", 90*24*time.Hour), 0o600); err != nil {
		t.Fatal(err)
	}
	config := "state_dir: " + dir + "/state\nsocket: " + dir + "/socket\nmirrors:\n  - source: " + dir + "/source\n    destination: file://" + dir + "/mirror\n    sign_key: " + dir + "/key\n"
	if err := os.WriteFile(dir+"/config.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(publish(t), "daemon", "--config", filepath.Join(dir, "config.yaml"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", dir+"/socket")
	}}}
	ask := func(path string) string {
		resp, err := client.Get("http://daemon" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r := exec.Command(publish(t), "drain", "--wait", "--socket", dir+"/socket")
		if out, err := r.CombinedOutput(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (publish_\w+) `).FindAllStringSubmatch(ask("/metrics"), -1) {
		names[m[1]] = true
	}
	names["publish_s3_requests_total"] = true // of which there are none to a directory
	differ(t, "metrics", column(t, "docs/daemon.md", "Metrics"), slices.Collect(maps.Keys(names)))
	var status struct {
		Mirrors []struct{ Jobs map[string]int }
	}
	if err := json.Unmarshal([]byte(ask("/v1/status")), &status); err != nil {
		t.Fatal(err)
	}
	differ(t, "states", column(t, "docs/daemon.md", "States"), slices.Collect(maps.Keys(status.Mirrors[0].Jobs)))
	// Each request that is documented without a body and an id is answered.
	for _, m := range regexp.MustCompile("(?m)^\\| `GET (/[^`]*)` \\|").FindAllStringSubmatch(pages(t)["docs/daemon.md"], -1) {
		if path := m[1]; path != "/v1/events" {
			path = strings.Replace(path, "/17", "/1", 1)
			if said := ask(path); strings.Contains(said, "not found") || strings.Contains(said, `"error"`) || said == "" {
				t.Errorf("GET %s: %s", path, said)
			}
		}
	}
}
