// Package cloudfront invalidates what CloudFront has cached of changed objects.
//
// Requests are idempotent: an invalidation is named after its purpose, so a request whose answer was lost can be
// repeated without harm or cost. When CloudFront has too many invalidations, calls wait, as long as the caller's
// context and Options.Patience permit.
package cloudfront

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/smithy-go"
	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/unreached"
)

// ErrNoDistribution reports an ID that is no distribution's.
var ErrNoDistribution = errors.New("no such distribution")

// Completed is the status of a completed invalidation.
const Completed = "Completed"

// Options configure a Client. The zero value is ready for use.
type Options struct {
	// Endpoint is the URL of an API other than that of AWS. If it is empty, the AWS configuration decides.
	Endpoint string
	// Patience is the maximum time for which a call waits while CloudFront is busy with other invalidations. The
	// default is 15 min, in which CloudFront completes any number of them.
	Patience time.Duration
	// Log receives notes about waiting. It may be nil.
	Log *slog.Logger
	// Answered is called for each answer, so that a long wait is not taken for a stall. It may be nil.
	Answered func()
}

// A Client invalidates paths in one distribution.
type Client struct {
	distribution string
	patience     time.Duration
	log          *slog.Logger
	answered     func()
	api          *cloudfront.Client
}

// An Invalidation is an invalidation that CloudFront has accepted.
type Invalidation struct {
	ID     string
	Status string // Completed, or any other while in progress
}

// distributionID matches the IDs of distributions.
var distributionID = regexp.MustCompile(`^[A-Z0-9]{1,32}$`)

