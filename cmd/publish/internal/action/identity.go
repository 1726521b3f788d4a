package action

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// identify gets credentials before anything is read or written, so that a role that cannot be assumed fails the
// step at once. The credentials stay within this process.
func (a *action) identify(ctx context.Context, log *slog.Logger) error {
	in := a.in
	o := session.Options{Region: in.target.S3.Region, Concurrency: in.target.S3.Concurrency, Roots: in.roots}
	if in.credentials == oidcCredentials {
		in.role.Log = log
		github, err := session.Transport(ctx, o)
		if err != nil {
			return cli.Fail(cli.ExitUsage, err)
		}
		defer github.CloseIdleConnections()
		in.role.Token = &introduced{GitHub: &session.GitHub{Getenv: a.env.Getenv, Log: log, Client: &http.Client{Transport: github}}, runner: a.runner}
		o.Role = &in.role
	}
	cfg, err := session.Config(ctx, o)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	is, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return &target.CredentialsError{Err: credentialsError(err, o.Role != nil)}
	}
	in.aws = &cfg
	if o.Role == nil {
		a.runner.Say("credentials of the environment (%s)", is.Source)
		if is.SessionToken != "" && a.env.Getenv("AWS_SESSION_TOKEN") != "" {
			a.log.Warn("credentials that end", "the credentials in AWS_SESSION_TOKEN cannot be renewed: an upload that is running when they end fails. Credentials of role-to-assume are renewed")
		}
		return nil
	}
	a.log.Acts(in.role.Name())
	a.runner.Say("role %s in account %s, until %s; renewed while the step runs", in.role.Name(), is.AccountID, is.Expires.UTC().Format("15:04:05 MST"))
	return nil
}

// credentialsError shortens the error of the SDK about missing credentials, which lists all the places it
// checked.
func credentialsError(err error, ours bool) error {
	if ours {
		return err
	}
	return fmt.Errorf("no credentials in the environment: %w", err)
}

// introduced reports the identity in the first token, which a trust policy refers to.
type introduced struct {
	*session.GitHub // with its Skew
	runner          *workflow.Runner
	once            sync.Once
}

// Token implements session.TokenSource.
func (i *introduced) Token(ctx context.Context, audience string) (string, error) {
	token, err := i.GitHub.Token(ctx, audience)
	if err == nil {
		i.once.Do(func() {
			if s := subject(token); s != "" {
				i.runner.Say("token of %s for %s", s, audience)
			}
		})
	}
	return token, err
}

// subject returns the subject of a token; empty if it has none.
func subject(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(text, &claims) != nil {
		return ""
	}
	return claims.Subject
}
