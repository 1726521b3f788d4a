package contention

import (
	"errors"
	"flag"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/checker"
)

// thorough adds the checks that visit millions of states: go test ./contention -args -thorough.
var thorough = flag.Bool("thorough", false, "visit millions of states")

// What is promised of many publishers holds in every state of the protocol.
func TestNoPackageIsLostAndEveryoneFinishes(t *testing.T) {
	check := func(name string, m Model) {
		t.Run(name, func(t *testing.T) {
			r, err := m.Check(20_000_000)
			t.Logf("%d states, %d steps", r.States, r.Steps)
			if err != nil {
				t.Error(err)
			}
		})
	}
	check("two", Model{Publishers: 2, Budget: Budget{Crashes: 2, Lost: 1, Late: 1}})
	check("two beside another program", Model{Publishers: 2, Budget: Budget{Crashes: 1, Foreign: 1}})
	check("two beside another program, answers lost", Model{Publishers: 2, Budget: Budget{Lost: 1, Foreign: 1}})
	check("two, hints may be anything", Model{Publishers: 2, Free: true, Budget: Budget{Crashes: 1, Lost: 1, Late: 1, Foreign: 1}})
	check("three, hints may be anything", Model{Publishers: 3, Free: true})
	if !*thorough {
		return
	}
	check("three", Model{Publishers: 3})
	check("three, a crash", Model{Publishers: 3, Budget: Budget{Crashes: 1}})
	check("three, hints may be anything, a crash", Model{Publishers: 3, Free: true, Budget: Budget{Crashes: 1}})
	check("two, everything", Model{Publishers: 2, Budget: Budget{Crashes: 2, Lost: 1, Late: 1, Foreign: 1}})
	check("two, another program twice", Model{Publishers: 2, Budget: Budget{Crashes: 1, Foreign: 2}})
	check("two, hints may be anything, everything twice", Model{Publishers: 2, Free: true, Budget: Budget{Crashes: 2, Lost: 2, Late: 1, Foreign: 2}})
}

// Each mistake is found, so the checker can find mistakes.
func TestMistakesInTheProtocolAreFound(t *testing.T) {
	disturbed := Budget{Crashes: 1, Lost: 1, Foreign: 1}
	for fault, want := range map[Fault]error{
		BlindSwap:      droppedByUs,
		AckOnMove:      ackedUnseen,
		TrustForeign:   ackedUnseen,
		GuessedReceipt: receiptFalse,
		PointerFirst:   indexMissing,
		NoDeposition:   stuck,
	} {
		for _, free := range []bool{false, true} {
			if free && fault == NoDeposition {
				continue // there is nobody to replace
			}
			m := Model{Publishers: 2, Budget: disturbed, Free: free, Fault: fault}
			if _, err := m.Check(2_000_000); !errors.Is(err, want) {
				t.Errorf("%s, hints free %t: got %v, want %v", fault, free, err, want)
			}
		}
	}
}

// A check that cannot visit everything says so.
func TestAnUnfinishedCheckIsNoSuccess(t *testing.T) {
	m := Model{Publishers: 3}
	var large *checker.TooLargeError
	if _, err := m.Check(100); !errors.As(err, &large) {
		t.Errorf("got %v", err)
	}
}
