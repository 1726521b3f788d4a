package cloudfront_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "E2QWRUHAPOMQZL"

func credentials(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
}

// client talks to s without any network.
func client(t *testing.T, s *cloudfronttest.Server, opts cloudfront.Options) *cloudfront.Client {
	t.Helper()
	c, err := cloudfront.New(aws.Config{
		Credentials: aws.CredentialsProviderFunc(credentials),
		HTTPClient:  &http.Client{Transport: s.Transport()},
	}, id, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inBubble runs a test by a clock of its own.
func inBubble(t *testing.T, name string, run func(t *testing.T, s *cloudfronttest.Server)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, cloudfronttest.New(id)) })
	})
}

func invalidate(t *testing.T, c *cloudfront.Client, token string, paths ...string) cloudfront.Invalidation {
	t.Helper()
	made, err := c.Invalidate(t.Context(), token, paths)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func wantMade(t *testing.T, s *cloudfronttest.Server, want ...[]string) {
	t.Helper()
	if got := s.Invalidations(id); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("invalidated %q, want %q", got, want)
	}
}

func TestOverTheNetwork(t *testing.T) {
	s := cloudfronttest.New(id)
	web := httptest.NewServer(s)
	defer web.Close()
	c, err := cloudfront.New(aws.Config{Credentials: aws.CredentialsProviderFunc(credentials), HTTPClient: web.Client(), Region: "eu-west-1"},
		id, cloudfront.Options{Endpoint: web.URL})
	if err != nil {
		t.Fatal(err)
	}
	made := invalidate(t, c, "token", "/b", "/a", "/b")
	if made.ID == "" || made.Status != cloudfront.Completed {
		t.Errorf("got %+v", made)
	}
	if err := c.Wait(t.Context(), made.ID); err != nil {
		t.Error(err)
	}
	wantMade(t, s, []string{"/a", "/b"})
}

// The words of the SDK have the status and the numbers of an answer that there was not.
func TestAServerThatDoesNotAnswerIsNamed(t *testing.T) {
	web := httptest.NewServer(nil)
	web.Close()
	synctest.Test(t, func(t *testing.T) { // the client asks again for minutes
		c, err := cloudfront.New(aws.Config{Credentials: aws.CredentialsProviderFunc(credentials), Region: "eu-west-1"}, id, cloudfront.Options{Endpoint: web.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context(), "I1")
		if err == nil || !strings.Contains(err.Error(), web.URL+" cannot be reached: ") || strings.Contains(err.Error(), "StatusCode") {
			t.Errorf("%v", err)
		}
	})
}

func TestRepeating(t *testing.T) {
	inBubble(t, "the same is there", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = time.Minute
		c := client(t, s, cloudfront.Options{})
		first := invalidate(t, c, "token", "/a", "/b")
		if again := invalidate(t, c, "token", "/b", "/a"); again != first || first.Status == cloudfront.Completed {
			t.Errorf("got %+v, then %+v", first, again)
		}
		wantMade(t, s, []string{"/a", "/b"})
	})
	inBubble(t, "other content, other paths", func(t *testing.T, s *cloudfronttest.Server) {
		c := client(t, s, cloudfront.Options{})
		invalidate(t, c, "one", "/a")
		invalidate(t, c, "two", "/a")
		invalidate(t, c, "two", "/a", "/b")
		wantMade(t, s, []string{"/a"}, []string{"/a"}, []string{"/a", "/b"})
	})
	// An index that was rolled back is what it was before, and must be forgotten again.
	inBubble(t, "what was before", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = 20 * time.Second
		c := client(t, s, cloudfront.Options{})
		invalidate(t, c, "one", "/a")
		invalidate(t, c, "two", "/a")
		time.Sleep(time.Hour)
		s.Inject(cloudfronttest.Fault{Acts: true}, cloudfronttest.Fault{Acts: true})
		third := invalidate(t, c, "one", "/a")
		wantMade(t, s, []string{"/a"}, []string{"/a"}, []string{"/a"})
		if again := invalidate(t, c, "one", "/a"); again.ID != third.ID {
			t.Errorf("repeated at once: %+v, then %+v", third, again)
		}
	})
}

