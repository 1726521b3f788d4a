package api

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

//go:embed page.html page.css page.js
var files embed.FS

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"bytes":   func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
	"number":  func(n int) string { return humanize.Comma(int64(n)) },
	"ago":     ago,
	"at":      func(t time.Time) string { return t.Format(time.RFC3339) },
	"seconds": func(s float64) string { return (time.Duration(s) * time.Second).String() },
	"states":  func() []queue.State { return queue.States },
	"summary": summary,
}).ParseFS(files, "page.html"))

func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < 0:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// summary is the state of everything in one word and one sentence.
func summary(s daemon.Status) (out struct{ Word, Sentence string }) {
	waiting, paused := 0, 0
	for _, m := range s.Mirrors {
		waiting += m.Waiting
		if m.Paused != "" {
			paused++
		}
	}
	switch {
	case !s.Healthy:
		out.Word, out.Sentence = "unhealthy", s.Problem
	case s.Stopping:
		out.Word, out.Sentence = "stopping", "nothing is taken over any more; what is left is published after the next start"
	case paused > 0:
		out.Word, out.Sentence = "waiting", "a destination cannot be used; its packages wait, and nothing is lost"
	case len(s.Failed) > 0:
		out.Word, out.Sentence = "attention", "some packages could not be published"
	case len(s.Stuck) > 0:
		out.Word, out.Sentence = "attention", "some packages do not become complete"
	case waiting > 0:
		out.Word, out.Sentence = "working", "packages are being published"
	default:
		out.Word, out.Sentence = "idle", "everything is published"
	}
	return out
}

// policy lets the page show and run nothing but what we serve.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *Server) servePage(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { s.page(w, r, "page.html") })
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { s.page(w, r, "live") })
	for name, kind := range map[string]string{"page.css": "text/css", "page.js": "text/javascript"} {
		content, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			w.Header().Set("Cache-Control", "no-cache")
			w.Write(content)
		})
	}
}

// page shows the status: all of it, or only what changes.
func (s *Server) page(w http.ResponseWriter, r *http.Request, part string) {
	status, err := s.Daemon.Status(r.Context())
	if err != nil {
		s.failed(w, err)
		return
	}
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, part, struct {
		daemon.Status
		Version string
	}{status, s.Version}); err != nil {
		s.failed(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.Write(b.Bytes())
}
