package api

import (
	"cmp"
	"embed"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

//go:embed page.css page.js
var files embed.FS

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

// summary describes the state of the daemon in one word and one sentence.
func summary(s daemon.Status) (word, sentence string) {
	waiting, paused, unread, incomplete := 0, 0, 0, 0
	retrying := ""
	for _, m := range s.Mirrors {
		if !m.Scanned {
			unread++
		}
		waiting += m.Waiting
		for _, r := range m.Running {
			retrying = cmp.Or(retrying, r.Retrying)
		}
		if m.Paused != "" {
			paused++
		}
	}
	for _, p := range s.Incomplete {
		if p.Package != "" { // otherwise its document cannot be read, and there is no job yet
			incomplete++
		}
	}
	switch {
	case !s.Healthy:
		return "unhealthy", s.Problem
	case s.Stopping:
		return "stopping", "no packages are accepted; the rest is published after the next start"
	case s.Trouble != "":
		return "attention", "the queue cannot be used: " + s.Trouble
	case paused > 0:
		return "waiting", "a destination cannot be used; its packages wait, and nothing is lost"
	case len(s.Failed) > 0:
		return "attention", "some packages could not be published"
	case len(s.Stuck) > 0:
		return "attention", "some packages do not become complete"
	case retrying != "":
		return "waiting", "a destination does not answer as it should: " + retrying
	case waiting > incomplete:
		return "working", "packages are being published"
	case len(s.Incomplete) > 0:
		return "waiting", plural(len(s.Incomplete), "package") + " not complete yet, for the reasons below; everything else is published"
	case unread > 0:
		return "working", "sources are being scanned for the first time"
	case len(s.Obligations) > 0:
		return "working", "everything is published, and caches are being invalidated: clients may still see the old index"
	}
	return "idle", "everything is published"
}

// policy permits the page to load and run only what this server serves.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *Server) servePage(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { s.page(w, r, s.document) })
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) {
		s.page(w, r, func(live nodes) string { return markup(live) })
	})
	for name, kind := range map[string]string{"page.css": "text/css", "page.js": "text/javascript"} {
		content, err := files.ReadFile(name)
		if err != nil {
			panic(err) // impossible: the file is embedded
		}
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			w.Header().Set("Cache-Control", "no-cache")
			w.Write(content)
		})
	}
}

