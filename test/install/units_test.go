package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	service = "slurm-factory-publish.service"
	socket  = "slurm-factory-publish.socket"
	indexer = "slurm-factory-publish-indexer.service"
	copying = "slurm-factory-publish-copy@.service" // and a timer
)

// A unit is what a unit file sets: the values of each key, in order.
type unit map[string][]string

func unitOf(t *testing.T, name string) unit {
	t.Helper()
	u := make(unit)
	for line := range strings.Lines(read(t, filepath.Join(root, "cmd/package/systemd", name))) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

func (u unit) value(key string) string { return strings.Join(u[key], "\n") }

func (u unit) duration(t *testing.T, key string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.Replace(u.value(key), "min", "m", 1))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tool finds a program that the gate installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	bin, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return bin
}

// systemd knows everything that the units say, and finds what they start.
func TestUnitsAreVerified(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze")
	dir := unpacked(t, "amd64")
	if err := os.MkdirAll(dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/bin/kill", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	verify := func() (string, error) {
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", "--root="+dir, service, socket, indexer,
			strings.Replace(copying, "@", "@noble", 1), strings.Replace(copying, "@.service", "@noble.timer", 1)).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err != nil || strings.Contains(out, "slurm-factory-publish") {
		t.Errorf("%v\n%s", err, out)
	}
	// What is misspelt is said, although systemd goes on without it.
	name := dir + "/usr/lib/systemd/system/" + service
	if err := os.WriteFile(name, []byte(strings.Replace(read(t, name), "ProtectHome=", "ProtectHomes=", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := verify(); !strings.Contains(out, "ProtectHomes") {
		t.Errorf("misspelt, and said is only: %s", out)
	}
}

// What the services could do if somebody got hold of them, as systemd measures it: from 0 to 10. What is
// left is the network, sockets, the host's file system for reading, and groups of sockets.
func TestUnitsAreHardened(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze")
	for name, bound := range map[string]string{service: "16", indexer: "15", copying: "15"} {
		file := filepath.Join(root, "cmd/package/systemd", name)
		args := []string{"security", "--offline=true", "--no-pager", "--threshold=" + bound}
		if out, err := exec.Command(analyze, append(args, file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: more than %s\n%s", name, bound, out)
		}
		for _, key := range []string{"ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "SystemCallFilter=@system-service"} {
			weak := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(weak, []byte(strings.Replace(read(t, file), "\n"+key+"\n", "\n", 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(analyze, append(args, weak)...).CombinedOutput(); err == nil {
				t.Errorf("%s without %s is not more than %s: %s", name, key, bound, out[len(out)-100:])
			}
		}
	}
}

// The other services give up all that the service gives up.
func TestOtherServicesAreHardenedAsMuch(t *testing.T) {
	s := unitOf(t, service)
	for _, name := range []string{indexer, copying} {
		other, checked := unitOf(t, name), 0
		for key := range s {
			if regexp.MustCompile(`^(Protect|Private|Restrict|Remove|Lock|Memory|NoNew|Capability|Ambient|SystemCallArch|Device)`).MatchString(key) {
				checked++
				if other.value(key) != s.value(key) {
					t.Errorf("%s: %s: %q, and %q", name, key, s.value(key), other.value(key))
				}
			}
		}
		if checked < 20 {
			t.Errorf("only %d settings", checked)
		}
	}
}

var exampleKey = regexp.MustCompile(`(?m)^#?([a-z_]+): (.*)$`)

// The units go with the defaults of the configuration, as the example shows them.
func TestUnitsAndDefaults(t *testing.T) {
	defaults := make(map[string]string)
	for _, m := range exampleKey.FindAllStringSubmatch(read(t, filepath.Join(root, "cmd/publish/internal/service/daemon.example.yaml")), -1) {
		defaults[m[1]] = m[2]
	}
	duration := func(key string) time.Duration {
		d, err := time.ParseDuration(defaults[key])
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return d
	}
	s, listens := unitOf(t, service), unitOf(t, socket)
	// The daemon asks for 10 s on top of what runs may take.
	if d := s.duration(t, "TimeoutStopSec"); d <= duration("stop_timeout")+10*time.Second {
		t.Errorf("TimeoutStopSec=%v and stop_timeout %v", d, duration("stop_timeout"))
	}
	// Between two signs of life a stall is noticed; who stalls less long is not ended.
	if d := s.duration(t, "WatchdogSec"); d < 10*time.Second || d > duration("stalled_after")/2 {
		t.Errorf("WatchdogSec=%v and stalled_after %v", d, duration("stalled_after"))
	}
	// systemd gives up a service that is started five times in ten seconds.
	for _, u := range []unit{s, unitOf(t, indexer)} {
		if d := u.duration(t, "RestartSec"); d*5 <= 10*time.Second {
			t.Errorf("RestartSec=%v", d)
		}
	}
	for what, got := range map[string][2]string{
		"state_dir": {"/var/lib/" + s.value("StateDirectory"), defaults["state_dir"]},
		"socket":    {listens.value("ListenStream"), defaults["socket"]},
		"run":       {"/run/" + s.value("RuntimeDirectory"), filepath.Dir(defaults["socket"])},
		"group":     {listens.value("SocketGroup"), s.value("Group")},
		"user":      {listens.value("SocketUser"), s.value("User")},
		"mode":      {listens.value("SocketMode"), "0660"},
	} {
		if got[0] != got[1] || got[0] == "" {
			t.Errorf("%s: %q and %q", what, got[0], got[1])
		}
	}
	if users := read(t, filepath.Join(root, "cmd/package/systemd/sysusers.conf")); !strings.Contains(users, "\nu "+s.value("User")+" - ") {
		t.Errorf("no user %s in\n%s", s.value("User"), users)
	}
}
