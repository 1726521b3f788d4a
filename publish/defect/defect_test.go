package defect_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

func broken() error { panic("nobody has thought of this") }

// A panic is an error that names the reason and has the stack; what is no panic stays as it is.
func TestAPanicIsAnError(t *testing.T) {
	err := defect.Caught(broken)
	if err == nil || !strings.Contains(err.Error(), "nobody has thought of this") || !strings.Contains(defect.StackOf(err), "broken") {
		t.Errorf("%v\n%s", err, defect.StackOf(err))
	}
	if err := defect.Caught(func() error { panic(fs.ErrClosed) }); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if again := defect.Caught(func() error { panic(err) }); again != err {
		t.Errorf("a panic that is passed on: %v", again)
	}
	if err := defect.Caught(func() error { return fs.ErrExist }); err != fs.ErrExist || defect.StackOf(err) != "" {
		t.Error(err)
	}
	if err := defect.Caught(func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// A goroutine of a group that panics is an error of the group, ends its context, and holds nothing up.
func TestAPanicInAGroupIsItsError(t *testing.T) {
	var plain defect.Group
	plain.SetLimit(1)
	for range 3 {
		plain.Go(broken)
	}
	if err := plain.Wait(); defect.StackOf(err) == "" {
		t.Error(err)
	}
	g, ctx := defect.WithContext(t.Context())
	g.Go(func() error { <-ctx.Done(); return ctx.Err() })
	g.Go(broken)
	if err := g.Wait(); defect.StackOf(err) == "" || !errors.Is(context.Cause(ctx), err) {
		t.Errorf("%v, cause %v", err, context.Cause(ctx))
	}
}
