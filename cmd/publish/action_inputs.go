package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// inputs are what a workflow gives the action. Whatever publish has a flag for goes into
// its flags.
type inputs struct {
	flags flags

	path, destination string
	layout            string
	vars              []string
	trustedKeys       string
	ifNone            string // what becomes of a source without packages

	credentials   string
	role          session.Role
	sessionPolicy string
	maskAccount   bool

	summary        bool
	maxSpecs       int
	reportFile     string
	onInvalidation string // what becomes of an invalidation that fails

	invalidationPaths  []string
	invalidateListings bool
	caBundle           string
	roots              *x509.CertPool // nil: those of the system
	verify             bool           // read back what was published

	options  publish.Options
	settings []cli.Setting
}

// An input is one of action.yml, which says the same default and explains it.
type input struct {
	name string
	// def is what an input means that is not given or empty.
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
	{"role-to-assume", "", func(in *inputs) value { return text(&in.role.ARN) }},
	{"credentials", oidcCredentials, func(in *inputs) value { return choice(&in.credentials, oidcCredentials, envCredentials) }},
	{"aws-region", "", func(in *inputs) value { return text(&in.flags.storage.s3.Region, isRegion) }},
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
	{"layout", "auto", func(in *inputs) value { return choice(&in.layout, "auto", "v3", "v2") }},
	{"include", "", func(in *inputs) value { return lines(&in.flags.selection.Include, oneLine, isPattern) }},
	{"exclude", "", func(in *inputs) value { return lines(&in.flags.selection.Exclude, oneLine, isPattern) }},
	{"expect-os", "", func(in *inputs) value { return lines(&in.flags.selection.OS, oneLine, isGlob) }},
	{"expect-target", "", func(in *inputs) value { return lines(&in.flags.selection.Target, oneLine, isGlob) }},
	{"files", "", func(in *inputs) value { return lines(&in.flags.selection.Files, oneLine, isGlob) }},
	{"if-no-specs-found", "error", func(in *inputs) value { return choice(&in.ifNone, "error", "warn", "ignore") }},
	{"require-signed", "true", func(in *inputs) value { return truth(&in.flags.requireSigned) }},
	{"trusted-keys", "", func(in *inputs) value { return block(&in.trustedKeys) }},
	{"verify-source", "false", func(in *inputs) value { return truth(&in.flags.verifySource) }},
	{"keep-going", "false", func(in *inputs) value { return truth(&in.flags.keepGoing) }},

	{"destination", "", func(in *inputs) value { return text(&in.destination) }},
	{"layout-vars", "", func(in *inputs) value { return lines(&in.vars, oneLine) }},
	{"public-url", "", func(in *inputs) value { return text(&in.flags.cdn.publicURL, isPublicURL) }},
	{"if-exists", string(publish.Skip), func(in *inputs) value {
		return choice(&in.flags.ifExists, string(publish.Skip), string(publish.Overwrite), string(publish.Refuse))
	}},
	{"index", string(publish.IndexMerge), func(in *inputs) value {
		return choice(&in.flags.index, string(publish.IndexMerge), string(publish.IndexRebuild), string(publish.IndexNone))
	}},
	{"publish-keys", "true", func(in *inputs) value { return truth(&in.flags.publishKeys) }},
	{"cache-control-immutable", layout.Immutable, func(in *inputs) value { return text(&in.flags.storage.caching.immutable) }},
	{"cache-control-mutable", layout.Revalidate, func(in *inputs) value { return text(&in.flags.storage.caching.mutable) }},
	{"storage-class", "", func(in *inputs) value {
		return text(&in.flags.storage.s3.StorageClass, func(s string) error { return s3.Options{StorageClass: s}.Validate() })
	}},
	{"sse", "", func(in *inputs) value {
		return text(&in.flags.storage.s3.SSE, func(s string) error { return s3.Options{SSE: s}.Validate() })
	}},
	{"kms-key-id", "", func(in *inputs) value { return text(&in.flags.storage.s3.KMSKeyID) }},
	{"s3-endpoint", "", func(in *inputs) value {
		return text(&in.flags.storage.s3.EndpointURL, func(s string) error { return s3.Options{EndpointURL: s}.Validate() })
	}},
	{"s3-force-path-style", "false", func(in *inputs) value { return truth(&in.flags.storage.s3.PathStyle) }},
	{"unsafe-single-writer", "false", func(in *inputs) value { return truth(&in.flags.storage.s3.SingleWriter) }},
	{"concurrency", "", func(in *inputs) value { return optional(number(1, 1024, into(&in.flags.storage.s3.Concurrency))) }},
	{"part-size-mib", "8", func(in *inputs) value {
		return number(5, 5120, func(n int) { in.flags.storage.s3.PartSize = int64(n) << 20 })
	}},
	{"limit-rate", "", func(in *inputs) value { return optional(rate(&in.flags.storage.s3.LimitRate)) }},

	{"cloudfront-distribution-id", "", func(in *inputs) value { return text(&in.flags.cdn.distribution, isDistribution) }},
	{"cloudfront-path-prefix", "", func(in *inputs) value { return text(&in.flags.cdn.pathPrefix, isPathPrefix) }},
	{"invalidation-paths", "auto", func(in *inputs) value { return lines(&in.invalidationPaths, oneLine) }},
	{"max-invalidation-paths", "100", func(in *inputs) value { return number(1, 3000, into(&in.flags.cdn.maxPaths)) }},
	{"invalidate-listings", "false", func(in *inputs) value { return truth(&in.invalidateListings) }},
	{"wait-for-invalidation", "false", func(in *inputs) value { return truth(&in.flags.cdn.wait) }},
	{"invalidation-timeout", "15m", func(in *inputs) value { return span(&in.flags.cdn.patience) }},
	{"on-invalidation-failure", "fail", func(in *inputs) value { return choice(&in.onInvalidation, "fail", "warn") }},

	{"dry-run", "false", func(in *inputs) value { return truth(&in.flags.dryRun) }},
	{"verify-published", "true", func(in *inputs) value { return truth(&in.verify) }},
	{"summary", "true", func(in *inputs) value { return truth(&in.summary) }},
	{"summary-max-specs", "200", func(in *inputs) value { return number(0, 100000, into(&in.maxSpecs)) }},
	{"report-file", "", func(in *inputs) value { return text(&in.reportFile) }},
	{"timeout", "0", func(in *inputs) value { return span(&in.flags.timeout) }},
	{"ca-bundle", "", func(in *inputs) value { return text(&in.caBundle) }},
}

