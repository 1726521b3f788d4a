package pruning

import (
	"errors"
	"testing"
)

// What is promised of a prune holds in every state of the protocol.
func TestAPruneDeletesNothingThatIsNeeded(t *testing.T) {
	m := Model{}
	states, err := m.Check(30_000_000)
	t.Logf("%d states", states)
	if err != nil {
		t.Error(err)
	}
	if states < 10_000 {
		t.Errorf("only %d states", states)
	}
	if !m.Ends() {
		t.Error("an undisturbed prune does not end")
	}
}

// Each condition is needed: without it, the checker finds what goes wrong.
func TestEachConditionOfAPruneIsNeeded(t *testing.T) {
	for _, fault := range []Fault{
		NoNotice, NotAgain, NoPatience, StaleCheck, HealsBlindly, HealsUnseen, PointerIgnored,
		Disobedient, SlowRequest, NoFirstGrace, NoSecondGrace, NoSecondLook, DeletesYoung, ContentFirst, StillOffered, NoRenewal, SleepsOn,
	} {
		m := Model{Fault: fault}
		states, err := m.Check(30_000_000)
		if !errors.Is(err, errPointsAtNothing) && !errors.Is(err, errOffersNothing) && !errors.Is(err, errClientMisses) {
			t.Errorf("%s: %v in %d states", fault, err, states)
		}
	}
}
