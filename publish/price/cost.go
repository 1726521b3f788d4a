package price

// A Cost is what carrying a plan out is estimated to take.
type Cost struct {
	Objects  int     `json:"objects"`
	Bytes    int64   `json:"bytes"`
	Requests int     `json:"requests"`         // that write; reading costs a tenth and less
	USD      float64 `json:"usd"`              // for requests to S3, without storage
	PathsUSD float64 `json:"invalidation_usd"` // if the month's free paths are used up
}

// Add adds an object, which is sent in parts of partSize bytes if it is larger than threshold; 0: in one request.
func (c *Cost) Add(size, threshold, partSize int64) {
	c.Objects++
	c.Bytes += size
	c.Requests++
	if size > threshold && partSize > 0 {
		c.Requests += int((size+partSize-1)/partSize) + 1
	}
}

// At is the cost at list prices, with so many paths that are invalidated.
func (c Cost) At(paths int) Cost {
	c.USD, c.PathsUSD = Requests(c.Requests), pathsCost(paths)
	return c
}
