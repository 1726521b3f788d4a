package cost

import (
	"math"
	"testing"
)

func line(t *testing.T, u Usage, what string) float64 {
	t.Helper()
	for _, l := range Estimate(u) {
		if l.What == what {
			return l.Dollars
		}
	}
	t.Fatalf("no line %s", what)
	return 0
}

func TestEstimate(t *testing.T) {
	for _, row := range []struct {
		name string
		u    Usage
		what string
		want float64
	}{
		{"the reference's 500 GB", Usage{StorageGB: 500}, "S3 storage", 11.50},
		{"second tier of storage", Usage{StorageGB: 51 * 1024}, "S3 storage", 50*1024*0.023 + 1024*0.022},
		{"the first terabyte out is free", Usage{TrafficGB: 1024}, "CloudFront traffic", 0},
		{"the second is not", Usage{TrafficGB: 2048}, "CloudFront traffic", 1024 * 0.085},
		{"third tier of traffic", Usage{TrafficGB: 11 * 1024}, "CloudFront traffic", 9*1024*0.085 + 1024*0.080},
		{"ten million requests are free", Usage{Requests: 10e6}, "CloudFront requests", 0},
		{"the next million is not", Usage{Requests: 11e6}, "CloudFront requests", 1},
		{"what the edge misses, S3 reads", Usage{Requests: 1e6, HitRate: 0.9}, "S3 reads by CloudFront", 100 * 0.0004},
		{"a thousand paths are free", Usage{Publishes: 1000, Paths: 1}, "CloudFront invalidations", 0},
		{"further paths are not", Usage{Publishes: 1000, Paths: 3}, "CloudFront invalidations", 10},
		{"writes", Usage{Publishes: 100, Objects: 200}, "S3 writes", 0.10},
		{"metrics", Usage{Alarms: true}, "CloudFront metrics", 2.40},
		{"zone", Usage{Domain: true}, "Route53 zone", 0.50},
		{"an idle indexer is free", Usage{Indexers: 7}, "Indexer's queue", 0},
		{"a million requests to the queue", Usage{Indexers: 7, Publishes: 1000, Objects: 3 * 546.4}, "Indexer's queue", 0.40},
		{"the indexer tells the CDN, too", Usage{Indexers: 1, Publishes: 1000, Paths: 1}, "CloudFront invalidations", 10},
		{"the indexer looks", Usage{Indexers: 1, Publishes: 100, Objects: 300}, "Indexer's S3 requests", 0.100 + 0.005 + 0.008},
		{"its alarms", Usage{Indexers: 1, Alarms: true}, "Alarms", 0.50},
		{"web ACL", Usage{WAF: true, Requests: 1e6}, "WAF", 5.60},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := line(t, row.u, row.what); math.Abs(got-row.want) > 0.005 {
				t.Errorf("$%.3f, want $%.3f", got, row.want)
			}
		})
	}
}

func TestNothingCostsNothing(t *testing.T) {
	if total := Total(Estimate(Usage{})); total != 0 {
		t.Errorf("$%.2f", total)
	}
}

func TestEveryOptionHasItsPrice(t *testing.T) {
	base := Usage{StorageGB: 1, Requests: 1e6, Publishes: 10, Objects: 1000}
	for name, on := range map[string]func(*Usage){
		"domain":              func(u *Usage) { u.Domain = true },
		"alarms":              func(u *Usage) { u.Alarms = true },
		"cloudtrail":          func(u *Usage) { u.CloudTrail = true },
		"origin shield":       func(u *Usage) { u.OriginShield = true },
		"intelligent tiering": func(u *Usage) { u.IntelligentTiering = true },
		"waf":                 func(u *Usage) { u.WAF = true },
	} {
		u := base
		on(&u)
		if Total(Estimate(u)) <= Total(Estimate(base)) {
			t.Errorf("%s costs nothing", name)
		}
	}
}
