package service

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

func TestAnIndexerNeedsLess(t *testing.T) {
	c, err := ParseConfig([]byte("mode: indexer\nqueue: sqs://sqs.us-east-1.amazonaws.com/111122223333/my-cache-events\nmirrors:\n  - destination: s3://my-cache/noble\n"))
	if err != nil {
		t.Fatal(err)
	}
	if i := c.indexing(nil); i.Destination != "s3://my-cache/noble" || i.Queue != "sqs://sqs.us-east-1.amazonaws.com/111122223333/my-cache-events" || i.Settle != indexerSettle {
		t.Errorf("%+v", i)
	}
}

// smallest is a configuration with nothing that can be left out.
const smallest = `state_dir: /var/lib/publish
socket: /run/publish.sock
mirrors:
  - source: /srv/buildcache
    destination: file:///srv/mirror
`

func TestTheExampleParses(t *testing.T) {
	c, err := ParseConfig([]byte(Example))
	if err != nil || len(c.Mirrors) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
}

var commented = regexp.MustCompile(`(?m)^( *)#([a-z_]+:|  - |  {2,}[a-z]+:)`)

// Every key is in the example, and what is commented out there is right, too.
func TestTheExampleIsWhole(t *testing.T) {
	keys, licenses := filepath.Join(t.TempDir(), "keys.asc"), filepath.Join(t.TempDir(), "licenses.yaml")
	clitest.Write(t, licenses, "unknown: deny\n")
	armored, err := filepath.Glob(clitest.Root("test/testdata/v3-signed/blobs/sha256/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range armored {
		if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), "-----BEGIN PGP PUBLIC KEY") {
			clitest.Write(t, keys, string(text))
		}
	}
	text := strings.ReplaceAll(commented.ReplaceAllString(Example, "$1$2"), "/etc/slurm-factory-publish/keys.asc", keys)
	text = strings.ReplaceAll(text, "/etc/slurm-factory-publish/licenses.yaml", licenses)
	signKey, passphrase := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "passphrase")
	clitest.Write(t, signKey, string(signtest.Private(t, "release", 0)))
	clitest.Write(t, passphrase, "none is needed")
	text = strings.ReplaceAll(text, "/run/credentials/slurm-factory-publish.service/signing-key", signKey)
	text = strings.ReplaceAll(text, "/run/credentials/slurm-factory-publish.service/signing-passphrase", passphrase)
	text = regexp.MustCompile(`(?m)^.*sign_public_key:.*\n`).ReplaceAllString(text, "") // which goes with another kind of sign_key
	c, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, v := range []any{*c, c.Mirrors[0], c.Bandwidth[0]} {
		s := reflect.ValueOf(v)
		for i := range s.NumField() {
			key := s.Type().Field(i).Tag.Get("yaml")
			if s.Field(i).IsZero() && key != "require_signed" && key != "wait_for_invalidation" && key != "unsafe_single_writer" && key != "resign" && key != "catalog" && key != "sign_public_key" {
				t.Errorf("%T: %s is not in the example", v, key)
			}
		}
	}
}

// What is said to be the default in the example is the default.
func TestDefaults(t *testing.T) {
	for key, want := range map[string]time.Duration{
		"stop_timeout": defaultStop, "stalled_after": defaultStalled, "keep_finished": defaultKeep, "settle": defaultSettle,
		"max_delay": defaultMaxDelay, "scan_interval": defaultScan, "stuck_after": defaultStuck,
	} {
		m := regexp.MustCompile(`#` + key + `: (\S+)`).FindStringSubmatch(Example)
		if got, err := time.ParseDuration(m[1]); err != nil || got != want {
			t.Errorf("%s is %s in the example, and %s", key, m[1], want)
		}
	}
}

