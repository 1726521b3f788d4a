// Package browser looks at pages with a real browser.
package browser

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Later lets a page be as it is after ten seconds.
const Later = "--virtual-time-budget=10000"

// Open lets headless Chromium open a page, and returns what it writes to its output, such as with
// --dump-dom, and what it complains about. Where it is missing the test is skipped, except where
// nothing may be.
func Open(t *testing.T, page string, more ...string) (out, complaints string) {
	t.Helper()
	bin, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + t.TempDir(), "--enable-logging=stderr"}, more...)
	cmd := exec.Command(bin, append(args, page)...)
	var shown, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &shown, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	for _, line := range strings.Split(errs.String(), "\n") {
		if strings.Contains(line, "CONSOLE") || strings.Contains(line, "Refused to") {
			complaints += line + "\n"
		}
	}
	return shown.String(), complaints
}

// Keep writes how a page looks to the file that $SCREENSHOT names, if it names one: to be looked at,
// and kept in docs.
func Keep(t *testing.T, page string) {
	t.Helper()
	if to := os.Getenv("SCREENSHOT"); to != "" {
		Open(t, page, Later, "--screenshot="+to, "--window-size=1100,1000", "--hide-scrollbars")
	}
}
