package action

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/gpg"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/former"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/signing"
)

// inputs are the inputs of the action in a workflow.
type inputs struct {
	target  target.Config
	rules   cli.Rules
	dryRun  bool
	timeout time.Duration

	command           []string // command to run instead of publishing; empty: none
	path, destination string
	source            string // the directory that path names
	missing           error  // why the directory is missing
	layout            string
	vars              []string
	upstream          []string
	trustedKeys       string
	licences          string // rules, or the path of a file with rules
	signing           signing.Config
	signingKMS        kms.Name    // the key that signs, if it is in a KMS
	aws               *aws.Config // with the credentials of the step; nil until they are known
	ifNone            string      // what to do about a source without packages

	credentials   string
	role          session.Role
	sessionPolicy string
	maskAccount   bool

	summary        bool
	maxSpecs       int
	reportFile     string
	onInvalidation string // what to do about a failed invalidation

	invalidationPaths  []string
	invalidateListings bool
	caBundle           string
	roots              *x509.CertPool // nil: those of the system
	verify             bool           // read back what was published
	catalog            bool           // keep the pages of mirrors up to date

	options  publish.Options
	settings []cli.Setting

	deprecated []string // messages about used former names
}

// An input is one input of action.yml, which has the same default and explains it.
type input struct {
	name string
	// def is the value of an input that is not given or empty.
	def   string
	value func(in *inputs) value
}

// The kinds of credentials.
const (
	oidcCredentials = "oidc"
	envCredentials  = "env"
)

