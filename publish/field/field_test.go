package field

import (
	"errors"
	"fmt"
	"testing"
)

// A setting is shown under the name that each front end gives it, and joined errors one by one.
func TestSettingsAreNamedByTheFrontEnd(t *testing.T) {
	cause := errors.New("no host")
	err := errors.Join(Wrap("public-url", cause), Refuse("index", "x", "want merge or none"), errors.New("something else"))
	shown := Named(err, func(name string) string { return "--" + name })
	if got, want := shown.Error(), "--public-url: no host\n--index \"x\": want merge or none\nsomething else"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(shown, cause) {
		t.Error("the cause is lost")
	}
	if all := Each(shown); len(all) != 3 || Name(all[0]) != "public-url" || Name(all[2]) != "" {
		t.Errorf("%q", all)
	}
}

// Wrap names each of joined errors alone, and nothing that is no error.
func TestWrapNamesEach(t *testing.T) {
	if Wrap("a", nil) != nil || Named(nil, nil) != nil {
		t.Error("nil is no error")
	}
	if all := Each(Wrap("a", errors.Join(errors.New("x"), errors.New("y")))); len(all) != 2 || Name(all[1]) != "a" {
		t.Errorf("%q", all)
	}
	two := fmt.Errorf("%w: %w", errors.New("x"), errors.New("y"))
	if all := Each(two); len(all) != 1 || all[0] != two {
		t.Errorf("an error that wraps two was split: %q", all)
	}
}
