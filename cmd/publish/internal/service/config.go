package service

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
)

// Example is printed by --print-example-config: every key, with an explanation.
//
//go:embed daemon.example.yaml
var Example string

// A Config is the configuration file of a daemon. The example is its manual.
type Config struct {
	Mode         string         `yaml:"mode"`
	Queue        string         `yaml:"queue"`
	StateDir     string         `yaml:"state_dir"`
	Socket       string         `yaml:"socket"`
	SocketGroup  string         `yaml:"socket_group"`
	AllowUsers   []string       `yaml:"allow_users"`
	AllowGroups  []string       `yaml:"allow_groups"`
	Listen       string         `yaml:"listen"`
	LogFormat    string         `yaml:"log_format"`
	LogLevel     string         `yaml:"log_level"`
	StopTimeout  timespan       `yaml:"stop_timeout"`
	StalledAfter timespan       `yaml:"stalled_after"`
	KeepFinished timespan       `yaml:"keep_finished"`
	Bandwidth    []bandwidth    `yaml:"bandwidth"`
	Mirrors      []MirrorConfig `yaml:"mirrors"`
}

// A MirrorConfig is one mirror. Most keys have the names of the flags of publish.
type MirrorConfig struct {
	Name        string `yaml:"name"`
	Source      string `yaml:"source"`
	Destination string `yaml:"destination"`

	Settle       timespan `yaml:"settle"`
	MaxDelay     timespan `yaml:"max_delay"`
	ScanInterval timespan `yaml:"scan_interval"`
	StuckAfter   timespan `yaml:"stuck_after"`
	Watch        *bool    `yaml:"watch"`

	RequireSigned      bool     `yaml:"require_signed"`
	TrustedKeys        fileName `yaml:"trusted_keys"`
	PublishKeys        *bool    `yaml:"publish_keys"`
	SignKey            fileName `yaml:"sign_key"`
	SignPublicKey      fileName `yaml:"sign_public_key"`
	SignPassphraseFile fileName `yaml:"sign_passphrase_file"`
	Resign             bool     `yaml:"resign"`
	Licenses           fileName `yaml:"licenses"`
	Include            []string `yaml:"include"`
	Exclude            []string `yaml:"exclude"`
	Layout             string   `yaml:"layout"`
	ExpectOS           []string `yaml:"expect_os"`
	ExpectTarget       []string `yaml:"expect_target"`
	IfExists           string   `yaml:"if_exists"`

	EndpointURL  string `yaml:"endpoint_url"`
	Region       string `yaml:"region"`
	StorageClass string `yaml:"storage_class"`
	SSE          string `yaml:"sse"`
	KMSKeyID     string `yaml:"kms_key_id"`
	Concurrency  number `yaml:"concurrency"`
	PartSize     size64 `yaml:"part_size"`
	SingleWriter bool   `yaml:"unsafe_single_writer"`

	Profile              string `yaml:"profile"`
	RoleToAssume         string `yaml:"role_to_assume"`
	RoleSessionName      string `yaml:"role_session_name"`
	WebIdentityTokenFile string `yaml:"web_identity_token_file"`

	DistributionID       string `yaml:"distribution_id"`
	CloudFrontPathPrefix string `yaml:"cloudfront_path_prefix"`
	MaxInvalidationPaths number `yaml:"max_invalidation_paths"`
	WaitForInvalidation  bool   `yaml:"wait_for_invalidation"`
	PublicURL            string `yaml:"public_url"`
	Catalog              bool   `yaml:"catalog"`
}

// A fileName is the name of a file. An empty name is an error: the setting would be ignored.
type fileName userfile.Name

// UnmarshalYAML implements yaml.NodeUnmarshaler, so that an error has a position.
func (f *fileName) UnmarshalYAML(n ast.Node) error {
	text, ok := n.(*ast.StringNode)
	if !ok {
		return misplaced(n, "want the name of a file")
	}
	if err := (*userfile.Name)(f).Set(text.Value); err != nil {
		return misplaced(n, "%v", err)
	}
	return nil
}

// A timespan is a duration in Go's notation: 90s, 5m, 1h30m.
type timespan struct {
	time.Duration
	set bool
}

// UnmarshalYAML implements yaml.NodeUnmarshaler, so that an error has a position.
func (s *timespan) UnmarshalYAML(n ast.Node) error {
	d, err := time.ParseDuration(textOf(n))
	if err != nil || d < 0 {
		return misplaced(n, "%q is no time: want a number with s, m or h, such as 90s", textOf(n))
	}
	*s = timespan{d, true}
	return nil
}

// or returns the duration, or a default.
func (s timespan) or(d time.Duration) time.Duration {
	if s.set {
		return s.Duration
	}
	return d
}

