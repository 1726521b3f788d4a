package bench

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A destination is where a client publishes to.
type destination struct {
	place  place
	bucket string
}

// prefix is where everything goes in a bucket.
const prefix = "p"

func (d destination) s3() string  { return "s3://" + d.bucket + "/" + prefix }
func (d destination) url() string { return d.place.url() + "/" + d.bucket + "/" + prefix }

// env is the environment of a client: an account, and where its S3 is, and nothing of the
// one who runs the benchmark.
func (d destination) env(home string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + os.TempDir(),
		"AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_REGION=" + region,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL=" + d.place.url(),
	}
	if ca := d.place.ca(); ca != "" {
		env = append(env, "SSL_CERT_FILE="+ca, "AWS_CA_BUNDLE="+ca)
	}
	return env
}

// A Client is a program that makes a bucket hold what a directory holds.
type Client struct {
	Name    string
	Version string

	// Ours: this program. Alone: without SHA-256, which no peer computes of what it sends
	// to compare it with anything. A baseline is no client: it does what a client must do, and
	// nothing else, one that is Alone without SHA-256. A Floor hashes in the least time, and a
	// Sender does so and sends.
	Ours, Alone, Baseline, Floor, Sender bool
	// Scenario is the only one in which it is run; empty: it is run in all.
	Scenario string
	// Once: it does not look at what is there, so a second run would send everything again.
	Once bool
	// WellKnown: it connects to the ports 80 and 443 only.
	WellKnown bool

	bin  string
	args func(dir string, to destination) []string
	env  func(to destination) []string // beside the usual; may be nil
}

// peer reports whether a client is somebody else's.
func (c *Client) peer() bool { return !c.Ours && !c.Alone && !c.Baseline }

func (c *Client) command(dir string, to destination, home string) command {
	env := to.env(home)
	if c.env != nil {
		env = append(env, c.env(to)...)
	}
	return command{c.bin, c.args(dir, to), env}
}

// Binaries are what the benchmark runs that is built from this repository.
type Binaries struct {
	Publish   string // the product
	Unchecked string // the product with hashing off
	Bench     string // this benchmark
}

// clients returns our programs, and all peers that are wanted and can be had, in the order in
// which they run. leftOut is told of those that cannot, and why.
func clients(b Binaries, dir string, install bool, wanted *regexp.Regexp, leftOut func(string)) []*Client {
	publish := func(from string, to destination) []string { return []string{from, to.s3()} }
	read := func(flags ...string) func(string, destination) []string {
		return func(from string, _ destination) []string {
			return slices.Concat([]string{"read"}, flags, []string{from})
		}
	}
	send := func(flag string) func(string, destination) []string {
		return func(from string, to destination) []string { return read(flag, "-to", to.url())(from, to) }
	}
	all := []*Client{
		{Name: "read + SHA-256", Baseline: true, Scenario: "fast", bin: b.Bench, args: read()},
		{Name: "read + SHA-256 in pairs", Baseline: true, Floor: true, Scenario: "fast", bin: b.Bench, args: read("-pairs")},
		{Name: "read + SHA-256 in pairs + send", Baseline: true, Sender: true, Scenario: "fast", bin: b.Bench, args: send("-pairs")},
		{Name: "read + SHA-256 in pairs + send", Baseline: true, Sender: true, Scenario: "tls", bin: b.Bench, args: send("-pairs")},
		{Name: "read + send", Baseline: true, Sender: true, Alone: true, Scenario: "tls", bin: b.Bench, args: send("-hash=false")},
		{Name: "publish", Ours: true, bin: b.Publish, args: publish},
		{Name: "publish, engine alone", Alone: true, bin: b.Unchecked, args: publish},
	}
	for _, api := range []string{"manager", "transfermanager"} {
		all = append(all, &Client{
			Name: "SDK " + api, Version: sdkVersion(api), bin: b.Bench,
			args: func(from string, to destination) []string { return []string{api, from, to.s3()} },
		})
	}
	for _, p := range peers {
		if !wanted.MatchString(p.name) {
			continue
		}
		c, err := p.get(filepath.Join(dir, "peers"), install)
		if err != nil {
			leftOut(firstLine(err))
			continue
		}
		c.Name = p.name
		all = append(all, c)
	}
	return slices.DeleteFunc(all, func(c *Client) bool { return !wanted.MatchString(c.Name) })
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// hostOf is the host of a URL, without its scheme.
func hostOf(u string) string {
	parsed, err := url.Parse(u)
	if err != nil {
		return u
	}
	return parsed.Host
}
