package publish

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"slices"
)

// What AWS charges in us-east-1, in US dollars (aws.amazon.com/s3/pricing and
// /cloudfront/pricing, November 2026).
const (
	pricePut  = 0.005 / 1000 // PUT, POST, LIST
	pricePath = 0.005        // an invalidated path, after the first 1,000 a month
	priceGet  = 0.0004 / 1000
	priceGB   = 0.023 // a month, in S3 Standard
)

// A Cost is what carrying a plan out is estimated to take.
type Cost struct {
	Objects  int     `json:"objects"`
	Bytes    int64   `json:"bytes"`
	Requests int     `json:"requests"`         // that write; reading costs a tenth and less
	USD      float64 `json:"usd"`              // for requests to S3, without storage
	PathsUSD float64 `json:"invalidation_usd"` // if the month's free paths are used up
}

// RequestsUSD is what S3 charges for requests that write or list.
func RequestsUSD(n int) float64 { return float64(n) * pricePut }

// ReadsUSD is what S3 charges for requests that read.
func ReadsUSD(n int) float64 { return float64(n) * priceGet }

// StorageUSD is what S3 charges for keeping bytes for a month.
func StorageUSD(bytes int64) float64 { return float64(bytes) / 1e9 * priceGB }

// Cost estimates what the plan takes: an object above threshold is sent in parts of
// partSize bytes, and paths are invalidated.
func (p *Plan) Cost(threshold, partSize int64, paths int) Cost {
	var c Cost
	add := func(size int64) {
		c.Objects++
		c.Bytes += size
		c.Requests++
		if size > threshold && partSize > 0 {
			c.Requests += int((size+partSize-1)/partSize) + 1
		}
	}
	for _, m := range p.Mirrors {
		for _, o := range m.Blobs {
			add(o.Size)
		}
		for _, wave := range m.Documents {
			for _, w := range wave {
				add(w.Size)
			}
		}
		for _, o := range slices.Concat(m.Marker, m.Keys, m.KeyIndex) {
			add(o.Size)
		}
		if m.Index.Changes {
			c.Requests++ // for the record in the history
			add(m.Index.Bytes)
			if m.merge != nil {
				add(m.merge.PointerBytes)
			}
		}
	}
	for _, f := range p.Files {
		for _, w := range f.Writes {
			add(w.Size)
		}
	}
	c.USD = RequestsUSD(c.Requests)
	c.PathsUSD = float64(paths) * pricePath
	return c
}

// Stale are the fixed names that the plan gives other content, which caches may still have.
func (p *Plan) Stale() []string {
	var names []string
	for _, m := range p.Mirrors {
		for _, wave := range m.Documents {
			for _, w := range wave {
				if w.Was != "" {
					names = append(names, buildcache.Join(m.Path, w.Name))
				}
			}
		}
		if n := len(m.KeyIndex); n > 0 {
			names = append(names, buildcache.Join(m.Path, m.KeyIndex[n-1].Name))
		}
		if m.Index.Changes {
			names = append(names, m.Pointers()...)
		}
	}
	for _, f := range p.Files {
		for _, w := range f.Writes {
			if w.Was != "" {
				names = append(names, w.Name)
			}
		}
	}
	return names
}
