package s3

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// When a server does not answer, the error names the object, the server and the reason, and nothing of an
// answer that there was not.
func TestNoAnswerIsSaidInFewWords(t *testing.T) {
	server := s3test.New(s3test.Options{})
	m := open(t, server).Mirror("p")
	server.Close()
	for what, act := range map[string]func(context.Context) error{
		"read":  func(ctx context.Context) error { _, _, err := mirror.Read(ctx, m, "x", 10); return err },
		"look":  func(ctx context.Context) error { _, err := m.Stat(ctx, "x"); return err },
		"write": func(ctx context.Context) error { return m.Create(ctx, upload1("x", []byte("content"))) },
		"parts": func(ctx context.Context) error { return m.Create(ctx, upload1("x", make([]byte, 2*minPart))) },
		"prove": func(ctx context.Context) error { return m.Prove(ctx, `"seen"`, nil) },
		"list": func(ctx context.Context) (err error) {
			for _, err = range m.List(ctx, mirror.Range{Prefix: "x"}) {
			}
			return err
		},
	} {
		err := act(t.Context())
		var unreached *url.Error
		if !errors.As(err, &unreached) {
			t.Errorf("%s: got %v", what, err)
			continue
		}
		said := err.Error()
		for _, want := range []string{"s3://bucket/p/", server.URL + " cannot be reached: ", "connection refused"} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: want %q: %s", what, want, said)
			}
		}
		for _, noise := range []string{"StatusCode", "RequestID", "HostID", "operation error"} {
			if strings.Contains(said, noise) {
				t.Errorf("%s: %s", what, said)
			}
		}
	}
}
