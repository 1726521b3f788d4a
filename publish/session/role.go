package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/publish/field"
)

// A Role is a role to assume: with tokens of an identity provider, so that no keys are stored, or with existing
// credentials. Its credentials are renewed before they expire as long as they are used, each time with a new token.
type Role struct {
	// ARN of the role: arn:aws:iam::123456789012:role/name, with a path if it has one. The partitions aws-cn and
	// aws-us-gov are known, and MinIO's arn:minio:iam:::role/id.
	ARN string
	// SessionName is the name of the session in CloudTrail: 2 to 64 letters, digits and _+=,.@-
	SessionName string
	// Duration of a session, 15 min to 12 h. 0 means 1 h, which every role permits.
	Duration time.Duration
	// Policy is an inline session policy, which limits the session to a part of the role's permissions. See
	// SessionPolicy. If it is empty, the session has all of them.
	Policy string
	// Audience of the tokens. If it is empty, it is sts.amazonaws.com, or the name of STS in the role's partition.
	Audience string
	// AllowedAccounts are the ids of the accounts that the role may be in. Credentials of another account are not
	// used. If it is empty, any account is allowed.
	AllowedAccounts []string
	// MaxAttempts is the maximum number of attempts to assume the role, each with a new token. AccessDenied is
	// tried at most 4 times. 0 means 6.
	MaxAttempts int
	// Token is the source of tokens. If it is nil, the role is assumed with the credentials that the SDK finds.
	Token TokenSource
	// Secret receives each secret before it is used, so that it can be masked: token, access key id, secret key,
	// session token. It may be nil.
	Secret func(string)
	// Log receives a line when credentials are renewed, and when a renewal is repeated. It may be nil.
	Log *slog.Logger
}

// A TokenSource provides tokens of an identity provider.
type TokenSource interface {
	// Token returns a JWT for audience. A source that makes tokens returns a new one each time.
	Token(ctx context.Context, audience string) (string, error)
}

// The limits of AWS on the duration of a session.
const (
	ShortestSession = 15 * time.Minute
	LongestSession  = 12 * time.Hour
)

const (
	defaultDuration = time.Hour

	defaultAttempts = 6
	mostAttempts    = 20

	// longestPolicy is the maximum length of an inline session policy in STS, in characters.
	longestPolicy = 2048
)

var (
	roleARN     = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov|minio):iam::(\d{12})?:role/(?:[!-.0-~]+/)*([\w+=,.@-]{1,64})$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	accountID   = regexp.MustCompile(`^\d{12}$`)
)

// audiences are the names of STS in tokens, by partition.
var audiences = map[string]string{
	"aws":        "sts.amazonaws.com",
	"aws-cn":     "sts.amazonaws.com.cn",
	"aws-us-gov": "sts.amazonaws.com",
}

// homes are the regions that are used if none is known.
var homes = map[string]string{
	"aws":        "us-east-1",
	"aws-cn":     "cn-north-1",
	"aws-us-gov": "us-gov-west-1",
}

// Validate returns all mistakes in a role, as errors of package field.
func (r *Role) Validate() error {
	return errors.Join(field.Wrap("role-to-assume", r.validateARN()), r.validateSession(), field.Wrap("session-policy", r.validatePolicy()),
		r.validateAccounts())
}

func (r *Role) validateARN() error {
	part := roleARN.FindStringSubmatch(r.ARN)
	switch {
	case r.ARN == "":
		return errors.New("no role given")
	case part == nil, part[2] == "" && part[1] != "minio":
		return fmt.Errorf("role %q: want arn:aws:iam::123456789012:role/name", r.ARN)
	}
	return nil
}

func (r *Role) validateSession() error {
	var wrong []error
	if !sessionName.MatchString(r.SessionName) {
		wrong = append(wrong, field.Wrap("role-session-name", fmt.Errorf("session name %q: want 2 to 64 of letters, digits and _+=,.@-", r.SessionName)))
	}
	if r.Duration != 0 && (r.Duration < ShortestSession || r.Duration > LongestSession) {
		wrong = append(wrong, field.Wrap("role-duration-seconds", fmt.Errorf("session of %v: AWS makes them 15m to 12h long", r.Duration)))
	}
	if r.MaxAttempts < 0 || r.MaxAttempts > mostAttempts {
		wrong = append(wrong, field.Wrap("auth-max-attempts", fmt.Errorf("%d attempts: want 1 to %d", r.MaxAttempts, mostAttempts)))
	}
	if strings.ContainsAny(r.Audience, " \t\r\n") {
		wrong = append(wrong, field.Wrap("audience", fmt.Errorf("audience %q: want no spaces", r.Audience)))
	}
	return errors.Join(wrong...)
}

func (r *Role) validatePolicy() error {
	if r.Policy == "" {
		return nil
	}
	var document map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.Policy), &document); err != nil {
		return fmt.Errorf("session policy: want a policy document in JSON: %w", err)
	}
	if document["Statement"] == nil {
		return errors.New("session policy: it has no Statement")
	}
	if n := utf8.RuneCountInString(r.Policy); n > longestPolicy {
		return fmt.Errorf("session policy: %d characters, AWS takes %d", n, longestPolicy)
	}
	return nil
}

func (r *Role) validateAccounts() error {
	var wrong []error
	for _, id := range r.AllowedAccounts {
		if !accountID.MatchString(id) {
			wrong = append(wrong, field.Wrap("allowed-account-ids", fmt.Errorf("account id %q: want 12 digits", id)))
		}
	}
	if account := r.Account(); wrong == nil && account != "" && !r.allows(account) {
		wrong = append(wrong, field.Wrap("role-to-assume", fmt.Errorf("role %s: its account is not one of those allowed: %s", r.ARN, strings.Join(r.AllowedAccounts, ", "))))
	}
	return errors.Join(wrong...)
}

func (r *Role) allows(account string) bool {
	return len(r.AllowedAccounts) == 0 || slices.Contains(r.AllowedAccounts, account)
}

// Account returns the account id in the role's ARN, or an empty string.
func (r *Role) Account() string { return r.part(2) }

// Name returns the role's name without its path.
func (r *Role) Name() string { return r.part(3) }

func (r *Role) partition() string { return r.part(1) }

func (r *Role) part(n int) string {
	if part := roleARN.FindStringSubmatch(r.ARN); part != nil {
		return part[n]
	}
	return ""
}

func (r *Role) audience() string {
	switch {
	case r.Audience != "":
		return r.Audience
	case audiences[r.partition()] != "":
		return audiences[r.partition()]
	}
	return audiences["aws"]
}

func (r *Role) duration() time.Duration {
	if r.Duration == 0 {
		return defaultDuration
	}
	return r.Duration
}

func (r *Role) attempts() int {
	if r.MaxAttempts == 0 {
		return defaultAttempts
	}
	return r.MaxAttempts
}

func (r *Role) secret(s string) {
	if r.Secret != nil && s != "" {
		r.Secret(s)
	}
}

func (r *Role) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}