// theInputs is in the order of action.yml.
var theInputs = []input{
	{"command", "", func(in *inputs) value { return words(&in.command) }},

	{"role-to-assume", "", func(in *inputs) value { return text(&in.role.ARN) }},
	{"credentials", oidcCredentials, func(in *inputs) value { return choice(&in.credentials, oidcCredentials, envCredentials) }},
	{"region", "", func(in *inputs) value { return text(&in.target.S3.Region, isRegion) }},
	{"audience", "", func(in *inputs) value { return text(&in.role.Audience) }},
	{"role-session-name", "", func(in *inputs) value { return text(&in.role.SessionName) }},
	{"role-duration-seconds", "3600", func(in *inputs) value {
		return number(900, 43200, func(n int) { in.role.Duration = time.Duration(n) * time.Second })
	}},
	{"session-policy", "auto", func(in *inputs) value { return block(&in.sessionPolicy) }},
	{"allowed-account-ids", "", func(in *inputs) value { return lines(&in.role.AllowedAccounts) }},
	{"mask-aws-account-id", "false", func(in *inputs) value { return truth(&in.maskAccount) }},
	{"auth-max-attempts", "6", func(in *inputs) value { return number(1, 20, into(&in.role.MaxAttempts)) }},

	{"path", "", func(in *inputs) value { return text(&in.path) }},
	{"layout", "auto", func(in *inputs) value {
		return choice(&in.layout, append([]string{"auto"}, buildcache.LayoutNames()...)...)
	}},
	{"include", "", func(in *inputs) value { return lines(&in.rules.Selection.Include, oneLine, isPattern) }},
	{"exclude", "", func(in *inputs) value { return lines(&in.rules.Selection.Exclude, oneLine, isPattern) }},
	{"expect-os", "", func(in *inputs) value { return lines(&in.rules.Selection.OS, oneLine, isGlob) }},
	{"expect-target", "", func(in *inputs) value { return lines(&in.rules.Selection.Target, oneLine, isGlob) }},
	{"files", "", func(in *inputs) value { return lines(&in.rules.Selection.Files, oneLine, isGlob) }},
	{"if-no-specs-found", "error", func(in *inputs) value { return choice(&in.ifNone, "error", "warn", "ignore") }},
	{"require-signed", "true", func(in *inputs) value { return truth(&in.rules.RequireSigned) }},
	{"trusted-keys", "", func(in *inputs) value { return block(&in.trustedKeys) }},
	{"sign-key", "", func(in *inputs) value { return block(&in.signing.KeyText) }},
	{"sign-public-key", "", func(in *inputs) value { return block(&in.signing.PublicText) }},
	{"sign-passphrase", "", func(in *inputs) value { return block(&in.signing.Passphrase) }},
	{"resign", "false", func(in *inputs) value { return truth(&in.signing.Resign) }},
	{"licenses", "", func(in *inputs) value { return block(&in.licences) }},
	{"verify-source", "false", func(in *inputs) value { return truth(&in.rules.VerifySource) }},
	{"keep-going", "false", func(in *inputs) value { return truth(&in.rules.KeepGoing) }},

	{"destination", "", func(in *inputs) value { return text(&in.destination) }},
	{"layout-vars", "", func(in *inputs) value { return lines(&in.vars, oneLine) }},
	{"public-url", "", func(in *inputs) value { return text(&in.target.CDN.PublicURL) }},
	{"if-exists", string(publish.Skip), func(in *inputs) value {
		return choice(&in.rules.IfExists, string(publish.Skip), string(publish.Overwrite), cli.OverwriteSigned, string(publish.Refuse))
	}},
	{"index", string(publish.IndexMerge), func(in *inputs) value {
		return choice(&in.rules.Index, string(publish.IndexMerge), string(publish.IndexRebuild), string(publish.IndexNone))
	}},
	{"view", "", func(in *inputs) value { return lines(&in.rules.Views, oneLine, layout.CheckView) }},
	{"upstream", "", func(in *inputs) value { return lines(&in.upstream, oneLine) }},
	{"publish-keys", "true", func(in *inputs) value { return truth(&in.rules.PublishKeys) }},
	{"cache-control-immutable", layout.Immutable, func(in *inputs) value { return text(&in.target.Caching.Immutable) }},
	{"cache-control-mutable", layout.Revalidate, func(in *inputs) value { return text(&in.target.Caching.Mutable) }},
	{"storage-class", "", func(in *inputs) value { return text(&in.target.S3.StorageClass) }},
	{"sse", "", func(in *inputs) value { return text(&in.target.S3.SSE) }},
	{"kms-key-id", "", func(in *inputs) value { return text(&in.target.S3.KMSKeyID) }},
	{"endpoint-url", "", func(in *inputs) value { return text(&in.target.S3.EndpointURL) }},
	{"s3-force-path-style", "false", func(in *inputs) value { return truth(&in.target.S3.PathStyle) }},
	{"unsafe-single-writer", "false", func(in *inputs) value { return truth(&in.target.S3.SingleWriter) }},
	{"concurrency", "", func(in *inputs) value { return optional(number(1, 1024, into(&in.target.S3.Concurrency))) }},
	{"part-size", "8MiB", func(in *inputs) value { return quantity.Bytes(&in.target.S3.PartSize).Set }},
	{"limit-rate", "", func(in *inputs) value { return optional(rate(&in.target.S3.LimitRate)) }},

	{"catalog", "false", func(in *inputs) value { return truth(&in.catalog) }},

	{"distribution-id", "", func(in *inputs) value { return text(&in.target.CDN.Distribution) }},
	{"cloudfront-path-prefix", "", func(in *inputs) value { return text(&in.target.CDN.PathPrefix) }},
	{"invalidation-paths", "auto", func(in *inputs) value { return lines(&in.invalidationPaths, oneLine) }},
	{"max-invalidation-paths", "100", func(in *inputs) value { return number(1, 3000, into(&in.target.CDN.MaxPaths)) }},
	{"invalidate-listings", "false", func(in *inputs) value { return truth(&in.invalidateListings) }},
	{"wait-for-invalidation", "false", func(in *inputs) value { return truth(&in.target.CDN.Wait) }},
	{"invalidation-timeout", "15m", func(in *inputs) value { return span(&in.target.CDN.Patience) }},
	{"on-invalidation-failure", "fail", func(in *inputs) value { return choice(&in.onInvalidation, "fail", "warn") }},

	{"dry-run", "false", func(in *inputs) value { return truth(&in.dryRun) }},
	{"verify-published", "true", func(in *inputs) value { return truth(&in.verify) }},
	{"summary", "true", func(in *inputs) value { return truth(&in.summary) }},
	{"summary-max-specs", "200", func(in *inputs) value { return number(0, 100000, into(&in.maxSpecs)) }},
	{"report-file", "", func(in *inputs) value { return text(&in.reportFile) }},
	{"timeout", "0", func(in *inputs) value { return span(&in.timeout) }},
	{"ca-bundle", "", func(in *inputs) value { return text(&in.caBundle) }},
}