// urls are the inputs that can be URLs, and so can hold a password.
var urls = []string{"path", "destination", "public-url", "s3-endpoint"}

// Inputs that any action may be given, whatever its action.yml says.
var everybodysInputs = []string{"entrypoint", "args"}

func inputNames() []string {
	names := make([]string, len(theInputs))
	for i, d := range theInputs {
		names[i] = d.name
	}
	return names
}

// inputOf are the inputs whose names differ from those of the flags that they set.
var inputOf = map[string]string{
	"distribution-id": "cloudfront-distribution-id",
	"endpoint-url":    "s3-endpoint",
	"part-size":       "part-size-mib",
	"region":          "aws-region",
}

var flagInText = regexp.MustCompile(`--([a-z][a-z-]*)`)

// inputWords says in the words of a workflow what names flags.
func inputWords(s string) string {
	return flagInText.ReplaceAllStringFunc(s, func(flag string) string {
		name := flag[2:]
		if other, ok := inputOf[name]; ok {
			name = other
		}
		if !slices.Contains(inputNames(), name) {
			return flag
		}
		return name
	})
}

// An inputError says what is wrong with one input.
type inputError struct {
	name string
	err  error
}

func (e *inputError) Error() string { return fmt.Sprintf("input %s: %v", e.name, e.err) }
func (e *inputError) Unwrap() error { return e.err }

// refusals are all that is wrong with the inputs.
type refusals []error

func (all *refusals) refuse(name string, err error) {
	if err != nil {
		*all = append(*all, &inputError{name, err})
	}
}

// inputVariable is how GitHub hands an input to a container. Hyphens stay.
func inputVariable(name string) string { return "INPUT_" + strings.ToUpper(name) }

// readInputs reads all inputs, and reports all that is wrong with them at once.
func readInputs(env cli.Env, r *workflow.Runner) (*inputs, error) {
	in := &inputs{summary: true}
	var wrong refusals
	for _, d := range theInputs {
		given, _ := env.Lookup(inputVariable(d.name))
		given = strings.TrimSpace(given)
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
	in.complete(env, r, &wrong)
	return in, errors.Join(wrong...)
}

// shown is an input as a log and a report have it: on one line.
func shown(name, given string) string {
	if name == "trusted-keys" {
		return "set"
	}
	return strings.Join(strings.Fields(given), " ")
}

// complete settles what depends on more than one input, or on where we are.
func (in *inputs) complete(env cli.Env, r *workflow.Runner, wrong *refusals) {
	if in.path == "" {
		wrong.refuse("path", errors.New("it is required: the directory of a Spack mirror, or one above several"))
	}
	if in.destination == "" {
		wrong.refuse("destination", errors.New("it is required: s3://bucket/prefix"))
	} else if where, err := fill(in.destination, in.vars); err != nil {
		wrong.refuse("destination", err)
	} else if _, _, err := bucketAndPrefix(where); err != nil {
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
	if o := in.flags.storage.s3; o.KMSKeyID != "" {
		wrong.refuse("kms-key-id", s3.Options{SSE: o.SSE, KMSKeyID: o.KMSKeyID}.Validate())
	}
	if in.layout != "auto" {
		in.flags.selection.Layout = in.layout
	}
	in.flags.cdn.extra = in.invalidate(wrong)
	var err error
	if in.caBundle != "" {
		in.roots, err = readRoots(in.caBundle, r)
		wrong.refuse("ca-bundle", err)
	}
	if in.options, err = in.flags.options(); len(*wrong) == 0 {
		wrong.refuse("options", err) // what it finds has been found, input by input; if not, this is a defect
	}
	if in.options.Trust.Keys, err = trusted(in.trustedKeys, r); err != nil {
		wrong.refuse("trusted-keys", err)
	}
	in.completeRole(env, r, wrong)
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
	bucket, prefix, _ := bucketAndPrefix(in.destination)
	switch in.sessionPolicy {
	case "none":
	case "auto":
		in.role.Policy = session.SessionPolicy(in.role.Scope(session.Scope{
			Bucket: bucket, Prefix: prefix, ReadOnly: in.flags.dryRun,
			Distribution: in.flags.cdn.distribution, KMSKey: in.flags.storage.s3.KMSKeyID,
			NoKMS: in.flags.storage.s3.Foreign() && in.flags.storage.s3.KMSKeyID == "",
		}))
	default:
		in.role.Policy = in.sessionPolicy
	}
	for _, one := range split(in.role.Validate()) {
		wrong.refuse(roleInput(one), one)
	}
}

// split returns the errors that were joined.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, one := range many.Unwrap() {
			all = append(all, split(one)...)
		}
		return all
	}
	return []error{err}
}

