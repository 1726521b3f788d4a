package action

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/former"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
)

// given are inputs of which nothing is wrong.
func given(t testing.TB, more map[string]string) (cli.Env, *workflow.Runner) {
	t.Helper()
	dir := t.TempDir()
	clitest.Write(t, filepath.Join(dir, "keys.asc"), armored(t))
	clitest.Write(t, filepath.Join(dir, "licenses.yaml"), "packages: {deny: [matlab]}\n")
	with := clitest.Variables{
		"GITHUB_WORKSPACE": dir, "GITHUB_RUN_ID": "15112233445", "GITHUB_RUN_ATTEMPT": "2",
		inputVariable("role-to-assume"): "arn:aws:iam::123456789012:role/publisher", inputVariable("path"): "buildcache", inputVariable("destination"): "s3://cache/noble/spack",
	}
	for name, v := range more {
		with[inputVariable(name)] = v
	}
	env := cli.Env{Lookup: with.Lookup, Environ: with.Environ}
	return env, workflow.New(nil, env.Getenv)
}

func armored(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(clitest.Root("test/testdata/keys/one.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each input: what it means when it is not given, what else it takes, and what it refuses.
func TestEachInput(t *testing.T) {
	type good = struct {
		given string
		want  any
	}
	bad := func(all ...string) []string { return all }
	private := string(signtest.Private(t, "release", 0))
	protected, _ := signtest.Protected(t, passphrase, "ed25519")
	_, released := signtest.Protected(t, "", "rsa2048")
	for _, row := range []struct {
		name  string
		of    func(*inputs) any
		def   any
		good  []good
		bad   []string
		alone map[string]string // what must be given with it
	}{
		{"role-to-assume", func(in *inputs) any { return in.role.ARN }, "arn:aws:iam::123456789012:role/publisher", []good{
			{"arn:aws-cn:iam::123456789012:role/a/b/c", "arn:aws-cn:iam::123456789012:role/a/b/c"}, {"  arn:aws-us-gov:iam::123456789012:role/x\n", "arn:aws-us-gov:iam::123456789012:role/x"},
		}, bad("publisher", "arn:aws:iam::1234:role/x", "arn:aws:iam::123456789012:user/x", "arn:aws:iam::123456789012:role/x\ny"), nil},
		{"credentials", func(in *inputs) any { return in.credentials }, "oidc", []good{{"env", "env"}, {"oidc", "oidc"}}, bad("OIDC", "keys"), nil},
		{"region", func(in *inputs) any { return in.target.S3.Region }, "", []good{{"eu-central-1", "eu-central-1"}}, bad("Frankfurt", "eu central"), nil},
		{"audience", func(in *inputs) any { return in.role.Audience }, "", []good{{"sts.amazonaws.com.cn", "sts.amazonaws.com.cn"}}, bad("a b"), nil},
		{"role-session-name", func(in *inputs) any { return in.role.SessionName }, "slurm-factory-publish-15112233445-2", []good{{"nightly", "nightly"}}, bad("a", "a b", strings.Repeat("a", 65)), nil},
		{"role-duration-seconds", func(in *inputs) any { return in.role.Duration }, time.Hour, []good{{"900", 15 * time.Minute}, {"43200", 12 * time.Hour}}, bad("899", "1h", "43201", "-1"), nil},
		{"session-policy", func(in *inputs) any { return in.role.Policy != "" }, true, []good{{"none", false}, {"auto", true}, {`{"Version":"2012-10-17","Statement":[]}`, true}}, bad("narrow", "{}", `{"Statement":"`+strings.Repeat("a", 2048)+`"}`), nil},
		{"allowed-account-ids", func(in *inputs) any { return in.role.AllowedAccounts }, []string(nil), []good{{"123456789012", []string{"123456789012"}}, {"\n 123456789012 \r\n\n210987654321", []string{"123456789012", "210987654321"}}}, bad("1234", "210987654321"), nil},
		{"mask-aws-account-id", func(in *inputs) any { return in.maskAccount }, false, truths, notTruths, nil},
		{"auth-max-attempts", func(in *inputs) any { return in.role.MaxAttempts }, 6, []good{{"1", 1}, {"20", 20}}, bad("0", "21", "many"), nil},

		{"path", func(in *inputs) any { return in.path }, "buildcache", []good{{"/github/workspace/x", "/github/workspace/x"}, {"a b", "a b"}}, bad("a\nb", "a\x00"), nil},
		{"layout", func(in *inputs) any { return in.options.Selection.Layout }, "", []good{{"auto", ""}, {"v2", "v2"}, {"v3", "v3"}}, bad("v4", "V3"), nil},
		{"upstream", func(in *inputs) any { return in.upstream }, []string(nil), []good{{"https://mirror.example.org\ns3://upstream/noble", []string{"https://mirror.example.org", "s3://upstream/noble"}}}, nil, nil},
		{"view", func(in *inputs) any { return in.options.Views }, []string(nil), []good{{"2026-11\nslurm/25.11", []string{"2026-11", "slurm/25.11"}}}, bad("a b", "..", "x__v3"), nil},
		{"include", func(in *inputs) any { return in.options.Selection.Include }, []string(nil), []good{{"slurm@25.*\n/hyibvwk", []string{"slurm@25.*", "/hyibvwk"}}, {"a,b", []string{"a,b"}}}, bad("[", "a@[", "@", "/"), nil},
		{"exclude", func(in *inputs) any { return in.options.Selection.Exclude }, []string(nil), []good{{"cmake", []string{"cmake"}}}, bad("[", "ok\n["), nil},
		{"expect-os", func(in *inputs) any { return in.options.Selection.OS }, []string(nil), []good{{"ubuntu*\n", []string{"ubuntu*"}}}, bad("["), nil},
		{"expect-target", func(in *inputs) any { return in.options.Selection.Target }, []string(nil), []good{{"x86_64*", []string{"x86_64*"}}}, bad("["), nil},
		{"files", func(in *inputs) any { return in.options.Selection.Files }, []string(nil), []good{{"*/*.tar.gz", []string{"*/*.tar.gz"}}}, bad("["), nil},
		{"if-no-specs-found", func(in *inputs) any { return in.ifNone }, "error", []good{{"warn", "warn"}, {"ignore", "ignore"}}, bad("fail"), nil},
		{"require-signed", func(in *inputs) any { return in.options.Trust.RequireSigned }, true, truths, notTruths, nil},
		{"trusted-keys", func(in *inputs) any { return in.options.Trust.Keys != nil }, false, []good{{"keys.asc", true}, {armored(t), true}}, bad("nosuch.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----", "two\nlines"), nil},
		{"sign-key", func(in *inputs) any { return in.options.Sign.Key != nil }, false, []good{{private, true}, {base64.StdEncoding.EncodeToString([]byte(private)), true}}, bad("nosuch.asc", "keys.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----", "two\nlines", "kms:alias/release", "awskms://alias/release", "gpg:release", "gpg:"+strings.Repeat("A", 40)), nil},
		{"sign-public-key", func(in *inputs) any { return in.options.Sign.Key != nil }, false, []good{{released, true}}, bad("nosuch.asc", private, "two\nlines", "../keys.asc"), map[string]string{"sign-key": "awskms:///alias/release"}},
		{"sign-passphrase", func(in *inputs) any { return in.options.Sign.Key != nil }, false, []good{{passphrase, true}}, bad("wrong", passphrase+" "), map[string]string{"sign-key": protected}},
		{"resign", func(in *inputs) any { return in.options.Sign.Resign }, false, []good{{"false", false}}, bad("yes", "true"), nil},
		{"licenses", func(in *inputs) any { return in.options.Licences != nil }, false, []good{{"licenses.yaml", true}, {"unknown: deny", true}}, bad("nosuch.yaml", "unknown: perhaps", "licences: {}"), nil},
		{"verify-source", func(in *inputs) any { return in.options.VerifySource }, false, truths, notTruths, nil},
		{"keep-going", func(in *inputs) any { return in.options.KeepGoing }, false, truths, notTruths, nil},

		{"destination", func(in *inputs) any { return in.destination }, "s3://cache/noble/spack", []good{
			{"s3://cache", "s3://cache"}, {"s3://slurm-cache/compilers/13.4.0/buildcache", "s3://slurm-cache/compilers/13.4.0/buildcache"},
		}, bad("cache", "file:///srv/mirror", "https://cache.example.org", "s3://", "s3://cache/a/../b", "s3://cache?x=1", "s3://cache/{toolchain}", "s3://cache/{os}", "s3://cache/{"), nil},
		{"layout-vars", func(in *inputs) any { return in.destination }, "s3://cache/noble/spack", []good{
			{"toolchain=noble\nslurm = 25.11\ncompiler=13.4.0\narch=amd64", "s3://cache/noble/spack"}, {"compiler=", "s3://cache/noble/spack"},
		}, bad("noble", "os=noble", "arch=a/b", "arch=..", "arch=a b", "arch=a\narch=b"), nil},
		{"public-url", func(in *inputs) any { return in.target.CDN.PublicURL }, "", []good{{"https://cache.example.org/noble", "https://cache.example.org/noble"}}, bad("cache.example.org", "ftp://x"), nil},
		{"if-exists", func(in *inputs) any { return in.options.IfExists }, publish.Skip, []good{{"overwrite", publish.Overwrite}, {"error", publish.Refuse}}, bad("replace"), nil},
		{"index", func(in *inputs) any { return in.options.Index }, publish.IndexMerge, []good{{"rebuild", publish.IndexRebuild}, {"none", publish.IndexNone}}, bad("merged"), nil},
		{"publish-keys", func(in *inputs) any { return !in.options.Selection.NoKeys }, true, truths, notTruths, nil},
		{"cache-control-immutable", func(in *inputs) any { return in.target.Caching.Immutable }, "public, max-age=31536000, immutable", []good{{"public, max-age=60", "public, max-age=60"}}, bad("a\nb"), nil},
		{"cache-control-mutable", func(in *inputs) any { return in.target.Caching.Mutable }, "no-cache", []good{{"max-age=60", "max-age=60"}}, bad("a\nb"), nil},
		{"storage-class", func(in *inputs) any { return in.target.S3.StorageClass }, "", []good{{"INTELLIGENT_TIERING", "INTELLIGENT_TIERING"}}, bad("COLD"), nil},
		{"sse", func(in *inputs) any { return in.target.S3.SSE }, "", []good{{"aws:kms", "aws:kms"}}, bad("kms"), nil},
		{"kms-key-id", func(in *inputs) any { return in.target.S3.KMSKeyID }, "", []good{{"alias/cache", "alias/cache"}}, bad("a\nb"), map[string]string{"sse": "aws:kms"}},
		{"endpoint-url", func(in *inputs) any { return in.target.S3.EndpointURL }, "", []good{{"http://minio:9000", "http://minio:9000"}}, bad("minio:9000", "minio"), nil},
		{"s3-force-path-style", func(in *inputs) any { return in.target.S3.PathStyle }, false, truths, notTruths, nil},
		{"unsafe-single-writer", func(in *inputs) any { return in.target.S3.SingleWriter }, false, truths, notTruths, nil},
		{"concurrency", func(in *inputs) any { return in.target.S3.Concurrency }, 0, []good{{"1", 1}}, bad("0", "x", "1025"), nil},
		{"part-size", func(in *inputs) any { return in.target.S3.PartSize }, int64(8 << 20), []good{{"16MiB", int64(16 << 20)}}, bad("4MiB", "16", "6000GiB", "much"), nil},
		{"limit-rate", func(in *inputs) any { return in.target.S3.LimitRate }, int64(0), []good{{"50MB/s", int64(50e6)}, {"1MiB", int64(1 << 20)}}, bad("fast", "-1"), nil},

		{"distribution-id", func(in *inputs) any { return in.target.CDN.Distribution }, "", []good{{"E2QWRUHAPOMQZL", "E2QWRUHAPOMQZL"}}, bad("d111.cloudfront.net", "e2"), nil},
		{"cloudfront-path-prefix", func(in *inputs) any { return in.target.CDN.PathPrefix }, "", []good{{"/noble", "/noble"}}, bad("noble", "/a?b", "//host/a"), nil},
		{"invalidation-paths", func(in *inputs) any { return in.target.CDN.ExtraPaths }, []string(nil), []good{{"auto", []string(nil)}, {"auto\n/a/*\n/b?c=1", []string{"/a/*", "/b?c=1"}}}, bad("a", "/a b", "/ü", "/"+strings.Repeat("a", 4000)), nil},
		{"max-invalidation-paths", func(in *inputs) any { return in.target.CDN.MaxPaths }, 100, []good{{"3000", 3000}}, bad("0", "3001"), nil},
		{"invalidate-listings", func(in *inputs) any { return slices.Contains(in.target.CDN.ExtraPaths, "/?list-type=2*") }, false, truths, notTruths, nil},
		{"catalog", func(in *inputs) any { return in.catalog }, false, truths, notTruths, nil},
		{"wait-for-invalidation", func(in *inputs) any { return in.target.CDN.Wait }, false, truths, notTruths, nil},
		{"invalidation-timeout", func(in *inputs) any { return in.target.CDN.Patience }, 15 * time.Minute, []good{{"90s", 90 * time.Second}}, bad("90", "-1s"), nil},
		{"on-invalidation-failure", func(in *inputs) any { return in.onInvalidation }, "fail", []good{{"warn", "warn"}}, bad("ignore"), nil},

		{"dry-run", func(in *inputs) any { return in.dryRun }, false, truths, notTruths, nil},
		{"verify-published", func(in *inputs) any { return in.verify }, true, truths, notTruths, nil},
		{"summary", func(in *inputs) any { return in.summary }, true, truths, notTruths, nil},
		{"summary-max-specs", func(in *inputs) any { return in.maxSpecs }, 200, []good{{"0", 0}}, bad("-1", "all"), nil},
		{"report-file", func(in *inputs) any { return in.reportFile }, "", []good{{"out/report.json", "out/report.json"}}, bad("../report.json", "/etc/report.json"), nil},
		{"timeout", func(in *inputs) any { return in.timeout }, time.Duration(0), []good{{"45m", 45 * time.Minute}, {"0", time.Duration(0)}}, bad("45", "soon"), nil},
		{"ca-bundle", func(in *inputs) any { return in.roots != nil }, false, nil, bad("nosuch.pem", "keys.asc"), nil},
		{"command", func(in *inputs) any { return in.command }, []string(nil), []good{{"prune x", []string{"prune", "x"}}}, bad("prune $X", "daemon"), map[string]string{"path": "", "destination": ""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			read := func(text string) (*inputs, error) {
				more := map[string]string{row.name: text}
				for name, v := range row.alone {
					more[name] = v
				}
				return readInputs(given(t, more))
			}
			in, err := readInputs(given(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := row.of(in); !reflect.DeepEqual(got, row.def) {
				t.Errorf("by default it is %#v, want %#v", got, row.def)
			}
			for _, g := range row.good {
				in, err := read(g.given)
				if err != nil {
					t.Errorf("%q: %v", g.given, err)
				} else if got := row.of(in); !reflect.DeepEqual(got, g.want) {
					t.Errorf("%q is %#v, want %#v", g.given, got, g.want)
				}
			}
			for _, text := range row.bad {
				if _, err := read(text); err == nil {
					t.Errorf("%q is taken", text)
				} else if !about(err, row.name) {
					t.Errorf("%q: the message names another input: %v", text, err)
				}
			}
			tested[row.name] = true
		})
	}
	for _, name := range inputNames() {
		if !tested[name] {
			t.Errorf("nothing tests the input %s", name)
		}
	}
}

var (
	tested = map[string]bool{}
	truths = []struct {
		given string
		want  any
	}{{"true", true}, {"True", true}, {"TRUE", true}, {"false", false}, {"False", false}, {"FALSE", false}}
	notTruths = []string{"yes", "on", "1", "tRUE", "no"}
)

// about reports whether an error names an input; a destination may be named for its
// tokens.
func about(err error, name string) bool {
	for _, one := range field.Each(err) {
		var of *inputError
		if errors.As(one, &of) && (of.name == name || name == "allowed-account-ids" && of.name == "role-to-assume") {
			return true
		}
	}
	return false
}

// Whoever has three mistakes in a workflow learns of all three.
func TestAllMistakesAtOnce(t *testing.T) {
	_, err := readInputs(given(t, map[string]string{
		"path": "", "destination": "s3://cache/{toolchian}/{slurm}", "require-signed": "yes", "role-to-assume": "", "part-size": "4MiB", "exclude": "[\n@", "kms-key-id": "x", "timeout": "1",
	}))
	var got []string
	for _, one := range field.Each(err) {
		got = append(got, one.Error())
	}
	want := []string{
		`input exclude: pattern "[": want name, name@version, /hash or @spack.lock` + "\n" + `pattern "@": want name, name@version, /hash or @spack.lock`,
		`input require-signed: "yes": want true or false`,
		`input timeout: "1": want a time such as 90s, 15m or 1h30m`,
		`input path: it is required: the directory of a Spack mirror, or one above several`,
		`input destination: there is no token {toolchian}, did you mean toolchain?; there are {toolchain} {slurm} {compiler} {arch}` + "\n" + `layout-vars has no value for {slurm}: add a line that begins with slurm=`,
		`input part-size: "4194304": S3 takes parts of 5MiB to 5GiB`,
		`input kms-key-id: a KMS key needs the encryption aws:kms, not ""`,
		`input role-to-assume: it is required: the ARN of the role to publish with; or set credentials to env`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What is wrong with path or destination is recognised, and a path that is not there is named with all else.
func TestMistakesOfPlaces(t *testing.T) {
	for _, row := range []struct {
		path, destination string
		want              []string
	}{
		{"mirror/v3", "s3://cache", []string{`input path: "mirror/v3" is the inside of a mirror: give its parent, "DIR/mirror"`}},
		{"s3://cache", "mirror", []string{`input path: "s3://cache" is no directory: are path and destination swapped?`, `input destination: destination mirror: want s3://bucket or s3://bucket/prefix`}},
		{"mirror", "s3:/cache/noble", []string{`input destination: destination s3:/cache/noble: did you mean s3://cache/noble?`}},
		{"mirrors", "gs://cache", []string{`input destination: destination gs://cache: want s3://bucket or s3://bucket/prefix`, `input path: "mirrors" is not there. Of its host, an action in a container sees only github.workspace ("keys.asc" "licenses.yaml" "mirror/")`}},
		{"mirrors", "s3://cache", nil}, // which alone is a mistake of the source
	} {
		env, r := given(t, map[string]string{"path": row.path, "destination": row.destination})
		dir := env.Getenv("GITHUB_WORKSPACE")
		if err := os.CopyFS(filepath.Join(dir, "mirror"), os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
			t.Fatal(err)
		}
		in, err := readInputs(env, r)
		var got []string
		for _, one := range field.Each(err) {
			got = append(got, strings.ReplaceAll(one.Error(), dir, "DIR"))
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s, %s: -want +got:\n%s", row.path, row.destination, diff)
		}
		if (in.missing != nil) != (len(row.want) == 0) {
			t.Errorf("%s, %s: missing: %v", row.path, row.destination, in.missing)
		}
	}
}

func TestDestinationsOfEveryEra(t *testing.T) {
	vars := "toolchain=noble\nslurm=25.11\ncompiler=13.4.0\narch=amd64"
	for destination, want := range map[string]string{
		"s3://a-bucket/{toolchain}/spack":                         "s3://a-bucket/noble/spack",
		"s3://a-bucket/compilers/{compiler}/buildcache":           "s3://a-bucket/compilers/13.4.0/buildcache",
		"s3://a-bucket/slurm/{slurm}/{compiler}/buildcache":       "s3://a-bucket/slurm/25.11/13.4.0/buildcache",
		"s3://a-bucket/{toolchain}/{slurm}/{arch}":                "s3://a-bucket/noble/25.11/amd64",
		"s3://a-bucket/noble/spack/":                              "s3://a-bucket/noble/spack/",
		"s3://a-bucket/{toolchain}-{arch}/{toolchain}/buildcache": "s3://a-bucket/noble-amd64/noble/buildcache",
	} {
		in, err := readInputs(given(t, map[string]string{"destination": destination, "layout-vars": vars}))
		if err != nil || in.destination != want {
			t.Errorf("%s becomes %s, want %s: %v", destination, in.destination, want, err)
		}
	}
}

// A misspelt input is one that is not there, so somebody must say so.
func TestUnknownInputs(t *testing.T) {
	env, _ := given(t, map[string]string{"distribution": "x", "s3-endpoint": "x", "role_to_assume": "x", "args": "", "entrypoint": "", "colour": "x", "require-sign": "true"})
	got := unknownInputs(env.Environ())
	want := []string{
		`"colour" is no input of this action`,
		`"distribution" is no input of this action, did you mean distribution-id?`,
		`"require-sign" is no input of this action, did you mean require-signed?`,
		`"role_to_assume" is no input of this action, did you mean role-to-assume?`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What sets the same as a flag is called like it, and a former name is none of today's.
func TestInputsAreCalledLikeFlags(t *testing.T) {
	fs := pflag.NewFlagSet("publish", pflag.ContinueOnError)
	cli.StorageFlags(fs, &target.Config{})
	cli.CDNFlags(fs, &target.CDNConfig{})
	signing.Flags(fs, &signing.Config{})
	for _, old := range former.Names {
		if slices.Contains(inputNames(), old.Name) || !slices.Contains(inputNames(), old.Now) {
			t.Errorf("%s -> %s", old.Name, old.Now)
		}
		if fs.Lookup(old.Now) == nil && old.Now != "sign-passphrase" {
			t.Errorf("%s is no flag", old.Now)
		}
	}
}

// A former name is read as the one of today, and said to be one; both at once are refused.
func TestFormerNamesOfInputs(t *testing.T) {
	env, r := given(t, map[string]string{"aws-region": "eu-central-1", "s3-endpoint": "http://minio:9000", "part-size-mib": "16", "cloudfront-distribution-id": "E2QWRUHAPOMQZL"})
	in, err := readInputs(env, r)
	if err != nil {
		t.Fatal(err)
	}
	if in.target.S3.Region != "eu-central-1" || in.target.S3.EndpointURL != "http://minio:9000" || in.target.S3.PartSize != 16<<20 || in.target.CDN.Distribution != "E2QWRUHAPOMQZL" {
		t.Errorf("%+v", in.target)
	}
	want := []string{
		"input aws-region is deprecated: it is called region now",
		"input s3-endpoint is deprecated: it is called endpoint-url now",
		"input part-size-mib is deprecated: it is called part-size now",
		"input cloudfront-distribution-id is deprecated: it is called distribution-id now",
	}
	if diff := cmp.Diff(want, in.deprecated); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, err = readInputs(given(t, map[string]string{"aws-region": "eu-central-1", "region": "eu-west-1"}))
	if err == nil || !strings.HasPrefix(err.Error(), "input region: aws-region, its former name, is given, too: want one\n") {
		t.Errorf("both: %v", err)
	}
}

func TestShownInputs(t *testing.T) {
	env, r := given(t, map[string]string{"trusted-keys": armored(t), "include": "a\nb"})
	in, err := readInputs(env, r)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(in.settings)
	if strings.Contains(text, "BEGIN PGP") || !strings.Contains(text, "{trusted-keys set input}") || !strings.Contains(text, "{include a b input}") || !strings.Contains(text, "{index merge default}") {
		t.Error(text)
	}
}