// New returns a client. It sends no request, and refuses an ID that is no distribution's.
func New(cfg aws.Config, distribution string, opts Options) (*Client, error) {
	if err := CheckDistribution(distribution); err != nil {
		return nil, err
	}
	c := &Client{distribution: distribution, patience: opts.Patience, log: opts.Log, answered: opts.Answered}
	if c.patience == 0 {
		c.patience = 15 * time.Minute
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.answered == nil {
		c.answered = func() {}
	}
	c.api = cloudfront.NewFromConfig(cfg, func(o *cloudfront.Options) {
		o.Retryer = aws.NopRetryer{} // insist retries
		o.Credentials = credentials.Tagged(o.Credentials)
		if o.Region == "" {
			o.Region = "us-east-1" // the service has no regions
		}
		if opts.Endpoint != "" {
			o.BaseEndpoint = &opts.Endpoint
		}
	})
	return c, nil
}

// CheckDistribution refuses an ID that is no distribution's.
func CheckDistribution(id string) error {
	if distributionID.MatchString(id) {
		return nil
	}
	return noDistribution(id)
}

func noDistribution(id string) error {
	if strings.ContainsAny(id, "./:") {
		return fmt.Errorf("%w: %q looks like a domain name; the ID is like E2QWRUHAPOMQZL", ErrNoDistribution, id)
	}
	return fmt.Errorf("%w: %q; an ID is like E2QWRUHAPOMQZL", ErrNoDistribution, id)
}

// Invalidate requests the invalidation of paths made by Path, and returns when CloudFront has accepted it. Wait
// waits until it is complete.
//
// The token distinguishes this change from other changes of the same paths. It may be the time since which the
// objects are as they are. Repeating a call returns the same invalidation, which is right after a lost answer. It
// would be wrong for an index that returns to an earlier content, so an invalidation that was complete more than a
// minute ago does not count.
func (c *Client) Invalidate(ctx context.Context, token string, paths []string) (Invalidation, error) {
	if len(paths) == 0 {
		return Invalidation{}, errors.New("invalidate nothing")
	}
	paths = slices.Compact(slices.Sorted(slices.Values(paths)))
	made, err := c.create(ctx, Reference(c.distribution, token, paths), paths)
	if err == nil && isPast(made) {
		// The hour makes repetitions of this call the same.
		again := fmt.Sprint(token, " after ", aws.ToString(made.Id), " at ", time.Now().UTC().Format("2006-01-02T15"))
		made, err = c.create(ctx, Reference(c.distribution, again, paths), paths)
	}
	if err != nil {
		return Invalidation{}, fmt.Errorf("invalidate %s in distribution %s: %w", summary(paths), c.distribution, err)
	}
	return Invalidation{ID: aws.ToString(made.Id), Status: aws.ToString(made.Status)}, nil
}

// isPast reports whether an invalidation cannot be the answer to a request just sent: CloudFront takes seconds to
// complete a new one.
func isPast(made *types.Invalidation) bool {
	return aws.ToString(made.Status) == Completed && time.Since(aws.ToTime(made.CreateTime)) > time.Minute
}

func summary(paths []string) string {
	if len(paths) == 1 {
		return paths[0]
	}
	return fmt.Sprintf("%s and %d more", paths[0], len(paths)-1)
}

func (c *Client) create(ctx context.Context, reference string, paths []string) (made *types.Invalidation, err error) {
	input := &cloudfront.CreateInvalidationInput{
		DistributionId: &c.distribution,
		InvalidationBatch: &types.InvalidationBatch{
			CallerReference: &reference,
			Paths:           &types.Paths{Items: paths, Quantity: aws.Int32(int32(len(paths)))},
		},
	}
	err = c.insist(ctx, "cloudfront:CreateInvalidation", func(ctx context.Context) error {
		out, err := c.api.CreateInvalidation(ctx, input)
		if err == nil && out.Invalidation == nil {
			err = errors.New("the answer has no invalidation")
		}
		if err == nil {
			made = out.Invalidation
		}
		return err
	})
	return made, err
}

// Status returns the state of an invalidation.
func (c *Client) Status(ctx context.Context, id string) (Invalidation, error) {
	is := Invalidation{ID: id}
	input := &cloudfront.GetInvalidationInput{DistributionId: &c.distribution, Id: &id}
	err := c.insist(ctx, "cloudfront:GetInvalidation", func(ctx context.Context) error {
		out, err := c.api.GetInvalidation(ctx, input)
		if err == nil && out.Invalidation != nil {
			is.Status = aws.ToString(out.Invalidation.Status)
		}
		return err
	})
	if err != nil {
		return Invalidation{}, fmt.Errorf("look at invalidation %s of distribution %s: %w", id, c.distribution, err)
	}
	return is, nil
}

// According to AWS, 95 in 100 invalidations are complete after 25 s. Requesting the state costs nothing, but its
// rate is limited.
const (
	firstLook   = 5 * time.Second
	longestLook = 20 * time.Second
)

// Wait returns when an invalidation is complete: no edge serves the earlier content any more.
func (c *Client) Wait(ctx context.Context, id string) error {
	for look, waited := firstLook, time.Duration(0); ; look = min(look*3/2, longestLook) {
		is, err := c.Status(ctx, id)
		if err != nil || is.Status == Completed {
			return err
		}
		if waited >= c.patience {
			return fmt.Errorf("invalidation %s of distribution %s is %s after %v", id, c.distribution, is.Status, waited)
		}
		if err := smithytime.SleepWithContext(ctx, look); err != nil {
			return fmt.Errorf("wait for invalidation %s of distribution %s: %w", id, c.distribution, err)
		}
		waited += look
	}
}

// A pace says how a call is repeated: after longer and longer pauses, up to a total time.
type pace struct{ first, longest, patience time.Duration }

// hiccups is the pace for network errors, and for CloudFront while it is throttling or broken.
var hiccups = pace{first: time.Second, longest: 30 * time.Second, patience: 2 * time.Minute}

// crowded is the pace while other invalidations must end before a new one is accepted.
func (c *Client) crowded() pace {
	return pace{first: 20 * time.Second, longest: 2 * time.Minute, patience: c.patience}
}

// insist repeats a call until its error is not temporary, and translates errors. Each pause is between half and one
// and a half of its nominal length, so that publishers that were refused together do not return together.
func (c *Client) insist(ctx context.Context, action string, call func(context.Context) error) error {
	began := time.Now()
	for n := 0; ; n++ {
		err := call(ctx)
		if said := smithy.APIError(nil); err == nil || errors.As(err, &said) {
			c.answered()
		}
		p := c.paceOf(err)
		if p.patience == 0 || ctx.Err() != nil {
			return c.translate(ctx, action, err)
		}
		pause := min(p.first<<min(n, 10), p.longest)
		pause = pause/2 + rand.N(pause)
		if waited := time.Since(began); waited+pause > p.patience {
			return fmt.Errorf("after %v: %w", waited.Round(time.Second), c.translate(ctx, action, err))
		}
		c.log.Info("CloudFront is busy, waiting", "distribution", c.distribution, "action", action,
			"reason", reason(err), "pause", pause.Round(time.Second).String())
		if smithytime.SleepWithContext(ctx, pause) != nil {
			return fmt.Errorf("%w, while waiting after: %w", ctx.Err(), c.translate(ctx, action, err))
		}
	}
}

// paceOf returns the pace for an error. The zero pace means no retry.
func (c *Client) paceOf(err error) pace {
	var crowd *types.TooManyInvalidationsInProgress
	switch {
	case err == nil, errors.Is(err, mirror.ErrCredentials):
		return pace{}
	case errors.As(err, &crowd):
		return c.crowded()
	case retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary:
		return hiccups
	}
	return pace{}
}

// reason returns CloudFront's code of an error.
func reason(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return err.Error()
}

// translate turns an error of CloudFront into an error that callers branch on.
func (c *Client) translate(ctx context.Context, action string, err error) error {
	var api smithy.APIError
	if err == nil || ctx.Err() != nil {
		return err
	}
	if !errors.As(err, &api) {
		return unreached.Error(err)
	}
	switch code := api.ErrorCode(); {
	case code == "AccessDenied", code == "AccessDeniedException":
		return &mirror.DeniedError{Action: action, Name: "distribution " + c.distribution, Detail: api.ErrorMessage()}
	case code == "NoSuchDistribution":
		return fmt.Errorf("%w in this account: %s", ErrNoDistribution, api.ErrorMessage())
	case credentials.Refused(code):
		return fmt.Errorf("%w: %s: %s", mirror.ErrCredentials, code, api.ErrorMessage())
	}
	return err
}
