// Package api serves the state of a daemon or an indexer, and the commands of a daemon: HTTP and JSON on a unix
// socket, and a status page.
//
// An accepted request is durable before the answer is sent. On the socket, only allowed peers receive an answer.
// All other listeners are read-only.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Server serves a daemon or an indexer.
type Server struct {
	Daemon  *daemon.Daemon
	Indexer *events.Host // served read-only in place of a daemon
	Metrics *Metrics
	Allow   Allow
	Version string
	Log     *slog.Logger
	// Explain returns the class of an error and a hint. Either may be empty. It may be nil.
	Explain func(error) (class, hint string)
}

// Jobs is the answer to a push and to a list of jobs.
type Jobs struct {
	Jobs []queue.Job `json:"jobs"`
}

// A Waited is the answer to waiting for a job.
type Waited struct {
	Job queue.Job `json:"job"`
	// Done says that the job has ended and that caches were invalidated if the request waited for that.
	Done        bool `json:"done"`
	Invalidated bool `json:"invalidated"`
}

// A Push is a request to publish paths.
type Push struct {
	// Paths are absolute paths of package documents, or of directories with documents.
	Paths []string `json:"paths"`
}

// A Retry selects the failed jobs to restart: all if there are no ids.
type Retry struct {
	IDs []int64 `json:"ids"`
}

// A Retried is the number of restarted jobs.
type Retried struct {
	Jobs int `json:"jobs"`
}

// A Forget selects the mirrors to remove from the records of the daemon: all that are not in its configuration if
// there are no names.
type Forget struct {
	Mirrors []string `json:"mirrors"`
}

// A Forgotten lists the removed mirrors.
type Forgotten struct {
	Mirrors []queue.Dropped `json:"mirrors"`
}