// A size64 is a number of bytes with a unit: 16MiB.
type size64 int64

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (s *size64) UnmarshalYAML(n ast.Node) error {
	if err := quantity.Bytes((*int64)(s)).Set(textOf(n)); err != nil {
		return misplaced(n, "%v", err)
	}
	return nil
}

// A number is at least 1. 0 means that it is not given, and stands for a default.
type number int

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (c *number) UnmarshalYAML(n ast.Node) error {
	i, err := strconv.Atoi(textOf(n))
	if err != nil || i < 1 {
		return misplaced(n, "want a number of at least 1, not %s", textOf(n))
	}
	*c = number(i)
	return nil
}

func textOf(n ast.Node) string {
	if s, ok := n.(ast.ScalarNode); ok {
		return fmt.Sprint(s.GetValue())
	}
	return n.String()
}

// A placedError is an error at a position in the configuration.
type placedError struct {
	line, column int
	message      string
}

func (e *placedError) Error() string {
	if e.line == 0 {
		return e.message
	}
	return fmt.Sprintf("%d:%d: %s", e.line, e.column, e.message)
}

func misplaced(n ast.Node, format string, args ...any) error {
	e := &placedError{message: fmt.Sprintf(format, args...)}
	if n != nil {
		at := n.GetToken().Position
		e.line, e.column = at.Line, at.Column
	}
	return e
}

// ReadConfig reads a configuration. Its error lists every mistake that can be found at once, with line and
// column.
func ReadConfig(name string) (*Config, error) {
	text, err := userfile.Read(name)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("configuration: %w", err))
	}
	c, err := ParseConfig(text)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("configuration %s", inFile(name, err)))
	}
	return c, nil
}

// inFile adds the name of the file to each line of an error.
func inFile(name string, err error) string {
	var lines []string
	for _, line := range strings.Split(err.Error(), "\n") {
		lines = append(lines, name+":"+line)
	}
	return strings.Join(lines, "\n  ")
}

// places finds the nodes of settings.
type places struct{ doc *ast.File }

// of returns the node at a path: $.mirrors[0].source.
func (p places) of(path string) ast.Node {
	if at, err := yaml.PathString(path); err == nil {
		if n, err := at.FilterFile(p.doc); err == nil {
			return n
		}
	}
	if i := strings.LastIndexAny(path, ".["); i > 1 {
		return p.of(path[:i]) // it is missing: return the node that lacks it
	}
	return nil
}

const (
	defaultStop    = 60 * time.Second
	defaultStalled = 10 * time.Minute
	defaultKeep    = 30 * 24 * time.Hour

	defaultSettle   = time.Second
	defaultMaxDelay = 5 * time.Second
	defaultScan     = time.Minute
	defaultStuck    = 10 * time.Minute
)