// urls are the inputs that can be URLs, and so can hold a password.
var urls = []string{"path", "destination", "upstream", "public-url", "endpoint-url"}

// secretInputs are those that hold secrets. GitHub masks them if they come from its secrets.
var secretInputs = []string{"sign-key", "sign-passphrase"}

// Inputs that every action has, whatever its action.yml says.
var everybodysInputs = []string{"entrypoint", "args"}

// Inputs returns the names of all inputs, in the order of action.yml.
func Inputs() []string { return inputNames() }

func inputNames() []string {
	names := make([]string, len(theInputs))
	for i, d := range theInputs {
		names[i] = d.name
	}
	return names
}

// inputOf returns the input of a setting: the one of the same name, except that the passphrase is not in a file
// here.
func inputOf(setting string) string {
	if setting == "sign-passphrase-file" {
		return "sign-passphrase"
	}
	return setting
}

// An inputError says what is wrong with one input.
type inputError struct {
	name string
	err  error
}

func (e *inputError) Error() string { return fmt.Sprintf("input %s: %v", e.name, e.err) }
func (e *inputError) Unwrap() error { return e.err }

// refusals are all mistakes in the inputs.
type refusals []error

func (all *refusals) refuse(name string, err error) {
	if err != nil {
		*all = append(*all, &inputError{name, err})
	}
}

// about reports whether an input has been refused already.
func (all refusals) about(name string) bool {
	return slices.ContainsFunc(all, func(err error) bool {
		var of *inputError
		return errors.As(err, &of) && of.name == name
	})
}

// inputVariable returns the variable in which GitHub passes an input to a container. Hyphens stay.
func inputVariable(name string) string { return "INPUT_" + strings.ToUpper(name) }

// readInputs reads all inputs. Its error holds all mistakes in them.
func readInputs(env cli.Env, r *workflow.Runner) (*inputs, error) {
	in := &inputs{summary: true}
	var wrong refusals
	for _, d := range theInputs {
		given, old, err := former.Look(func(name string) string { return env.Getenv(inputVariable(name)) }, d.name)
		wrong.refuse(d.name, err)
		if old != nil {
			in.deprecated = append(in.deprecated, old.Advice())
		}
		if slices.Contains(secretInputs, d.name) {
			if !(kms.Named(given) || gpg.Named(given)) { // these are names
				r.Mask(given)
			}
		}
		if d.name != "sign-passphrase" { // every character of it counts
			given = strings.TrimSpace(given)
		}
		from := "input"
		if given == "" || given == d.def {
			given, from = d.def, "default"
		}
		wrong.refuse(d.name, d.value(in)(given))
		if slices.Contains(urls, d.name) {
			for _, secret := range redact.Secrets(given) {
				r.Mask(secret)
			}
		}
		if given != "" {
			in.settings = append(in.settings, cli.SettingOf(d.name, shown(d.name, given), from))
		}
	}
	if len(in.command) > 0 {
		in.completeCommand(env, r, &wrong)
	} else {
		in.complete(env, r, &wrong)
	}
	return in, errors.Join(wrong...)
}