func TestWait(t *testing.T) {
	inBubble(t, "until complete", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = 25 * time.Second
		c := client(t, s, cloudfront.Options{})
		began := time.Now()
		if err := c.Wait(t.Context(), invalidate(t, c, "token", "/a").ID); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < s.Delay || took > s.Delay+20*time.Second {
			t.Errorf("took %v", took)
		}
		if asked := len(s.Requests()); asked > 6 {
			t.Errorf("took %d requests", asked)
		}
	})
	inBubble(t, "no longer than patience", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = time.Hour
		c := client(t, s, cloudfront.Options{Patience: time.Minute})
		began := time.Now()
		err := c.Wait(t.Context(), invalidate(t, c, "token", "/a").ID)
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "InProgress") || took > 90*time.Second {
			t.Errorf("got error %v after %v", err, took)
		}
	})
	inBubble(t, "no longer than the context", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = time.Hour
		c := client(t, s, cloudfront.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Wait(ctx, invalidate(t, c, "token", "/a").ID); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v", err)
		}
	})
	inBubble(t, "for nothing", func(t *testing.T, s *cloudfronttest.Server) {
		if err := client(t, s, cloudfront.Options{}).Wait(t.Context(), "INOTTHERE"); err == nil || !strings.Contains(err.Error(), "INOTTHERE") {
			t.Errorf("got error %v", err)
		}
	})
}

func TestPassingFaults(t *testing.T) {
	for name, fault := range map[string]cloudfronttest.Fault{
		"throttled":    cloudfronttest.Refuse(400, "Throttling"),
		"unavailable":  cloudfronttest.Refuse(503, "ServiceUnavailable"),
		"broken":       cloudfronttest.Refuse(500, "InternalError"),
		"cut off":      {},
		"answer lost":  cloudfronttest.Lose(),
		"500 but done": {Acts: true, Status: 500, Code: "InternalError"},
	} {
		inBubble(t, name, func(t *testing.T, s *cloudfronttest.Server) {
			s.Delay = time.Minute
			var log bytes.Buffer
			c := client(t, s, cloudfront.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			s.Inject(fault, fault)
			began := time.Now()
			made := invalidate(t, c, "token", "/a")
			if took := time.Since(began); took < time.Second || took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			wantMade(t, s, []string{"/a"})
			if got := len(s.Requests()); got != 3 {
				t.Errorf("took %d requests", got)
			}
			if strings.Count(log.String(), "\n") != 2 {
				t.Errorf("logged %s", &log)
			}
			s.Inject(fault, fault)
			if err := c.Wait(t.Context(), made.ID); err != nil {
				t.Error(err)
			}
		})
	}
	inBubble(t, "for too long", func(t *testing.T, s *cloudfronttest.Server) {
		s.Inject(slices.Repeat([]cloudfronttest.Fault{cloudfronttest.Refuse(503, "ServiceUnavailable")}, 100)...)
		began := time.Now()
		_, err := client(t, s, cloudfront.Options{}).Invalidate(t.Context(), "token", []string{"/a"})
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "ServiceUnavailable") || took < time.Minute || took > 2*time.Minute {
			t.Errorf("got error %v after %v", err, took)
		}
	})
}

func TestCrowd(t *testing.T) {
	wild := func(n int) []string {
		var paths []string
		for i := range n {
			paths = append(paths, fmt.Sprintf("/%02d/*", i))
		}
		return paths
	}
	inBubble(t, "waits for its turn", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = 5 * time.Minute
		var log bytes.Buffer
		answers, last, longest := 0, time.Now(), time.Duration(0)
		c := client(t, s, cloudfront.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Answered: func() {
			answers, longest, last = answers+1, max(longest, time.Since(last)), time.Now()
		}})
		invalidate(t, c, "one", wild(cloudfront.MaxWildcards)...)
		invalidate(t, c, "exact", "/a") // has a budget of its own
		began := time.Now()
		invalidate(t, c, "two", "/*")
		if took := time.Since(began); took < s.Delay || took > s.Delay+3*time.Minute {
			t.Errorf("took %v", took)
		}
		if got := len(s.Requests()); got > 12 {
			t.Errorf("took %d requests", got)
		}
		if answers != len(s.Requests()) || longest > 3*time.Minute {
			t.Errorf("told of %d answers, the longest after %v", answers, longest)
		}
		if !strings.Contains(log.String(), "TooManyInvalidationsInProgress") {
			t.Errorf("logged %s", &log)
		}
	})
	inBubble(t, "all get their turn", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = 20 * time.Second
		var wg sync.WaitGroup
		for n := range 40 {
			wg.Go(func() {
				c := client(t, s, cloudfront.Options{})
				if _, err := c.Invalidate(t.Context(), fmt.Sprint(n), []string{"/*"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := len(s.Invalidations(id)); got != 40 {
			t.Errorf("%d invalidations were made", got)
		}
	})
	inBubble(t, "gives up", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = time.Hour
		c := client(t, s, cloudfront.Options{Patience: 10 * time.Minute})
		invalidate(t, c, "one", wild(15)...)
		began := time.Now()
		_, err := c.Invalidate(t.Context(), "two", []string{"/*"})
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "TooManyInvalidationsInProgress") || took < 7*time.Minute || took > 10*time.Minute {
			t.Errorf("got error %v after %v", err, took)
		}
	})
	inBubble(t, "is cancelled", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = time.Hour
		c := client(t, s, cloudfront.Options{})
		invalidate(t, c, "one", wild(15)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		_, err := c.Invalidate(ctx, "two", []string{"/*"})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "TooMany") || time.Since(began) != time.Minute {
			t.Errorf("got error %v after %v", err, time.Since(began))
		}
	})
}

