package api

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Metrics are what Prometheus is told.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	daemon   *daemon.Daemon
	version  string
}

// NewMetrics makes the metrics of a daemon.
func NewMetrics(d *daemon.Daemon, version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), daemon: d, version: version,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "publish_s3_requests_total", Help: "Requests to S3, retries included, by operation and status of the answer; 0: there was none."}, []string{"operation", "status"}),
	}
	m.registry.MustRegister(m, m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Request counts a request to S3.
func (m *Metrics) Request(operation, status string) {
	m.requests.WithLabelValues(operation, status).Inc()
}

// Gatherer is for who looks at what there is.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("publish_"+name, help, labels, nil)
}

var (
	buildInfo     = describe("build_info", "1, with the version of the program.", "version")
	healthy       = describe("healthy", "1 while the daemon can use its queue and what it is about makes progress.")
	jobs          = describe("jobs", "Packages in the queue, by state.", "mirror", "state")
	moves         = describe("job_transitions_total", "Packages that came into a state.", "mirror", "state")
	queueBytes    = describe("queue_bytes", "Size of the packages that are still to be published.", "mirror")
	oldest        = describe("oldest_job_age_seconds", "How long the oldest package waits that is still to be published; 0: none.", "mirror")
	stuckPackages = describe("stuck_packages", "Packages and documents that do not become complete.", "mirror")
	paused        = describe("mirror_paused", "1 while a mirror waits for its destination.", "mirror")
	lastPublish   = describe("last_publish_timestamp_seconds", "When a run last succeeded.", "mirror")
	latency       = describe("package_seconds", "From a package being taken over to its being in the index.", "mirror")
	runs          = describe("runs_total", "Runs that have ended, by result: ok or failed.", "mirror", "result")
	switches      = describe("index_switches_total", "Indices that were replaced.", "mirror")
	indexPackages = describe("index_packages", "Packages that an index offered after the last run.", "mirror", "path", "layout")
	indexBytes    = describe("index_bytes", "Size of an index that was last written.", "mirror", "path", "layout")
	objects       = describe("objects_stored_total", "Objects that were stored.", "mirror")
	sentBytes     = describe("sent_bytes_total", "Bytes of content that were sent, less those that must be sent again.")
	checkedBytes  = describe("checked_bytes_total", "Bytes that were read to see that packages are complete.")
	scans         = describe("scans_total", "Scans of a whole source.", "mirror")
	scanSeconds   = describe("scan_seconds", "How long the last scan took.", "mirror")
	documents     = describe("documents", "Documents in the source at the last scan.", "mirror")
	overflows     = describe("hint_overflows_total", "How often the file system had more to tell than anybody could take.", "mirror")
	obligations   = describe("obligations", "What caches are still to be told.", "mirror")
	oldestDuty    = describe("oldest_obligation_age_seconds", "How long caches may serve an old index already; 0: they do not.", "mirror")
	told          = describe("caches_told_total", "How often caches were told, and clients seen to see it.", "mirror")
	tellFailures  = describe("cache_failures_total", "How often caches could not be told, or clients did not see what was published.")
	queueErrors   = describe("queue_errors_total", "How often the queue could not be used.")

	all = []*prometheus.Desc{
		buildInfo, healthy, jobs, moves, queueBytes, oldest, stuckPackages, paused, lastPublish, latency, runs, switches, indexPackages, indexBytes,
		objects, sentBytes, checkedBytes, scans, scanSeconds, documents, overflows, obligations, oldestDuty, told, tellFailures, queueErrors,
	}
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range all {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(buildInfo, 1, m.version)
	totals, counted := m.daemon.Counted()
	counter(sentBytes, float64(totals.SentBytes))
	counter(checkedBytes, float64(totals.CheckedBytes))
	counter(tellFailures, float64(totals.TellFailures))
	counter(queueErrors, float64(totals.QueueErrors))
	for name, n := range counted {
		for state, moved := range n.Jobs {
			counter(moves, float64(moved), name, string(state))
		}
		counter(runs, float64(n.Runs-n.FailedRuns), name, "ok")
		counter(runs, float64(n.FailedRuns), name, "failed")
		counter(switches, float64(n.IndexSwitches), name)
		counter(objects, float64(n.Objects), name)
		counter(scans, float64(n.Scans), name)
		counter(overflows, float64(n.Overflows), name)
		counter(told, float64(n.Told), name)
		gauge(scanSeconds, n.ScanSeconds, name)
		c <- histogram(n, name)
	}
	s, err := m.daemon.Status(context.Background())
	if err != nil {
		gauge(healthy, 0)
		return
	}
	gauge(healthy, truth(s.Healthy))
	for _, one := range s.Mirrors {
		mirrorGauges(gauge, s, one)
	}
}

func mirrorGauges(gauge func(*prometheus.Desc, float64, ...string), s daemon.Status, m daemon.MirrorStatus) {
	for _, state := range queue.States {
		gauge(jobs, float64(m.Jobs[state]), m.Name, string(state))
	}
	gauge(queueBytes, float64(m.Bytes), m.Name)
	gauge(documents, float64(m.Documents), m.Name)
	gauge(paused, truth(m.Paused != ""), m.Name)
	gauge(oldest, age(m.Oldest), m.Name)
	if m.Published != nil {
		gauge(lastPublish, float64(m.Published.UnixMilli())/1000, m.Name)
	}
	for _, x := range m.Indices {
		gauge(indexPackages, float64(x.Packages), m.Name, x.Path, x.Layout)
		if x.Bytes > 0 {
			gauge(indexBytes, float64(x.Bytes), m.Name, x.Path, x.Layout)
		}
	}
	stuck, owed := 0, 0
	var since *time.Time
	for _, p := range s.Stuck {
		if p.Mirror == m.Name {
			stuck++
		}
	}
	for _, o := range s.Owed {
		if o.Mirror == m.Name && o.State == queue.Due {
			owed++
			if since == nil {
				since = &o.Since
			}
		}
	}
	gauge(stuckPackages, float64(stuck), m.Name)
	gauge(obligations, float64(owed), m.Name)
	gauge(oldestDuty, age(since), m.Name)
}

func histogram(n daemon.MirrorCounts, name string) prometheus.Metric {
	buckets := make(map[float64]uint64)
	for i, bound := range daemon.Latencies {
		buckets[bound] = uint64(n.Latency[i])
	}
	return prometheus.MustNewConstHistogram(latency, uint64(n.Latency[len(daemon.Latencies)]), n.LatencySum, buckets, name)
}

func age(since *time.Time) float64 {
	if since == nil {
		return 0
	}
	return max(time.Since(*since).Seconds(), 0)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