// shown returns an input for a log or a report: on one line.
func shown(name, given string) string {
	if name == "trusted-keys" || name == "sign-public-key" || slices.Contains(secretInputs, name) {
		return "set"
	}
	return strings.Join(strings.Fields(given), " ")
}

// complete sets what depends on more than one input, or on the surroundings.
func (in *inputs) complete(env cli.Env, r *workflow.Runner, wrong *refusals) {
	var missing error
	in.source, missing = r.Directory(in.path)
	switch parent := cli.InsideOf(in.source); {
	case in.path == "":
		wrong.refuse("path", errors.New("it is required: the directory of a Spack mirror, or one above several"))
	case strings.HasPrefix(in.path, "s3://"):
		wrong.refuse("path", fmt.Errorf("%q is no directory: are path and destination swapped?", redact.URL(in.path)))
	case parent != "":
		wrong.refuse("path", fmt.Errorf("%q is the inside of a mirror: give its parent, %q", in.path, r.There(parent)))
	}
	if in.destination == "" {
		wrong.refuse("destination", errors.New("it is required: s3://bucket/prefix"))
	} else if where, err := fill(in.destination, in.vars); err != nil {
		wrong.refuse("destination", err)
	} else if _, _, err := target.BucketAndPrefix(where); err != nil {
		wrong.refuse("destination", err)
	} else {
		in.destination = where
	}
	in.destination = redact.URL(in.destination) // it has a password only if it was refused
	wrong.refuse("layout-vars", checkVars(in.vars))
	if in.reportFile != "" {
		_, err := r.File(in.reportFile)
		wrong.refuse("report-file", err)
	}
	if in.layout != "auto" {
		in.rules.Selection.Layout = in.layout
	}
	in.target.CDN.ExtraPaths = in.invalidate(wrong)
	var err error
	if in.caBundle != "" {
		in.roots, err = readRoots(in.caBundle, r)
		wrong.refuse("ca-bundle", err)
	}
	in.options, err = in.rules.Options()
	for _, one := range field.Each(errors.Join(err, in.target.ValidateAt(in.destination))) {
		if !wrong.about(field.Name(one)) { // values that do not parse, and patterns, are refused already
			wrong.refuse(field.Name(one), one)
		}
	}
	if in.options.Trust.Keys, err = trusted(in.trustedKeys, r); err != nil {
		wrong.refuse("trusted-keys", err)
	}
	if in.options.Licences, err = licences(in.licences, r); err != nil {
		wrong.refuse("licenses", err)
	}
	in.completeSigning(r, wrong)
	in.completeRole(env, r, wrong)
	if len(*wrong) == 0 {
		in.missing = missing // with another exit code
	} else if !wrong.about("path") {
		wrong.refuse("path", missing)
	}
}

// maxKeyPath is longer than any usual path, and shorter than any key.
const maxKeyPath = 200

// completeSigning reads the private key: the input itself, or the file that it names. The secrets are not kept.
func (in *inputs) completeSigning(r *workflow.Runner, wrong *refusals) {
	s := in.signing
	in.signing = signing.Config{}
	s.AWS = func(ctx context.Context) (aws.Config, error) {
		return in.target.AWSConfig(ctx, target.Environment{AWS: in.aws, Roots: in.roots})
	}
	var err error
	if s.PublicText, err = keyText(s.PublicText, r); err != nil {
		wrong.refuse("sign-public-key", err)
		return
	}
	switch {
	case kms.Named(s.KeyText), gpg.Named(s.KeyText):
		s.Key, s.KeyText = s.KeyText, ""
		in.signingKMS, _ = kms.Parse(s.Key)
	case s.KeyText != "" && len(s.KeyText) < maxKeyPath && oneLine(s.KeyText) == nil:
		content, err := r.Read(s.KeyText)
		if err != nil {
			wrong.refuse("sign-key", errors.New("it is neither a private key nor the path of a file with one: set it to a secret with the output of gpg --armor --export-secret-keys"))
			return
		}
		r.Mask(string(content))
		s.KeyText = string(content)
	}
	in.options.Sign, err = s.Open(in.options.Trust)
	switch {
	case errors.Is(err, sign.ErrPassphrase), errors.Is(err, sign.ErrNoPassphrase):
		wrong.refuse("sign-passphrase", err)
	case err != nil:
		wrong.refuse(field.Name(err), err)
	}
}

