// Package cost estimates what the cache costs in a month. It does no I/O: prices are
// written down here, with where and when they were read, and an estimate is data.
//
// It is an estimate for planning, in us-east-1 and CloudFront's cheapest region, before
// tax. The account's free allowances are counted as if the cache alone used them.
package cost

import (
	"fmt"
	"math"
)

// Read says of when the prices are. They are AWS's list prices, written down without asking
// AWS: compare them with aws.amazon.com/s3/pricing, /cloudfront/pricing, /cloudwatch/pricing,
// /route53/pricing and /cloudtrail/pricing before money depends on them.
const Read = "November 2026"

// Prices in US dollars.
const (
	putPerThousand     = 0.005
	getPerThousand     = 0.0004
	edgeRequestsPerM   = 1.00 // HTTPS, US and Europe
	freeEdgeRequestsM  = 10.0
	invalidationPath   = 0.005
	freeInvalidations  = 1000
	customMetric       = 0.30
	standardAlarm      = 0.10 // per metric of the alarm
	hostedZone         = 0.50
	trailPerHundredK   = 0.10
	shieldPerTenK      = 0.0075
	tieringPerThousand = 0.0025 // objects that are watched, a month
	webACL             = 5.00
	webACLPerM         = 0.60
	queuePerM          = 0.40 // requests to a standard queue
	freeQueueM         = 1.0
	signingKey         = 1.00   // a month
	signaturesPerTenK  = 0.15   // RSA 4096; none is free
	betweenRegions     = 0.02   // per GB; less between neighbours
	inventoryPerM      = 0.0025 // objects listed
	scanPerTB          = 5.00   // that queries of Athena read

	edgeMetrics   = 8 // CloudFront's additional metrics of one distribution
	bucketMetrics = 16
	alarmMetrics  = 3 // one metric for the error rate, two behind the hit rate
	queueAlarms   = 2 // of the indexer's queue; what SQS measures is free
	replicaAlarms = 2
	copyMetrics   = 4 // S3's replication metrics of one rule

	// objectsPerPackage is that of layout v3: a document, of which a message tells, and two blobs.
	objectsPerPackage = 3
	// An idle host asks the queue every 20 s. A message is sent, received, hidden anew and deleted, the last
	// three ten at a time.
	idlePolls          = 30 * 24 * 60 * 3
	requestsPerMessage = 2
	// The indexer lists two blobs of a package, and reads its document and its spec. A publish turns one
	// index, which is listed and read some times, written twice, and told to the CDN twice.
	listsPerPackage, readsPerPackage = 2, 2
	listsPerTurn, pathsPerTurn       = 10, 2

	// averageLog is the size of a line of the access log, in bytes of gzipped JSON.
	averageLog = 150
	// averageRecord is the size of a record of CloudTrail, in bytes of gzipped JSON.
	averageRecord = 400

	weeksPerMonth = 52.0 / 12
	// A query of Athena is charged for at least 10 MB, and the stack's workgroup ends it at 20 GB.
	leastScanGB, mostScanGB = 0.01, 20
)

// A tier is a price for everything up to a bound; the last has no bound.
type tier struct{ upTo, price float64 }

var (
	// storageTiers is S3 Standard per GB.
	storageTiers = []tier{{50 * 1024, 0.023}, {500 * 1024, 0.022}, {math.Inf(1), 0.021}}
	// trafficTiers is CloudFront to the internet per GB, United States and Europe.
	trafficTiers = []tier{{1024, 0}, {10 * 1024, 0.085}, {50 * 1024, 0.080}, {150 * 1024, 0.060}, {500 * 1024, 0.040}, {1024 * 1024, 0.030}, {math.Inf(1), 0.025}}
)

// Usage is a month of the cache.
type Usage struct {
	// StorageGB is what the bucket holds, current versions and old ones.
	StorageGB float64
	// TrafficGB is what readers download.
	TrafficGB float64
	// Requests is how many objects readers ask for.
	Requests float64
	// HitRate is the part of them that the edge answers by itself, 0 to 1.
	HitRate float64
	// Publishes is how many times something is published, Objects how many objects
	// one publish writes, Paths how many paths it invalidates.
	Publishes, Objects, Paths float64
	// StoredObjects is how many objects and versions the bucket holds, WrittenGB how much is
	// published in the month.
	StoredObjects, WrittenGB float64
	// LogDays is how long access logs are kept, LockDays how long CloudTrail's records are locked.
	LogDays, LockDays float64
	// Queries is how many queries of Athena read all access logs.
	Queries float64

	// Indexers is how many hosts run publish indexer. 0: there is no queue.
	Indexers float64

	// What the stack has; see the flags of the same names.
	Domain, Alarms, CloudTrail, OriginShield, IntelligentTiering, WAF bool
	Replica, Inventory, Athena, CertificateAlarm, CostAnomaly, Budget bool
	SigningKey                                                        bool
}

// A Line is one part of the bill.
type Line struct {
	What    string  `json:"what"`
	Basis   string  `json:"basis"`
	Dollars float64 `json:"dollars"`
}