// An Error is the answer to a failed request.
type Error struct {
	Message string `json:"error"`
	Class   string `json:"class,omitempty"` // the values of the action's failure-class
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"-"`
}

func (e *Error) Error() string { return e.Message }

// Full serves everything, to allowed peers.
func (s *Server) Full() http.Handler {
	mux := s.readOnly()
	if s.Indexer != nil {
		mux.HandleFunc("/v1/", s.notDaemon)
		return s.Allow.only(s.contained(mux))
	}
	mux.HandleFunc("POST /v1/jobs", s.push)
	mux.HandleFunc("GET /v1/jobs", s.jobs)
	mux.HandleFunc("GET /v1/jobs/{id}", s.job)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/drain", s.drain)
	mux.HandleFunc("POST /v1/retry", s.retry)
	mux.HandleFunc("POST /v1/forget", s.forget)
	return s.Allow.only(s.contained(mux))
}

// ReadOnly serves what every user of the machine may see: the page, the status, metrics and health.
func (s *Server) ReadOnly() http.Handler { return loopbackOnly(s.contained(s.readOnly())) }

// contained answers 500 if the handling of a request panics, and logs the stack.
func (s *Server) contained(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := defect.Caught(func() error { h.ServeHTTP(w, r); return nil })
		if errors.Is(err, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			s.Log.Error("a request could not be answered", "method", r.Method, "path", r.URL.Path, "reason", err.Error(), "stack", defect.StackOf(err))
			write(w, http.StatusInternalServerError, &Error{Message: err.Error(), Hint: "the daemon continues; please report the stack in its log"})
		}
	})
}

func (s *Server) readOnly() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { well(w, s.health(r.Context())) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { well(w, s.ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics.registry, promhttp.HandlerOpts{}))
	s.servePage(mux)
	return mux
}

func (s *Server) health(ctx context.Context) error {
	if s.Indexer != nil {
		return s.Indexer.Health()
	}
	return s.Daemon.Health(ctx)
}

func (s *Server) ready() error {
	if s.Indexer != nil {
		return s.Indexer.Ready()
	}
	return s.Daemon.Ready()
}

// look returns the status, and its form for display.
func (s *Server) look(ctx context.Context) (status any, shown nodes, err error) {
	if s.Indexer != nil {
		st := s.Indexer.Status()
		return indexerStatus{indexerMode, st}, liveIndexer(st), nil
	}
	st, err := s.Daemon.Status(ctx)
	return st, live(st), err
}

// notDaemon answers requests to an indexer that only a daemon can serve.
func (s *Server) notDaemon(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusNotImplemented, &Error{Message: "this is an indexer", Hint: "it indexes packages that are pushed to its bucket, without a request; `publish status` shows its progress"})
}

func well(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// mostAsked is the maximum size of a request in bytes.
const mostAsked = 1 << 20

func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	var p Push
	if !understand(w, r, &p) {
		return
	}
	if len(p.Paths) == 0 {
		s.answer(w, http.StatusBadRequest, &Error{Message: "no paths"})
		return
	}
	jobs := []queue.Job{}
	for _, path := range p.Paths {
		found, err := s.Daemon.Push(r.Context(), path)
		if err != nil {
			s.refuse(w, path, err)
			return
		}
		jobs = append(jobs, found...)
	}
	s.answer(w, http.StatusAccepted, Jobs{jobs})
}

// statuses maps errors to HTTP statuses. All other errors are failures of the daemon, or concern a path that a push
// names.
var statuses = []struct {
	err    error
	status int
}{
	{daemon.ErrOutside, http.StatusForbidden},
	{arrival.ErrGone, http.StatusNotFound},
	{arrival.ErrNoDocument, http.StatusUnprocessableEntity},
	{arrival.ErrNotSelected, http.StatusUnprocessableEntity},
	{daemon.ErrConfigured, http.StatusConflict},
	{daemon.ErrNoMirror, http.StatusNotFound},
	{daemon.ErrStopping, http.StatusServiceUnavailable},
	{queue.ErrClosed, http.StatusServiceUnavailable},
	{queue.ErrFull, http.StatusInsufficientStorage},
	{queue.ErrNoJob, http.StatusNotFound},
	{queue.ErrDisk, http.StatusInternalServerError},
	{queue.ErrReadOnly, http.StatusInternalServerError},
	{queue.ErrDamaged, http.StatusInternalServerError},
}

// failure returns an error as an answer, with a status that is used if statuses has none.
func (s *Server) failure(err error, otherwise int) *Error {
	e := &Error{Message: err.Error(), Status: otherwise}
	for _, known := range statuses {
		if errors.Is(err, known.err) {
			e.Status = known.status
			break
		}
	}
	if s.Explain != nil {
		e.Class, e.Hint = s.Explain(err)
	}
	return e
}

// refuse answers that a path was not accepted, and why.
func (s *Server) refuse(w http.ResponseWriter, path string, err error) {
	e := s.failure(err, http.StatusUnprocessableEntity)
	e.Message = fmt.Sprintf("%s: %v", path, err)
	if e.Hint == "" && e.Status == http.StatusUnprocessableEntity {
		e.Hint = "if it is being written, it is found when it is complete"
	}
	s.answer(w, e.Status, e)
}

// failed answers that the daemon has failed.
func (s *Server) failed(w http.ResponseWriter, err error) {
	e := s.failure(err, http.StatusInternalServerError)
	s.answer(w, e.Status, e)
}

func (s *Server) jobs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := queue.Filter{Newest: true, Limit: 100}
	for _, state := range q["state"] {
		f.States = append(f.States, queue.State(state))
	}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil {
		f.Limit = n
	}
	jobs, err := s.Daemon.Jobs(r.Context(), q.Get("mirror"), f)
	if err != nil {
		s.failed(w, err)
		return
	}
	s.answer(w, http.StatusOK, Jobs{append([]queue.Job{}, jobs...)})
}

// longestWait is how long a request is kept open. The client repeats it.
const longestWait = 30 * time.Second

// job returns a job: at once or, with wait=published or wait=cdn, when it has reached that state.
func (s *Server) job(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		s.answer(w, http.StatusBadRequest, &Error{Message: "the id of a job is a number"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), longestWait)
	defer cancel()
	caches := false
	switch wait := r.URL.Query().Get("wait"); wait {
	case "":
		cancel()
	case "published":
	case "cdn":
		caches = true
	default:
		s.answer(w, http.StatusBadRequest, &Error{Message: fmt.Sprintf("wait=%s: want published or cdn", wait)})
		return
	}
	j, invalidated, err := s.Daemon.Wait(ctx, id, caches)
	if err != nil {
		s.failed(w, err)
		return
	}
	s.answer(w, http.StatusOK, Waited{Job: j, Invalidated: invalidated, Done: j.State.Ended() && (invalidated || !caches || j.State != queue.Published)})
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	events := s.Daemon.Events()
	defer events.Leave()
	lines := stream(w)
	for {
		e, ok := events.Next(r.Context())
		if !ok || lines(e) != nil {
			return
		}
	}
}

// A DrainLine is a line of the answer to a drain. The last line is done, or has an error.
type DrainLine struct {
	daemon.Drained
	Error *Error `json:"stopped,omitempty"`
}

// drain publishes all waiting packages and reports progress. With wait=no it only starts that.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("wait") == "no" {
		if err := s.Daemon.Flush(r.Context()); err != nil {
			s.failed(w, err)
			return
		}
		s.answer(w, http.StatusAccepted, struct{}{})
		return
	}
	lines := stream(w)
	left, err := s.Daemon.Drain(r.Context(), func(left daemon.Drained) { lines(DrainLine{Drained: left}) })
	line := DrainLine{Drained: left}
	if err != nil {
		line.Error = s.failure(err, http.StatusInternalServerError)
	}
	lines(line)
}

func (s *Server) retry(w http.ResponseWriter, r *http.Request) {
	var q Retry
	if !understand(w, r, &q) {
		return
	}
	n, err := s.Daemon.Retry(r.Context(), q.IDs...)
	if err != nil {
		s.failed(w, err)
		return
	}
	s.answer(w, http.StatusOK, Retried{n})
}

func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	var q Forget
	if !understand(w, r, &q) {
		return
	}
	dropped, err := s.Daemon.Forget(r.Context(), q.Mirrors...)
	if err != nil {
		s.failed(w, err)
		return
	}
	s.answer(w, http.StatusOK, Forgotten{append([]queue.Dropped{}, dropped...)})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	status, _, err := s.look(r.Context())
	if err != nil {
		s.failed(w, err)
		return
	}
	s.answer(w, http.StatusOK, status)
}

// understand reads a request that is a single JSON document.
func understand(w http.ResponseWriter, r *http.Request, to any) bool {
	body := http.MaxBytesReader(w, r.Body, mostAsked)
	if t, ok := w.(*timelyWriter); ok { // net/http needs the underlying writer
		body = http.MaxBytesReader(t.ResponseWriter, r.Body, mostAsked)
	}
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		write(w, http.StatusBadRequest, &Error{Message: "request: " + err.Error()})
		return false
	}
	if _, err := d.Token(); err != io.EOF { // waits for the rest of the body
		write(w, http.StatusBadRequest, &Error{Message: "request: there is text after the document"})
		return false
	}
	arrived(w)
	return true
}

func (s *Server) answer(w http.ResponseWriter, status int, document any) {
	if e, ok := document.(*Error); ok {
		s.Log.Debug("refused", "status", status, "reason", e.Message)
	}
	write(w, status, document)
}

func write(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.Encode(document)
}

// stream answers with one JSON document a line, and flushes each.
func stream(w http.ResponseWriter) func(any) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	flush.Flush()
	enc := json.NewEncoder(w)
	return func(line any) error {
		if err := enc.Encode(line); err != nil {
			return err
		}
		return flush.Flush()
	}
}