func TestRefusals(t *testing.T) {
	inBubble(t, "denied", func(t *testing.T, s *cloudfronttest.Server) {
		s.Deny("cloudfront:CreateInvalidation")
		_, err := client(t, s, cloudfront.Options{}).Invalidate(t.Context(), "token", []string{"/a"})
		var denied *mirror.DeniedError
		if !errors.As(err, &denied) || denied.Action != "cloudfront:CreateInvalidation" || denied.Name != "distribution "+id ||
			!strings.Contains(denied.Detail, "assumed-role/publisher") {
			t.Errorf("got error %v", err)
		}
	})
	inBubble(t, "denied to look", func(t *testing.T, s *cloudfronttest.Server) {
		s.Delay = time.Hour
		s.Deny("cloudfront:GetInvalidation")
		c := client(t, s, cloudfront.Options{})
		err := c.Wait(t.Context(), invalidate(t, c, "token", "/a").ID)
		var denied *mirror.DeniedError
		if !errors.As(err, &denied) || denied.Action != "cloudfront:GetInvalidation" {
			t.Errorf("got error %v", err)
		}
	})
	for code, want := range map[string]error{
		"ExpiredToken": mirror.ErrCredentials, "InvalidClientTokenId": mirror.ErrCredentials, "SignatureDoesNotMatch": mirror.ErrCredentials,
	} {
		inBubble(t, code, func(t *testing.T, s *cloudfronttest.Server) {
			s.Inject(cloudfronttest.Refuse(403, code))
			_, err := client(t, s, cloudfront.Options{}).Invalidate(t.Context(), "token", []string{"/a"})
			if !errors.Is(err, want) || len(s.Requests()) != 1 {
				t.Errorf("got error %v after %d requests", err, len(s.Requests()))
			}
		})
	}
	inBubble(t, "no credentials", func(t *testing.T, s *cloudfronttest.Server) {
		c, err := cloudfront.New(aws.Config{HTTPClient: &http.Client{Transport: s.Transport()}, Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no role") })}, id, cloudfront.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Invalidate(t.Context(), "token", []string{"/a"}); !errors.Is(err, mirror.ErrCredentials) {
			t.Errorf("got error %v", err)
		}
	})
	inBubble(t, "no distribution", func(t *testing.T, _ *cloudfronttest.Server) {
		_, err := client(t, cloudfronttest.New(), cloudfront.Options{}).Invalidate(t.Context(), "token", []string{"/a"})
		if !errors.Is(err, cloudfront.ErrNoDistribution) || !strings.Contains(err.Error(), id) {
			t.Errorf("got error %v", err)
		}
	})
	inBubble(t, "bad paths", func(t *testing.T, s *cloudfronttest.Server) {
		c := client(t, s, cloudfront.Options{})
		for _, path := range []string{"a", "/a b", "/~a", "/[1]", "/ü", "/%4", "/%zz", "/" + strings.Repeat("a", 4000)} {
			if _, err := c.Invalidate(t.Context(), "token", []string{path}); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%.20s: got error %v", path, err)
			}
		}
		if _, err := c.Invalidate(t.Context(), "token", nil); err == nil {
			t.Error("invalidated nothing")
		}
		wantMade(t, s)
	})
	for _, bad := range []string{"", "d111111abcdef8.cloudfront.net", "https://cache.example.org", "arn:aws:cloudfront::1:distribution/" + id, id + "/", "e2qwruhapomqzl"} {
		_, err := cloudfront.New(aws.Config{}, bad, cloudfront.Options{})
		if !errors.Is(err, cloudfront.ErrNoDistribution) || strings.ContainsAny(bad, ".:/") != strings.Contains(err.Error(), "domain name") {
			t.Errorf("%q: got error %v", bad, err)
		}
	}
}
