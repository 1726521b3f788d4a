package action

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A cache behind a password is read back with it, and the step shows the password nowhere.
func TestTheActionMasksPasswordsInURLs(t *testing.T) {
	s := newStage(t, "v3-signed")
	asked := false
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "user" || password != "hun ter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		asked = true
		s.serve(w, r)
	}))
	defer site.Close()
	s.with["public-url"] = strings.Replace(site.URL, "://", "://user:hun%20ter2@", 1) + "/noble/spack"
	s.with["report-file"] = "report.json"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitDone, map[string]string{"result": "published", "mirror-url": site.URL + "/noble/spack"})
	if !asked {
		t.Error("the cache was not read")
	}
	masks, log := "", ""
	for line := range strings.SplitSeq(got.log, "\n") {
		if strings.HasPrefix(line, "::add-mask::") {
			masks += line + "\n"
		} else {
			log += line + "\n"
		}
	}
	if !strings.Contains(masks, "::add-mask::hun%2520ter2\n") || !strings.Contains(masks, "::add-mask::hun ter2\n") {
		t.Errorf("masked is %q", masks)
	}
	if all := log + got.stderr + got.summary + got.report; strings.Contains(all, "ter2") {
		t.Errorf("the password is shown: %s", all)
	}

	s.with["endpoint-url"] = strings.Replace(s.with["endpoint-url"], "://", "://key:hunter2@", 1)
	s.with["destination"] = "s3://key:hunter2@cache/noble/spack"
	got = s.run(t, t.Context())
	got.ends(t, cli.ExitUsage, map[string]string{"failure-class": "config"})
	if all := strings.ReplaceAll(got.log, "::add-mask::hunter2\n", "") + got.stderr + got.summary + got.report; strings.Contains(all, "hunter2") {
		t.Errorf("the password is shown: %s", all)
	}
}