// roleInput is the input that an error of a role is about.
func roleInput(err error) string {
	for begins, name := range map[string]string{
		"session name": "role-session-name", "session policy": "session-policy", "session of": "role-duration-seconds",
		"audience": "audience", "account id": "allowed-account-ids",
	} {
		if strings.HasPrefix(err.Error(), begins) {
			return name
		}
	}
	return "role-to-assume"
}

var notInSessionName = regexp.MustCompile(`[^\w+=,.@-]`)

// sessionName is what CloudTrail calls us: it leads to the run.
func sessionName(env cli.Env) string {
	return nameOfSession("slurm-factory-publish", env.Getenv("GITHUB_RUN_ID"), env.Getenv("GITHUB_RUN_ATTEMPT"))
}

// nameOfSession is made of parts, without those that are empty.
func nameOfSession(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	name := notInSessionName.ReplaceAllString(strings.Join(parts, "-"), "-")
	return name[:min(len(name), 64)]
}

// unknownInputs are those given that the action has not: a misspelt input is otherwise
// one that is not there.
func unknownInputs(environ []string) []string {
	var unknown []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		name, ok := strings.CutPrefix(name, "INPUT_")
		name = strings.ToLower(name)
		if !ok || slices.Contains(inputNames(), name) || slices.Contains(everybodysInputs, name) {
			continue
		}
		unknown = append(unknown, fmt.Sprintf("%q is no input of this action%s", name, cli.DidYouMean(name, inputNames())))
	}
	slices.Sort(unknown)
	return unknown
}

// listings is what pages that list the bucket through CloudFront ask for.
const listings = "/?list-type=2*"

// invalidate is what is to be invalidated beside what has changed.
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

// readRoots adds the certificates of a file to those that are trusted anyway.
func readRoots(file string, r *workflow.Runner) (*x509.CertPool, error) {
	pem, err := r.Read(file)
	if err != nil {
		return nil, err
	}
	roots, err := session.SystemRoots()
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%q holds no certificate in PEM", file)
	}
	return roots, nil
}

// trusted reads keys: themselves, or the file that holds them.
func trusted(given string, r *workflow.Runner) (*key.Ring, error) {
	if given == "" {
		return nil, nil
	}
	armored := []byte(given)
	if !strings.Contains(given, "-----BEGIN") {
		if err := oneLine(given); err != nil {
			return nil, errors.New("want armored public keys, or the path of a file of them")
		}
		var err error
		if armored, err = r.Read(given); err != nil {
			return nil, err
		}
	}
	return key.ReadRing(armored)
}

var region = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func isRegion(s string) error {
	if !region.MatchString(s) {
		return fmt.Errorf("%q: want a region such as us-east-1", s)
	}
	return nil
}

func isPattern(s string) error { return publish.Selection{Include: []string{s}}.Validate() }
func isGlob(s string) error    { return publish.Selection{OS: []string{s}}.Validate() }

func isPublicURL(s string) error {
	w, err := web.Open(s, web.Options{})
	if err != nil {
		return err
	}
	w.Close()
	return nil
}

func isDistribution(s string) error {
	_, err := cloudfront.New(aws.Config{}, s, cloudfront.Options{})
	return err
}

func isPathPrefix(s string) error {
	if u, err := url.Parse(s); err != nil || !strings.HasPrefix(s, "/") || u.RawQuery != "" || u.Host != "" {
		return fmt.Errorf("%q: want a path such as /noble/spack", s)
	}
	return nil
}