// page serves the status: the whole page, or only its changing part.
func (s *Server) page(w http.ResponseWriter, r *http.Request, shown func(live nodes) string) {
	_, live, err := s.look(r.Context())
	if err != nil {
		s.failed(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	io.WriteString(w, shown(live))
}

// document returns the whole page. Without its script it reloads every ten seconds.
func (s *Server) document(live nodes) string {
	title := "publish daemon"
	if s.Indexer != nil {
		title = "publish indexer"
	}
	return "<!doctype html>\n" + markup(el("html", attr("lang", "en"),
		el("head",
			el("meta", attr("charset", "utf-8")),
			el("meta", attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")),
			el("title", words(title)),
			el("link", attr("rel", "stylesheet"), attr("href", "page.css")),
			el("noscript", el("meta", attr("http-equiv", "refresh"), attr("content", "10"))),
			el("script", attr("src", "page.js"), attr("defer", "")),
		),
		el("body",
			el("header", el("h1", words(title)), el("p", words("version "+s.Version))),
			el("main", attr("id", "live"), live),
		),
	))
}

// state returns the headline of the page.
func state(at, since time.Time) func(word, sentence string) nodes {
	return func(word, sentence string) nodes {
		return nodes{
			el("p", class("state "+word), el("strong", words(word)), words(" "+sentence)),
			el("p", class("quiet"), words("as of "), moment(at), words(", running for "+ago(since))),
		}
	}
}

// live returns the changing part of the page.
func live(s daemon.Status) nodes {
	out := append(state(s.At, s.Since)(summary(s)), heading("Mirrors"))
	for _, m := range s.Mirrors {
		out = append(out, mirror(m))
	}
	if len(s.Mirrors) == 0 {
		out = append(out, el("p", words("no mirrors are configured")))
	}
	return append(out, lists(s)...)
}

func mirror(m daemon.MirrorStatus) node {
	section := nodes{class("mirror"), el("h3", words(m.Name)), el("p", class("quiet"), words(m.Source+" → "+m.Destination))}
	if m.Paused != "" {
		waits := nodes{class("problem"), words("waits for its destination: " + m.Paused)}
		if m.PauseUntil != nil {
			waits = append(waits, words("; tried again at "), moment(*m.PauseUntil))
		}
		section = append(section, el("p", waits...))
	}
	section = append(section, facts(m))
	jobs := table{class: "states", rows: []nodes{nil}}
	for _, state := range queue.States {
		jobs.headings = append(jobs.headings, string(state))
		jobs.rows[0] = append(jobs.rows[0], cells(number(m.Jobs[state]))...)
	}
	section = append(section, jobs)
	for _, r := range m.Running {
		section = append(section, run(r))
	}
	return el("section", section...)
}

// A list has names, and a description of each.
type list nodes

func (l *list) fact(what, is string) { *l = append(*l, el("dt", words(what)), el("dd", words(is))) }

func (l list) element() node { return el("dl", l...) }

// facts returns short statements about a mirror.
func facts(m daemon.MirrorStatus) node {
	var l list
	waiting := "empty"
	if m.Waiting > 0 {
		waiting = packages(m.Waiting) + ", " + size(m.Bytes)
		if m.Oldest != nil {
			waiting += ", the oldest for " + ago(*m.Oldest)
		}
	}
	l.fact("queue", waiting)

	last := "not since the start"
	if m.Published != nil {
		last = ago(*m.Published) + " ago"
	}
	switch r := m.Last; {
	case r == nil:
	case r.Error != "":
		last += ", last run failed"
	default:
		last += fmt.Sprintf(": %s, %s in %.1f s", packages(r.Packages), size(r.Bytes), r.Seconds)
	}
	l.fact("last publish", last)

	if m.Invalidated != nil {
		l.fact("caches invalidated", ago(*m.Invalidated)+" ago")
	}
	if m.Scanned {
		l.fact("source", number(m.Documents)+" documents")
	} else {
		l.fact("source", "being scanned")
	}
	for _, x := range m.Indices {
		what := "index (" + x.Layout + ")"
		if x.Path != "" {
			what = "index " + x.Path + " (" + x.Layout + ")"
		}
		l.fact(what, indexSize(x.Packages, x.Bytes))
	}
	return l.element()
}

// run shows a run in progress and the objects that it sends.
func run(r daemon.Sending) node {
	step, at := r.Step, ": "+packages(r.Packages)
	if step == "" {
		step = "plan"
	}
	if r.Total >= 0 {
		at += ", " + size(r.Sent) + " of " + size(r.Total)
	}
	at += ", " + size(r.Rate) + "/s"
	if r.Left >= 0 {
		at += ", " + (time.Duration(r.Left) * time.Second).String() + " left"
	}
	out := nodes{class("run"), el("p", el("strong", words(step)), words(at))}
	if r.Total > 0 {
		sent, total := strconv.FormatInt(r.Sent, 10), strconv.FormatInt(r.Total, 10)
		out = append(out, el("progress", attr("max", total), attr("value", sent), words(sent+" of "+total+" bytes")))
	}
	if len(r.Transfers) > 0 {
		t := table{headings: []string{"object", "sent", "of"}}
		for _, one := range r.Transfers {
			t.rows = append(t.rows, cells(one.Name, size(one.Sent), size(one.Size)))
		}
		out = append(out, t)
	}
	return el("div", out...)
}

// lists returns what failed, and what was published recently.
func lists(s daemon.Status) nodes {
	var out nodes
	if len(s.Failed) > 0 {
		t := table{class: "failed", headings: []string{"job", "package", "mirror", "since", "reason"}}
		for _, j := range s.Failed {
			t.rows = append(t.rows, append(cells(strconv.FormatInt(j.ID, 10)), append(nodes{titled(j.Package, j.File)}, cells(j.Mirror, ago(j.Changed), j.Reason)...)...))
		}
		out = append(out, heading("Dead letters"), t, el("p", class("quiet"), words("fix the cause and run "), el("code", words("publish retry"))))
	}
	out = append(out, incomplete("Stuck", "stuck", s.Stuck)...)
	out = append(out, incomplete("Not complete yet", "incomplete", s.Incomplete)...)
	if len(s.Obligations) > 0 {
		t := owedTable()
		for _, o := range s.Obligations {
			t.rows = append(t.rows, cells(o.Mirror, ago(o.Since), strconv.Itoa(o.Tries), o.Reason))
		}
		out = append(out, heading("Invalidations that are due"), t)
	}
	if len(s.Recent) > 0 {
		t := table{class: "recent", headings: []string{"package", "mirror", "ago", "size"}}
		for _, j := range s.Recent {
			t.rows = append(t.rows, append(nodes{titled(j.Package, j.File)}, cells(j.Mirror, ago(j.Changed), size(j.Bytes))...))
		}
		out = append(out, heading("Published last"), t)
	}
	return out
}

// incomplete returns the packages that wait for a part of them, with the reasons.
func incomplete(title, class string, packages []daemon.StuckPackage) nodes {
	if len(packages) == 0 {
		return nil
	}
	t := table{class: class, headings: []string{"document", "mirror", "since", "reason"}}
	for _, p := range packages {
		called := p.Package
		if called == "" {
			called = p.File
		}
		t.rows = append(t.rows, append(nodes{titled(called, p.File)}, cells(p.Mirror, ago(p.Since), p.Reason)...))
	}
	return nodes{heading(title), t}
}

func owedTable() table {
	return table{class: "obligations", headings: []string{"mirror", "since", "tries", "reason"}}
}

func indexSize(n int, bytes int64) string {
	if bytes > 0 {
		return packages(n) + ", " + size(bytes)
	}
	return packages(n)
}

func heading(text string) node { return el("h2", words(text)) }

func moment(t time.Time) node {
	at := t.Format(time.RFC3339)
	return el("time", attr("datetime", at), words(at))
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
func number(n int) string { return humanize.Comma(int64(n)) }

func packages(n int) string { return plural(n, "package") }

func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return number(n) + " " + word
}
