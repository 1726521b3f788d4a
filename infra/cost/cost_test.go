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
		{"the replica holds all once more", Usage{Replica: true, StorageGB: 500}, "Replica's storage", 11.50},
		{"what is published travels to it", Usage{Replica: true, WrittenGB: 100, Publishes: 100, Objects: 1000}, "Replica's copies", 100*0.02 + 100*0.005},
		{"its lag is measured", Usage{Replica: true}, "Replica's metrics", 1.20},
		{"and watched", Usage{Replica: true, Alarms: true}, "Alarms", 0.50},
		{"so is the certificate", Usage{CertificateAlarm: true, Alarms: true}, "Alarms", 0.40},
		{"an inventory of a hundred million", Usage{Inventory: true, StoredObjects: 100e6}, "Inventory", 0.25 * 52 / 12},
		{"queries over 9 GB of logs", Usage{Athena: true, Queries: 100, Requests: 20e6, LogDays: 90}, "Athena", 100 * 9.0 / 1024 * 5},
		{"small queries", Usage{Athena: true, Queries: 10240}, "Athena", 0.5},
		{"the workgroup ends large ones", Usage{Athena: true, Queries: 1024, Requests: 1e9, LogDays: 90}, "Athena", 100},
		{"records", Usage{CloudTrail: true, Publishes: 1000, Objects: 10000, LogDays: 90}, "CloudTrail records", 4 * 3 * 0.023},
		{"locked records are kept longer", Usage{CloudTrail: true, Publishes: 1000, Objects: 10000, LogDays: 90, LockDays: 900}, "CloudTrail records", 4 * 30 * 0.023},
		{"tiering watches what is there", Usage{IntelligentTiering: true, StoredObjects: 1e6}, "Intelligent-Tiering", 2.50},
		{"a key that signs nothing", Usage{SigningKey: true}, "Signing key", 1},
		{"ten thousand packages, signed", Usage{SigningKey: true, Publishes: 100, Objects: 300}, "Signing key", 1.15},
		{"cost anomalies", Usage{CostAnomaly: true}, "Cost anomaly detection", 0},
		{"a budget", Usage{Budget: true}, "Budget", 0},
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
	base := Usage{StorageGB: 1, Requests: 1e6, Publishes: 10, Objects: 1000, StoredObjects: 1e6, WrittenGB: 1, LogDays: 90, Queries: 10, CloudTrail: true, Alarms: true}
	for name, on := range map[string]func(*Usage){
		"domain":              func(u *Usage) { u.Domain = true },
		"replica":             func(u *Usage) { u.Replica = true },
		"inventory":           func(u *Usage) { u.Inventory = true },
		"athena":              func(u *Usage) { u.Athena = true },
		"locked records":      func(u *Usage) { u.LockDays = 900 },
		"certificate alarm":   func(u *Usage) { u.CertificateAlarm = true },
		"origin shield":       func(u *Usage) { u.OriginShield = true },
		"intelligent tiering": func(u *Usage) { u.IntelligentTiering = true },
		"signing key":         func(u *Usage) { u.SigningKey = true },
		"waf":                 func(u *Usage) { u.WAF = true },
	} {
		u := base
		on(&u)
		if Total(Estimate(u)) <= Total(Estimate(base)) {
			t.Errorf("%s costs nothing", name)
		}
	}
}

// TestWhatIsPaidForAnyway is left out where it is not deployed.
func TestWhatIsPaidForAnyway(t *testing.T) {
	with := Usage{StorageGB: 1, Requests: 1e6, Publishes: 10, Objects: 1000, LogDays: 90, CloudTrail: true, Alarms: true}
	for name, off := range map[string]func(*Usage){
		"alarms":     func(u *Usage) { u.Alarms = false },
		"cloudtrail": func(u *Usage) { u.CloudTrail = false },
	} {
		u := with
		off(&u)
		if Total(Estimate(u)) >= Total(Estimate(with)) {
			t.Errorf("%s costs nothing", name)
		}
	}
}
