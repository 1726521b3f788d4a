package api

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/histogram"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Metrics are the metrics that Prometheus collects.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	all      []*prometheus.Desc
	collect  func(meter)
}

// NewMetrics returns the metrics of a daemon.
func NewMetrics(d *daemon.Daemon, version string) *Metrics {
	return newMetrics(daemonMetrics, func(m meter) {
		m.gauge(buildInfo, 1, version)
		m.daemon(d)
	})
}

func newMetrics(all []*prometheus.Desc, collect func(meter)) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), all: all, collect: collect,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "publish_s3_requests_total", Help: "Requests to S3, retries included, by operation and status of the response; 0: no response."}, []string{"operation", "status"}),
	}
	m.registry.MustRegister(m, m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Request counts a request to S3.
func (m *Metrics) Request(operation, status string) {
	m.requests.WithLabelValues(operation, status).Inc()
}

// Gatherer returns all metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("publish_"+name, help, labels, nil)
}

var (
	buildInfo            = describe("build_info", "1, with the version of the program.", "version")
	healthy              = describe("healthy", "1 while the daemon can use its queue and work in flight is progressing.")
	jobs                 = describe("jobs", "Packages in the queue, by state.", "mirror", "state")
	moves                = describe("job_transitions_total", "Packages that entered a state.", "mirror", "state")
	queueBytes           = describe("queue_bytes", "Size of the packages that are still to be published.", "mirror")
	oldest               = describe("oldest_job_age_seconds", "Age of the oldest package that is not published yet; 0: none.", "mirror")
	stuckPackages        = describe("stuck_packages", "Packages and documents that stay incomplete.", "mirror")
	paused               = describe("mirror_paused", "1 while a mirror waits for its destination.", "mirror")
	lastPublish          = describe("last_publish_timestamp_seconds", "When a run last succeeded.", "mirror")
	latency              = describe("package_seconds", "Time from accepting a package until it is in the index.", "mirror")
	runs                 = describe("runs_total", "Finished runs, by result (ok or failed) and class of failure.", "mirror", "result", "class")
	switches             = describe("index_switches_total", "Indices that were replaced.", "mirror")
	indexPackages        = describe("index_packages", "Packages that an index offered after the last run.", "mirror", "path", "layout")
	indexBytes           = describe("index_bytes", "Size of an index that was last written.", "mirror", "path", "layout")
	objects              = describe("objects_stored_total", "Objects that were stored.", "mirror")
	sentBytes            = describe("sent_bytes_total", "Bytes of content that were sent, less those that must be sent again.")
	checkedBytes         = describe("checked_bytes_total", "Bytes that were read to check that packages are complete.")
	scans                = describe("scans_total", "Scans of a whole source.", "mirror")
	scanSeconds          = describe("scan_seconds", "How long the last scan took.", "mirror")
	documents            = describe("documents", "Documents in the source at the last scan.", "mirror")
	overflows            = describe("hint_overflows_total", "Overflows of the inotify queue.", "mirror")
	obligations          = describe("obligations", "Invalidations that are due.", "mirror")
	oldestDuty           = describe("oldest_obligation_age_seconds", "How long the oldest invalidation has been due; 0: none.", "mirror")
	invalidated          = describe("caches_told_total", "Invalidations that succeeded.", "mirror")
	invalidationFailures = describe("cache_failures_total", "Invalidations that failed, or after which clients did not see the published packages.")
	keyExpiry            = describe("signing_key_expiry_timestamp_seconds", "Expiry of the key that signs the packages of a mirror; absent if it never expires.", "mirror", "fingerprint")
	queueErrors          = describe("queue_errors_total", "How often the queue could not be used.")

	daemonMetrics = []*prometheus.Desc{
		buildInfo, healthy, jobs, moves, queueBytes, oldest, stuckPackages, paused, lastPublish, latency, runs, switches, indexPackages, indexBytes,
		objects, sentBytes, checkedBytes, scans, scanSeconds, documents, overflows, obligations, oldestDuty, invalidated, invalidationFailures, keyExpiry, queueErrors,
	}
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range m.all {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(c chan<- prometheus.Metric) { m.collect(c) }

// A meter receives measurements.
type meter chan<- prometheus.Metric

func (m meter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (m meter) counter(d *prometheus.Desc, v float64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (m meter) histogram(d *prometheus.Desc, h *histogram.Histogram, labels ...string) {
	buckets, count, sum := h.Buckets()
	m <- prometheus.MustNewConstHistogram(d, count, sum, buckets, labels...)
}

// runs counts runs. Failures have a series from the start, so that the first failure is an increase.
func (m meter) runs(mirror string, all int, failures map[string]int) {
	m.counter(runs, 0, mirror, "failed", "")
	for class, n := range failures {
		all -= n
		m.counter(runs, float64(n), mirror, "failed", class)
	}
	m.counter(runs, float64(all), mirror, "ok", "")
}

func (m meter) index(mirror, path, layout string, packages int, bytes int64) {
	m.gauge(indexPackages, float64(packages), mirror, path, layout)
	if bytes > 0 {
		m.gauge(indexBytes, float64(bytes), mirror, path, layout)
	}
}

func (m meter) daemon(d *daemon.Daemon) {
	totals, counted := d.Counted()
	m.counter(sentBytes, float64(totals.SentBytes))
	m.counter(checkedBytes, float64(totals.CheckedBytes))
	m.counter(invalidationFailures, float64(totals.InvalidationFailures))
	m.counter(queueErrors, float64(totals.QueueErrors))
	for name, n := range counted {
		for state, moved := range n.Jobs {
			m.counter(moves, float64(moved), name, string(state))
		}
		m.runs(name, n.Runs, n.Failures)
		m.counter(switches, float64(n.IndexSwitches), name)
		m.counter(objects, float64(n.Objects), name)
		m.counter(scans, float64(n.Scans), name)
		m.counter(overflows, float64(n.Overflows), name)
		m.counter(invalidated, float64(n.Invalidations), name)
		m.gauge(scanSeconds, n.ScanSeconds, name)
		m.histogram(latency, n.Latency, name)
	}
	s, err := d.Status(context.Background())
	if err != nil {
		m.gauge(healthy, 0)
		return
	}
	m.gauge(healthy, truth(s.Healthy))
	for _, one := range s.Mirrors {
		m.mirror(s, one)
	}
}

func (m meter) mirror(s daemon.Status, one daemon.MirrorStatus) {
	for _, state := range queue.States {
		m.gauge(jobs, float64(one.Jobs[state]), one.Name, string(state))
	}
	m.gauge(queueBytes, float64(one.Bytes), one.Name)
	m.gauge(documents, float64(one.Documents), one.Name)
	m.gauge(paused, truth(one.Paused != ""), one.Name)
	m.gauge(oldest, age(one.Oldest), one.Name)
	if one.Published != nil {
		m.gauge(lastPublish, timestamp(*one.Published), one.Name)
	}
	if k := one.SigningKey; k != nil && !k.Expires.IsZero() {
		m.gauge(keyExpiry, timestamp(k.Expires), one.Name, k.Fingerprint)
	}
	for _, x := range one.Indices {
		m.index(one.Name, x.Path, x.Layout, x.Packages, x.Bytes)
	}
	stuck, owed := 0, 0
	var since *time.Time
	for _, p := range s.Stuck {
		if p.Mirror == one.Name {
			stuck++
		}
	}
	for _, o := range s.Obligations {
		if o.Mirror == one.Name && o.State == queue.Due {
			owed++
			if since == nil {
				since = &o.Since
			}
		}
	}
	m.gauge(stuckPackages, float64(stuck), one.Name)
	m.gauge(obligations, float64(owed), one.Name)
	m.gauge(oldestDuty, age(since), one.Name)
}

func timestamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

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
