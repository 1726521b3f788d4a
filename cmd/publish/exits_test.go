package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// publish help exit-codes says what docs/exit-codes.md says, row by row and word by word.
func TestTheHelpOnExitCodesIsThePage(t *testing.T) {
	page, err := os.ReadFile(clitest.Root("docs/exit-codes.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []cli.Exit
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		var e cli.Exit
		if len(cells) != 6 {
			continue
		}
		if _, err := fmt.Sscan(cells[1], &e.Code); err != nil {
			continue // the head of the table
		}
		e.Meaning, e.Mirror, e.Todo = strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]), strings.TrimSpace(cells[4])
		want = append(want, e)
	}
	if diff := cmp.Diff(want, cli.Exits); diff != "" || len(want) < 10 {
		t.Errorf("docs/exit-codes.md and cli.Exits (-page +program):\n%s", diff)
	}
	code, out, errs := execute(t, nil, "help", "exit-codes")
	if code != cli.ExitDone || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	words := strings.Join(strings.Fields(out), " ")
	for _, e := range want {
		for _, part := range []string{fmt.Sprint(e.Code, " ", e.Meaning), e.Mirror, e.Todo} {
			if !strings.Contains(words, part) {
				t.Errorf("no %q in the help", part)
			}
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 {
			t.Errorf("more than 80 columns: %s", line)
		}
	}
	if again, topic, _ := execute(t, nil, "exit-codes"); again != cli.ExitDone || topic != out {
		t.Errorf("publish exit-codes: exit code %d: %s", again, topic)
	}
}
