package lifecycle

import (
	"errors"
	"flag"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/checker"
)

// thorough adds a check that visits tens of millions of states: go test ./lifecycle -args -thorough.
var thorough = flag.Bool("thorough", false, "two writers beside a prune")

const most = 60_000_000

// together are those who are at work at the same time, the fewest first.
func together() []Model {
	all := []Model{{Writers: 2}, {Writers: 1, Prunes: true}}
	if *thorough {
		all = append(all, Model{Writers: 2, Prunes: true})
	}
	return all
}

// What is promised holds in every state of the protocol.
func TestNothingIsMissedOrBroughtBack(t *testing.T) {
	for _, m := range together() {
		states, err := m.Check(most)
		t.Logf("%d writers, prunes %t: %d states", m.Writers, m.Prunes, states)
		var large *checker.TooLargeError
		if *thorough && errors.As(err, &large) {
			t.Log("nothing goes wrong in so many states, those with the fewest steps first; there are more")
		} else if err != nil {
			t.Error(err)
		}
		if states < 1_000 {
			t.Errorf("only %d states", states)
		}
	}
	if m := new(Model); !m.Ends() {
		t.Error("an undisturbed prune does not end")
	}
}

// Each condition is needed: without it, the checker finds what goes wrong.
func TestEachConditionIsNeeded(t *testing.T) {
	for _, fault := range []Fault{
		NoNotice, NotAgain, NoPatience, StaleCheck, PublishesWithdrawn, HealsBlindly, HealsUnseen, HealsLate, HealsWithdrawn, HealsWithheld,
		BuriesFirst, UndoneLate, UndoneBlindly, UndoneUnseen, UndoneStale, UndoneWithheld, ReturnsWithdrawn, ReturnsBlindly, ReturnsUnseen, ReturnsStale,
		PointerIgnored, Disobedient, SlowRequest, NoFirstGrace, NoSecondGrace, NoSecondLook, DeletesYoung, DeletesBuried, ContentFirst, StillOffered,
		ForgetsOffers, NoRenewal, SleepsOn,
	} {
		var err error
		var large *checker.TooLargeError
		states := 0
		for _, m := range together() {
			m.Fault = fault
			var n int
			n, err = m.Check(most)
			states += n
			if errors.As(err, &large) {
				t.Error(err)
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("%s: nothing goes wrong in %d states", fault, states)
		} else {
			t.Logf("%s, %d states: %v", fault, states, err)
		}
	}
}
