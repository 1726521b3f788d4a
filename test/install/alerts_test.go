package install

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

const (
	alerts    = root + "/cmd/package/prometheus/alerts.yaml"
	dashboard = root + "/cmd/package/grafana/dashboard.json"
)

// Each alert is raised by what it is about, and by nothing else: alerts_test.yaml.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	run(t, promtool, "check", "rules", "--lint=all", "--lint-fatal", alerts)
	run(t, promtool, "test", "rules", "alerts_test.yaml")
	tests := read(t, "alerts_test.yaml")
	page := read(t, root+"/docs/daemon.md")
	names := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, alerts), -1)
	if len(names) < 10 {
		t.Fatalf("alerts: %v", names)
	}
	for _, m := range names {
		if !regexp.MustCompile(`alertname(="|: )` + m[1] + `\b`).MatchString(tests) {
			t.Errorf("no test raises %s", m[1])
		}
		if !strings.Contains(page, "\n#### "+m[1]+"\n") {
			t.Errorf("docs/daemon.md does not say what %s means", m[1])
		}
		if !strings.Contains(read(t, alerts), "/docs/daemon.md#"+strings.ToLower(m[1])+"\n") {
			t.Errorf("%s does not lead to what it means", m[1])
		}
	}
	if documented := strings.Count(page, "\n#### Publish"); documented != len(names) {
		t.Errorf("%d alerts are documented, and there are %d", documented, len(names))
	}
	// A rule that is wrong does not get through.
	wrong := filepath.Join(t.TempDir(), "alerts.yaml")
	if err := os.WriteFile(wrong, []byte(strings.Replace(read(t, alerts), "publish_healthy == 0", "publish_healthy ==", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", wrong).CombinedOutput(); err == nil {
		t.Errorf("%s", out)
	}
}

// A board is what is looked at here of a dashboard of Grafana.
type board struct {
	UID        string
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct{ RefID, Expr, LegendFormat string }
	}
}

func boardOf(t *testing.T) board {
	t.Helper()
	var b board
	if err := json.Unmarshal([]byte(read(t, dashboard)), &b); err != nil {
		t.Fatal(err)
	}
	if b.UID == "" || len(b.Panels) < 10 {
		t.Fatalf("%+v", b)
	}
	return b
}

// Panels lie beside each other, say what they show, and ask what Prometheus understands, of the source that
// is chosen above.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b := boardOf(t)
	taken := make(map[[2]int]string)
	ids := make(map[int]bool)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, p := range b.Panels {
		if ids[p.ID] || p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%+v", p)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for j, target := range p.Targets {
			expr := filled(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: an unknown variable in %s", p.Title, target.Expr)
			}
			fmt.Fprintf(&rules, "  - record: panel_%d_%d\n    expr: %q\n", i, j, expr)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, tool(t, "promtool"), "check", "rules", file)
	for _, v := range b.Templating.List {
		if text, err := json.Marshal(v.Query); err != nil || v.Name == "" || len(text) < 4 {
			t.Errorf("%+v", v)
		}
	}
}

// filled is an expression as Grafana asks it.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$mirror", ".*").Replace(expr)
}

var (
	series   = regexp.MustCompile(`\b(publish_\w+|process_\w+|go_\w+)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*[=!]~?"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring) ?\(([^)]*)\)`)
	mention  = regexp.MustCompile(`\$labels\.(\w+)`)
	legend   = regexp.MustCompile(`{{(\w+)}}`)
)

// Whatever rules and dashboard ask for is told by a daemon that has published, or by an indexer, under those
// labels and with those values.
func TestMetricsAreThere(t *testing.T) {
	t.Parallel()
	told := scrape(t)
	// What Prometheus adds when it asks.
	of := func(name string) map[string][]string {
		labels := maps.Clone(told[name])
		if labels != nil {
			labels["instance"], labels["job"] = []string{"a"}, []string{"slurm-factory-publish"}
		}
		return labels
	}
	check := func(where, expr string, used ...string) {
		t.Helper()
		known := map[string]bool{"instance": true, "job": true}
		for _, m := range series.FindAllStringSubmatch(expr, -1) {
			labels := of(m[1])
			if labels == nil {
				t.Errorf("%s: a daemon tells no %s", where, m[1])
				continue
			}
			for label := range labels {
				known[label] = true
			}
			for _, eq := range matcher.FindAllStringSubmatch(m[2], -1) {
				values, ok := labels[eq[1]]
				if !ok {
					t.Errorf("%s: %s has no label %s", where, m[1], eq[1])
				}
				// States, statuses and results are words; each must be one.
				if eq[1] == "state" || eq[1] == "result" {
					for _, word := range strings.Split(eq[2], "|") {
						if !slices.Contains(values, word) {
							t.Errorf("%s: %s has no %s=%q, but %q", where, m[1], eq[1], word, values)
						}
					}
				}
			}
		}
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			used = append(used, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' })...)
		}
		for _, label := range used {
			if !known[label] {
				t.Errorf("%s: no label %s in %s", where, label, expr)
			}
		}
	}
	expressions := 0
	for _, rule := range strings.Split(read(t, alerts), "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		_, expr, _ := strings.Cut(rule, "expr: ")
		expr, rest, _ := strings.Cut(expr, "labels:")
		var used []string
		for _, m := range mention.FindAllStringSubmatch(rest, -1) {
			used = append(used, m[1])
		}
		check(name, expr, used...)
		expressions++
	}
	for _, p := range boardOf(t).Panels {
		for _, target := range p.Targets {
			var used []string
			for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				used = append(used, m[1])
			}
			check(p.Title, filled(target.Expr), used...)
			expressions++
		}
	}
	if expressions < 25 {
		t.Errorf("only %d expressions", expressions)
	}
}

