// Package price estimates what AWS charges, in US dollars, by the list prices of us-east-1.
package price

// From aws.amazon.com/s3/pricing and /cloudfront/pricing, November 2026.
const (
	put  = 0.005 / 1000 // PUT, POST, LIST
	path = 0.005        // an invalidated path, after the first 1,000 a month
	get  = 0.0004 / 1000
	gb   = 0.023 // a month, in S3 Standard
)

// Requests is for requests to S3 that write or list.
func Requests(n int) float64 { return float64(n) * put }

// Reads is for requests to S3 that read.
func Reads(n int) float64 { return float64(n) * get }

// Storage is for keeping bytes in S3 for a month.
func Storage(bytes int64) float64 { return float64(bytes) / 1e9 * gb }

// pathsCost is for invalidating paths, once the month's free ones are used up.
func pathsCost(n int) float64 { return float64(n) * path }