// The daemon publishes keys as the command does, unless its configuration says no.
func TestPublishKeys(t *testing.T) {
	for text, noKeys := range map[string]bool{"": false, "    publish_keys: true\n": false, "    publish_keys: false\n": true} {
		c, err := ParseConfig([]byte("state_dir: /var/lib/publish\nsocket: /run/publish.sock\nmirrors:\n  - source: /srv/buildcache\n    destination: file:///srv/mirror\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		o, err := c.Mirrors[0].rules().Options()
		if err != nil || o.Selection.NoKeys != noKeys {
			t.Errorf("%q: no keys: %t, %v", text, o.Selection.NoKeys, err)
		}
	}
}

func TestWrongConfigurations(t *testing.T) {
	for _, row := range []struct{ was, is, want string }{
		{"destination:", "destinaton:", `5:5: unknown key "destinaton"`},
		{"state_dir: /var/lib/publish", "state_dir: var", "1:12: state_dir: want an absolute path"},
		{"socket: /run/publish.sock\n", "", "socket: want an absolute path"},
		{"mirrors:\n", "mirrors: []\nx:\n", `unknown key "x"`},
		{"/srv/buildcache", "buildcache", "4:13: source: want an absolute path of a directory"},
		{"mirrors:", "mirrors:\n  - source: /srv/buildcache\n    destination: file:///srv/mirror", "two mirrors have the name file:///srv/mirror"},
		{"mirrors:", "mirrors:\n  - source: /srv/buildcache/\n    name: other\n    destination: file:///srv/mirror/", "/srv/buildcache is published to file:///srv/mirror already, by mirror 1"},
		{"mirrors:", "stop_timeout: soon\nmirrors:", `3:15: "soon" is no time`},
		{"mirrors:", "listen: 0.0.0.0:80\nmirrors:", `3:9: listen "0.0.0.0:80": 0.0.0.0 is not a loopback address`},
		{"mirrors:", "listen: 80\nmirrors:", "3:9"},
		{"mirrors:", "log_format: xml\nmirrors:", `3:13: log_format "xml"`},
		{"mirrors:", "bandwidth:\n  - limit: much\nmirrors:", `4:12: limit "much"`},
		{"mirrors:", "bandwidth:\n  - limit: 1MB/s\n    days: monday\nmirrors:", `5:11: days "monday"`},
		{"mirrors:", "bandwidth:\n  - limit: 1MB/s\n    hours: 8-18\nmirrors:", `5:12: hours "8-18"`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    if_exists: maybe\n", `6:16: if_exists "maybe"`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    trusted_keys: /nowhere\n", "6:19: trusted_keys: open /nowhere"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key: /nowhere\n", "6:15: sign_key: open /nowhere"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key: kms:alias/release\n", "6:15: sign_key: \"kms:alias/release\": did you mean awskms:///alias/release?"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key: awskms:///alias/release\n", "sign_public_key: an awskms key needs it"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key: awskms:///alias/release\n    sign_public_key: /nowhere\n", "7:22: sign_public_key: open /nowhere"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key: gpg:release\n", "6:15: sign_key: \"gpg:release\": want gpg:FINGERPRINT"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    resign: true\n", "6:13: resign: it needs a private key"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    include: zlib\n", "6:14: string was used where sequence is expected"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    watch: perhaps\n", "6:12: want bool, not string"},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    part_size: big\n", `6:16: "big" is no size`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    part_size: 1MiB\n", `6:16: part_size "1048576": S3 takes parts of 5MiB to 5GiB`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    concurrency: 0\n", `6:18: want a number of at least 1, not 0`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    max_invalidation_paths: 0\n", `6:29: want a number of at least 1, not 0`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    max_invalidation_paths: 3001\n", `6:29: max_invalidation_paths "3001": want 1 to 3000`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sse: rot13\n", `6:10: sse "rot13": want AES256, aws:kms or aws:kms:dsse`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    kms_key_id: k\n", `6:17: kms_key_id: a KMS key needs the encryption aws:kms`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    storage_class: COLD\n", `6:20: storage_class "COLD": it is not one that S3 knows`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    region: eu central\n", `6:13: region "eu central": want letters, digits and hyphens, such as us-east-1`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    distribution_id: d1.cloudfront.net\n", `6:22: distribution_id: `},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    cloudfront_path_prefix: noble\n", `6:29: cloudfront_path_prefix "noble": want a path`},
		{"file:///srv/mirror", "s3://My_Cache/x", `5:18: destination s3://My_Cache/x: "My_Cache" is no name of a bucket`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    settle: -1s\n", `6:13: "-1s" is no time`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    role_to_assume: publisher\n", `6:21: role_to_assume: role "publisher": want arn:aws:iam::`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    role_to_assume: arn:aws:iam::123456789012:role/p\n    role_session_name: a b\n", `7:24: role_session_name: session name "a b"`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key: ''\n", `6:15: it is empty`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign_key:\n", `6:5: sign_key: it has no value`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    sign-passphrase-file: ~\n", `6:5: sign_passphrase_file: it has no value`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    trusted_keys: null\n    region:\n", `6:5: trusted_keys: it has no value`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    require_signed:\n", `6:5: require_signed: it has no value`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    expect_os: [noble, ~]\n", `6:24: an item of a list: it has no value`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    licenses: [a]\n", `want the name of a file`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    web_identity_token_file: /run/token\n", "6:30: web_identity_token_file: it needs a role to assume"},
		{"mirrors:", "mirrors: a: b", "3:"},
		{"mirrors:", "mode: both\nmirrors:", `3:7: mode "both": want publisher or indexer`},
		{"mirrors:", "queue: sqs://sqs.us-east-1.amazonaws.com/111122223333/my-cache-events\nmirrors:", "3:8: queue: it belongs to mode: indexer"},
		{smallest, "mode: indexer\nqueue: nowhere\nmirrors:\n  - destination: s3://bucket\n", "2:8: queue"},
		{smallest, "mode: indexer\nqueue: sqs://sqs.us-east-1.amazonaws.com/111122223333/my-cache-events\nmirrors:\n  - destination: file:///b\n", "only S3 sends events to a queue"},
		{smallest, "mode: indexer\nqueue: sqs://sqs.us-east-1.amazonaws.com/111122223333/my-cache-events\nmirrors:\n  - destination: s3://another\n  - destination: s3://bucket\n", "an indexer has one"},
		{smallest, "", "there are none"},
		{"destination:", "destinaton:", `5:5: unknown key "destinaton", did you mean destination?`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    endpoint-ur: x\n", `6:5: unknown key "endpoint-ur", did you mean endpoint_url?`},
		{"file:///srv/mirror\n", "file:///srv/mirror\n    endpoint-url: x\n", `6:19: endpoint_url: endpoint "x": want http:// or https://`},
		{smallest, "[]", "1:1"},
	} {
		_, err := ParseConfig([]byte(strings.Replace(smallest, row.was, row.is, 1)))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q -> %q: %v, want %s", row.was, row.is, err, row.want)
		}
	}
}

// A key that is misspelt is not said to be missing as well.
func TestAMisspeltKeyIsNotMissing(t *testing.T) {
	_, err := ParseConfig([]byte("state_dir: /var/lib/x\nsockt: /run/publish.sock\nmirrors:\n  - source: /srv/a\n    destination: file:///srv/b\n"))
	if want := `2:1: unknown key "sockt", did you mean socket?`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// All mistakes are named at once, each with its place, whatever kind they are, and nothing that is there is called missing.
func TestAllMistakesOfAConfigurationAtOnce(t *testing.T) {
	_, err := ParseConfig([]byte(`state_dir: var
socket: /run/publish.sock
stop_timeout: soon
log_format: xml
bandwith: []
mirrors:
  - source: srv
    destinaton: file:///srv/mirror
    settle: -1s
    part_size: big
  - source: /srv/b
    destination: [a]
    watch: perhaps
`))
	want := []string{
		`1:12: state_dir: want an absolute path`,
		`3:15: "soon" is no time: want a number with s, m or h, such as 90s`,
		`4:13: log_format "xml": want text or json`,
		`5:1: unknown key "bandwith", did you mean bandwidth?`,
		`7:13: source: want an absolute path of a directory`,
		`8:5: unknown key "destinaton", did you mean destination?`,
		`9:13: "-1s" is no time: want a number with s, m or h, such as 90s`,
		`10:16: "big" is no size: want a number with kB, MB, GB, KiB, MiB or GiB`,
		`12:18: want string, not a list`, `13:12: want bool, not string`,
	}
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestTimetable(t *testing.T) {
	c, err := ParseConfig([]byte(smallest + `bandwidth:
  - {limit: 1MB/s, days: "fri", hours: 22:00-06:00}
  - {limit: 2MB/s, days: "mon-fri", hours: 08:00-18:00}
  - {limit: none, days: "sat-sun"}
  - {limit: 3MB/s}
`))
	if err != nil {
		t.Fatal(err)
	}
	day := func(weekday, clock string) time.Time {
		d := map[string]int{"mon": 2, "fri": 6, "sat": 7, "sun": 8}[weekday]
		at, err := time.Parse("2006-01-02 15:04", fmt.Sprintf("2026-11-%02d %s", d, clock))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, row := range []struct {
		day, clock string
		want       int64
	}{
		{"mon", "08:00", 2e6}, {"mon", "18:00", 3e6}, {"fri", "21:59", 3e6}, {"fri", "22:00", 1e6}, {"sat", "05:59", 1e6}, {"sat", "06:00", 0},
		{"sun", "23:00", 0}, {"sun", "03:00", 0}, {"mon", "03:00", 3e6},
	} {
		if got := limitAt(c.Bandwidth, day(row.day, row.clock)); got != row.want {
			t.Errorf("%s %s: %d, want %d", row.day, row.clock, got, row.want)
		}
	}
	if n := lowest(c.Bandwidth); n != 1e6 {
		t.Errorf("lowest %d", n)
	}
	var p pacing
	if l, least := p.use(nil); l != nil || least != 0 {
		t.Error("a limiter where there is no limit")
	}
	l, _ := p.use(c.Bandwidth)
	if again, _ := p.use(c.Bandwidth[3:]); again != l || l.Limit() != 3e6 {
		t.Errorf("after another timetable: %v", l.Limit())
	}
}

// What a mirror is published with is what its keys say.
func TestKeysAreFlags(t *testing.T) {
	c, err := ParseConfig([]byte(smallest + `    require_signed: true
    include: ["slurm@25.*"]
    layout: v3
    expect_os: [ubuntu24.04]
    if-exists: overwrite
    part_size: 16MiB
    public_url: https://cache.example.org
    settle: 0s
    profile: anywhere
    role_to_assume: arn:aws:iam::123456789012:role/publisher
    web_identity_token_file: /run/token
`))
	if err != nil {
		t.Fatal(err)
	}
	to := c.Mirrors[0].Target()
	o, err := c.Mirrors[0].rules().Options()
	if err != nil || !o.KeepGoing || !o.Trust.RequireSigned || !slices.Equal(o.Selection.Include, []string{"slurm@25.*"}) || o.Selection.Layout != "v3" ||
		o.IfExists != "overwrite" || to.S3.PartSize != 16<<20 || to.CDN.PublicURL == "" || to.CDN.MaxPaths != 100 {
		t.Errorf("%+v, %+v, %v", to, o, err)
	}
	if to.Profile != "anywhere" || to.Role != "arn:aws:iam::123456789012:role/publisher" || to.TokenFile != "/run/token" {
		t.Errorf("%+v", to)
	}
	if c.Mirrors[0].Settle.or(time.Hour) != 0 || c.Mirrors[0].MaxDelay.or(time.Hour) != time.Hour {
		t.Error("a time that is given is not taken, or one that is not")
	}
	other := c.Mirrors[0]
	other.Profile = "another"
	if fingerprint(&other, 0) == fingerprint(&c.Mirrors[0], 0) || fingerprint(&c.Mirrors[0], 1) == fingerprint(&c.Mirrors[0], 0) {
		t.Error("another configuration has the same fingerprint")
	}
	lock := filepath.Join(t.TempDir(), "spack.lock")
	other.Include = []string{"@" + lock}
	before := fingerprint(&other, 0)
	if err := os.WriteFile(lock, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if fingerprint(&other, 0) == before {
		t.Error("another lock file has the same fingerprint")
	}
}

// Metrics and answers have the classes of the table of failures.
func TestFailuresHaveTheClassOfTheTable(t *testing.T) {
	for err, want := range map[error]string{mirror.ErrCredentials: "auth", conflict.ErrUnresolved: "index", mirror.ErrNoBucket: "upload", target.ErrNotVisible: "verify"} {
		class, _ := explain(err)
		if classOf(err) != want || class != want {
			t.Errorf("%v: %q and %q, want %q", err, classOf(err), class, want)
		}
	}
}