// Estimate is the month's bill for the usage. Its lines are those that apply, free
// ones included, because what is free is what people ask about.
func Estimate(u Usage) []Line {
	fromOrigin := u.Requests * (1 - u.HitRate)
	writes := u.Publishes * u.Objects
	packages, paths := writes/objectsPerPackage, u.Publishes*u.Paths
	if u.Indexers > 0 {
		paths += u.Publishes * pathsPerTurn
	}
	logGB := u.Requests * averageLog / 1e9 * u.LogDays / 30
	lines := []Line{
		{"S3 storage", fmt.Sprintf("%.0f GB", u.StorageGB), tiered(storageTiers, u.StorageGB)},
		{"S3 writes", fmt.Sprintf("%.0f publishes of %.0f objects", u.Publishes, u.Objects), writes / 1000 * putPerThousand},
		{"S3 reads by CloudFront", fmt.Sprintf("%.0f requests missed by the edge", fromOrigin), fromOrigin / 1000 * getPerThousand},
		{"S3 to CloudFront", "always free", 0},
		{"CloudFront traffic", fmt.Sprintf("%.0f GB, the first 1024 free", u.TrafficGB), tiered(trafficTiers, u.TrafficGB)},
		{"CloudFront requests", fmt.Sprintf("%.0f, the first 10 million free", u.Requests), math.Max(0, u.Requests/1e6-freeEdgeRequestsM) * edgeRequestsPerM},
		{"CloudFront invalidations", fmt.Sprintf("%.0f paths, the first 1000 free", paths), math.Max(0, paths-freeInvalidations) * invalidationPath},
		{"Access logs", fmt.Sprintf("kept %.0f days", u.LogDays), logGB * storageTiers[0].price},
	}
	add := func(on bool, what, basis string, dollars float64) {
		if on {
			lines = append(lines, Line{what, basis, dollars})
		}
	}
	add(u.Domain, "Route53 zone", "alias queries are free", hostedZone)
	add(u.Alarms, "CloudFront metrics", fmt.Sprintf("%d additional metrics", edgeMetrics), edgeMetrics*customMetric)
	add(u.Alarms, "S3 request metrics", fmt.Sprintf("%d metrics", bucketMetrics), bucketMetrics*customMetric)
	add(u.Alarms, "Alarms", fmt.Sprintf("%d metrics watched; the first 3 dashboards are free", alarms(u)), float64(alarms(u))*standardAlarm)
	requests := u.Indexers*idlePolls + packages*requestsPerMessage
	add(u.Indexers > 0, "Indexer's queue", fmt.Sprintf("%.0f requests, the first million free", requests), math.Max(0, requests/1e6-freeQueueM)*queuePerM)
	add(u.Indexers > 0, "Indexer's S3 requests", fmt.Sprintf("%.0f packages", packages),
		(packages*listsPerPackage+u.Publishes*listsPerTurn)/1000*putPerThousand+packages*readsPerPackage/1000*getPerThousand)
	add(u.CloudTrail, "CloudTrail data events", fmt.Sprintf("%.0f writes", writes), writes/100_000*trailPerHundredK)
	recordDays := math.Max(u.LogDays, u.LockDays)
	add(u.CloudTrail, "CloudTrail records", fmt.Sprintf("kept %.0f days, %s", recordDays, locked(u.LockDays)),
		writes*averageRecord/1e9*recordDays/30*storageTiers[0].price)
	add(u.OriginShield, "Origin Shield", fmt.Sprintf("%.0f requests", fromOrigin), fromOrigin/10_000*shieldPerTenK)
	add(u.IntelligentTiering, "Intelligent-Tiering", fmt.Sprintf("watches %.0f objects", u.StoredObjects), u.StoredObjects/1000*tieringPerThousand)
	add(u.WAF, "WAF", "one web ACL", webACL+u.Requests/1e6*webACLPerM)
	add(u.Replica, "Replica's storage", fmt.Sprintf("%.0f GB", u.StorageGB), tiered(storageTiers, u.StorageGB))
	add(u.Replica, "Replica's copies", fmt.Sprintf("%.0f GB in %.0f objects", u.WrittenGB, writes), u.WrittenGB*betweenRegions+writes/1000*putPerThousand)
	add(u.Replica, "Replica's metrics", fmt.Sprintf("%d metrics", copyMetrics), copyMetrics*customMetric)
	add(u.Inventory, "Inventory", fmt.Sprintf("%.0f objects and versions, every week", u.StoredObjects), u.StoredObjects/1e6*inventoryPerM*weeksPerMonth)
	scan := math.Min(math.Max(logGB, leastScanGB), mostScanGB)
	add(u.Athena, "Athena", fmt.Sprintf("%.0f queries that read %.2f GB each", u.Queries, scan), u.Queries*scan/1024*scanPerTB)
	add(u.SigningKey, "Signing key", fmt.Sprintf("%.0f signatures, one a package", packages), signingKey+packages/10_000*signaturesPerTenK)
	add(u.CostAnomaly, "Cost anomaly detection", "always free", 0)
	add(u.Budget, "Budget", "a budget that only warns is free", 0)
	return lines
}

// alarms is how many metrics the alarms watch.
func alarms(u Usage) int {
	n := alarmMetrics
	for _, more := range []struct {
		on bool
		n  int
	}{{u.Indexers > 0, queueAlarms}, {u.Replica, replicaAlarms}, {u.CertificateAlarm, 1}} {
		if more.on {
			n += more.n
		}
	}
	return n
}

// Total is the sum of the lines.
func Total(lines []Line) float64 {
	var sum float64
	for _, l := range lines {
		sum += l.Dollars
	}
	return sum
}

// tiered applies each price to the part of n that falls into its tier.
func tiered(tiers []tier, n float64) float64 {
	var sum, from float64
	for _, t := range tiers {
		if n <= from {
			break
		}
		sum += (math.Min(n, t.upTo) - from) * t.price
		from = t.upTo
	}
	return sum
}

// locked says for how long records cannot be deleted.
func locked(days float64) string {
	if days == 0 {
		return "not locked"
	}
	return fmt.Sprintf("locked for %.0f", days)
}