// check returns all mistakes.
func (c *Config) check(at places) (wrong []error) {
	say := func(path, format string, args ...any) { wrong = append(wrong, misplaced(at.of(path), format, args...)) }
	switch c.Mode {
	case "", "publisher":
		for key, value := range map[string]string{"state_dir": c.StateDir, "socket": c.Socket} {
			if !filepath.IsAbs(value) {
				say("$."+key, "%s: want an absolute path", key)
			}
		}
		if c.Queue != "" {
			say("$.queue", "queue: it belongs to mode: indexer")
		}
	case "indexer":
		c.checkIndexer(say)
	default:
		say("$.mode", "mode %q: want publisher or indexer", c.Mode)
	}
	if !cli.OneOf(c.LogFormat, "", "text", "json") {
		say("$.log_format", "log_format %q: want text or json", c.LogFormat)
	}
	if !cli.OneOf(c.LogLevel, "", "debug", "info", "warn", "error") {
		say("$.log_level", "log_level %q: want debug, info, warn or error", c.LogLevel)
	}
	if c.Listen != "" {
		if err := onLoopback(c.Listen); err != nil {
			say("$.listen", "listen %q: %v", c.Listen, err)
		}
	}
	if len(c.Mirrors) == 0 {
		say("$.mirrors", "mirrors: there are none")
	}
	for i := range c.Mirrors {
		c.checkMirror(i, func(key, format string, args ...any) { say(fmt.Sprintf("$.mirrors[%d].%s", i, key), format, args...) })
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return wrong
}

func (c *Config) checkMirror(i int, say func(key, format string, args ...any)) {
	m := &c.Mirrors[i]
	if !filepath.IsAbs(m.Source) && c.Mode != "indexer" {
		say("source", "source: want an absolute path of a directory")
	}
	if m.Destination == "" {
		say("destination", "destination: want s3://bucket[/prefix] or file:///directory")
	}
	if redact.Has(m.Destination) {
		m.Destination = redact.URL(m.Destination)
		say("destination", "destination %s: it must not have a user or a password", m.Destination)
	} else if err := target.Check(m.Destination); err != nil && m.Destination != "" {
		say("destination", "%s", err)
	}
	m.Source, m.Destination = tidySource(m.Source), tidyDestination(m.Destination)
	if m.Name == "" {
		m.Name = m.Destination
	}
	for j := range i {
		if c.Mirrors[j].Name == m.Name && m.Name != "" {
			say("name", "two mirrors have the name %s: give them other names", m.Name)
		}
		if c.Mirrors[j].Source == m.Source && c.Mirrors[j].Destination == m.Destination {
			say("source", "%s is published to %s already, by mirror %d", m.Source, m.Destination, j+1)
		}
	}
	if err := target.Apart(m.Source, m.Destination); err != nil && c.Mode != "indexer" {
		say("destination", "destination: %v", err)
	}
	if m.ScanInterval.set && m.ScanInterval.Duration < time.Second {
		say("scan_interval", "scan_interval %s: want at least 1s", m.ScanInterval)
	}
	_, err := m.rules().Options()
	for _, one := range field.Each(errors.Join(err, m.Target().ValidateAt(m.Destination))) {
		var wrong *field.Error
		if errors.As(one, &wrong) {
			say(keyOf(wrong.Name), "%s", wrong.Under(keyOf(wrong.Name)))
		} else {
			say("", "%s", one)
		}
	}
}

// tidySource cleans the path of a directory, so that /srv/a and /srv/a/ are one mirror.
func tidySource(dir string) string {
	if dir == "" {
		return ""
	}
	return filepath.Clean(dir)
}

// tidyDestination removes redundant slashes from a destination. Doubtful cases stay.
func tidyDestination(where string) string {
	scheme, rest, ok := strings.Cut(where, "://")
	switch {
	case ok && scheme == "file" && strings.HasPrefix(rest, "/"):
		return "file://" + path.Clean(rest)
	case ok && scheme == "s3":
		bucket, prefix, _ := strings.Cut(rest, "/")
		return strings.TrimSuffix("s3://"+bucket+"/"+strings.Trim(prefix, "/"), "/")
	}
	return where
}

// keyOf returns the key of a setting in the configuration.
func keyOf(name string) string { return strings.ReplaceAll(name, "-", "_") }

// words returns the terms of the configuration.
func words() cli.Words {
	w := cli.CommandLine
	w.Setting, w.Source, w.Destination = keyOf, "source", "destination"
	w.Help = "`publish daemon --print-example-config` explains every key"
	return w
}

// classOf returns the class of failure of an error.
func classOf(err error) string { return cli.ClassOf(cli.ExitCode(err)) }

// explain returns the class of an error, and what to do about it in the words of the configuration.
func explain(err error) (class, hint string) {
	return classOf(err), strings.Join(cli.HintsIn(err, words()), "; ")
}

// rules returns the rules in the keys of a mirror.
func (m *MirrorConfig) rules() cli.Rules {
	r := cli.DefaultRules()
	r.KeepGoing = true
	r.RequireSigned, r.TrustedKeys = m.RequireSigned, userfile.One(string(m.TrustedKeys))
	r.PublishKeys = m.PublishKeys == nil || *m.PublishKeys
	r.Signing = signing.Config{Key: string(m.SignKey), PublicKey: string(m.SignPublicKey), PassphraseFile: string(m.SignPassphraseFile), Resign: m.Resign}
	r.Signing.AWS = m.Target().AWS(target.Environment{})
	r.Licences = string(m.Licenses)
	r.IfExists = cmp.Or(m.IfExists, r.IfExists)
	r.Selection.Include, r.Selection.Exclude, r.Selection.Layout = m.Include, m.Exclude, m.Layout
	r.Selection.OS, r.Selection.Target = m.ExpectOS, m.ExpectTarget
	return r
}

// Target returns how the destination of a mirror is reached.
func (m *MirrorConfig) Target() target.Config {
	return target.Config{
		S3: s3.Options{
			EndpointURL: m.EndpointURL, Region: m.Region, StorageClass: m.StorageClass, SSE: m.SSE, KMSKeyID: m.KMSKeyID,
			Concurrency: int(m.Concurrency), PartSize: int64(m.PartSize), SingleWriter: m.SingleWriter,
		},
		Profile: m.Profile, Role: m.RoleToAssume, RoleSession: m.RoleSessionName, TokenFile: m.WebIdentityTokenFile,
		CDN: target.CDNConfig{
			Distribution: m.DistributionID, PathPrefix: m.CloudFrontPathPrefix, MaxPaths: cmp.Or(int(m.MaxInvalidationPaths), 100),
			Wait: m.WaitForInvalidation, PublicURL: m.PublicURL,
		},
	}
}