// scrape is what a daemon tells that has published, and an indexer that has indexed that: each metric, its
// labels, and their values.
func scrape(t *testing.T) map[string]map[string][]string {
	t.Helper()
	server := s3server.Start(t)
	dir, err := os.MkdirTemp("", "scrape") // short, for the sockets
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
	bucket := server.Bucket(t)
	where := fmt.Sprintf("    destination: s3://%s\n    endpoint_url: %s\n", bucket, server.Endpoint)
	text := tells(t, dir, "daemon", server.Environ(), fmt.Sprintf("state_dir: %[1]s/state\nmirrors:\n  - source: %[1]s/source\n    sign_key: %[1]s/key\n", dir)+where, func(status string) bool {
		return strings.Contains(status, `"published":11`)
	})
	queue := httptest.NewServer(notifications(bucket, "v3/manifests/index/index.manifest.json"))
	defer queue.Close()
	env := append(server.Environ(), "AWS_ENDPOINT_URL_SQS="+queue.URL)
	text += tells(t, dir, "indexer", env, "mode: indexer\nqueue: sqs://sqs.us-east-1.amazonaws.com/111122223333/events\nmirrors:\n  -"+where[3:], func(status string) bool {
		return strings.Contains(status, `"handled":1`)
	})
	told := make(map[string]map[string][]string)
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(\{.*\})? \S+$`).FindAllStringSubmatch(text, -1) {
		if told[m[1]] == nil {
			told[m[1]] = make(map[string][]string)
		}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			told[m[1]][l[1]] = append(told[m[1]][l[1]], l[2])
		}
	}
	return told
}

// notifications is a queue that tells once that an object was stored: as much of SQS as an indexer needs to have
// something to tell. Real notifications are in test/indexer.
func notifications(bucket, object string) http.Handler {
	var once sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		answer := "{}"
		if r.Header.Get("X-Amz-Target") == "AmazonSQS.ReceiveMessage" {
			wait := true
			once.Do(func() {
				wait = false
				body := fmt.Sprintf(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","eventTime":%q,"s3":{"bucket":{"name":%q},"object":{"key":%q}}}]}`, time.Now().UTC().Format(time.RFC3339), bucket, object)
				message, _ := json.Marshal(map[string]any{"Messages": []any{map[string]any{
					"MessageId": "1", "ReceiptHandle": "1", "Body": body, "MD5OfBody": fmt.Sprintf("%x", md5.Sum([]byte(body))),
					"Attributes": map[string]string{"ApproximateReceiveCount": "1"},
				}}})
				answer = string(message)
			})
			if wait {
				select {
				case <-r.Context().Done():
				case <-time.After(time.Second):
				}
			}
		}
		io.WriteString(w, answer)
	})
}

// tells is what a program with that configuration tells Prometheus when it is as it should be.
func tells(t *testing.T, dir, name string, env []string, config string, done func(status string) bool) string {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	socket, file := filepath.Join(dir, name), filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, []byte("socket: "+socket+"\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(bin, "daemon", "--config", file)
	cmd.Env, cmd.Stderr = env, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("the %s said:\n%s", name, &log)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	ask := func(path string) string {
		resp, err := client.Get("http://" + name + path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	waitFor(t, name+" is done", func() bool { return done(ask("/v1/status")) })
	text := ask("/metrics")
	// Prometheus has opinions on names and helps, too.
	lint := exec.Command(tool(t, "promtool"), "check", "metrics")
	lint.Stdin = strings.NewReader(text)
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	return text
}