func (in *inputs) completeRole(env cli.Env, r *workflow.Runner, wrong *refusals) {
	if in.credentials != oidcCredentials {
		return
	}
	if in.role.ARN == "" {
		wrong.refuse("role-to-assume", errors.New("it is required: the ARN of the role to publish with; or set credentials to env"))
		return
	}
	if in.role.SessionName == "" {
		in.role.SessionName = sessionName(env)
	}
	in.role.Secret = r.Mask
	in.role.Token = &session.GitHub{Getenv: env.Getenv}
	bucket, prefix, _ := target.BucketAndPrefix(in.destination)
	switch in.sessionPolicy {
	case "none":
	case "auto":
		in.role.Policy = session.SessionPolicy(in.role.Scope(session.Scope{
			Bucket: bucket, Prefix: prefix, ReadOnly: in.dryRun,
			Distribution: in.target.CDN.Distribution, KMSKey: in.target.S3.KMSKeyID,
			SigningKey: in.signingKMS.ID,
			NoKMS:      in.target.S3.Foreign() && in.target.S3.KMSKeyID == "",
		}))
	default:
		in.role.Policy = in.sessionPolicy
	}
	for _, one := range field.Each(in.role.Validate()) {
		wrong.refuse(field.Name(one), one)
	}
}

// sessionName is the name of the session in CloudTrail: it leads to the run.
func sessionName(env cli.Env) string {
	return target.SessionName("slurm-factory-publish", env.Getenv("GITHUB_RUN_ID"), env.Getenv("GITHUB_RUN_ATTEMPT"))
}

// unknownInputs returns an error for each given input that the action does not have: a misspelt input would be
// ignored.
func unknownInputs(environ []string) []string {
	var unknown []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		name, ok := strings.CutPrefix(name, "INPUT_")
		name = strings.ToLower(name)
		if !ok || slices.Contains(inputNames(), name) || slices.Contains(everybodysInputs, name) || former.Is(name) {
			continue
		}
		unknown = append(unknown, fmt.Sprintf("%q is no input of this action%s", name, nearest.DidYouMean(name, inputNames())))
	}
	slices.Sort(unknown)
	return unknown
}

// listings is the request of pages that list the bucket through CloudFront.
const listings = "/?list-type=2*"

// invalidate returns the paths to invalidate besides those of changed objects.
func (in *inputs) invalidate(wrong *refusals) []string {
	var extra []string
	for _, p := range in.invalidationPaths {
		if p == "auto" {
			continue
		}
		if len(p) > cloudfront.LongestPath || !strings.HasPrefix(p, "/") || strings.ContainsFunc(p, func(c rune) bool { return c <= ' ' || c > '~' }) {
			wrong.refuse("invalidation-paths", fmt.Errorf("%q: want auto, or a path such as /noble/index.html, encoded as in a URL", p))
		}
		extra = append(extra, p)
	}
	if in.invalidateListings {
		extra = append(extra, listings)
	}
	return extra
}

var region = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func isRegion(s string) error {
	if !region.MatchString(s) {
		return fmt.Errorf("%q: want a region such as us-east-1", s)
	}
	return nil
}

func isPattern(s string) error { return source.Selection{Include: []string{s}}.Validate() }
func isGlob(s string) error    { return source.Selection{OS: []string{s}}.Validate() }
