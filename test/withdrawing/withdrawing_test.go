package withdrawing

import "testing"

// What is promised of a withdrawal holds in every state of the protocol.
func TestAWithdrawalHoldsInEveryState(t *testing.T) {
	m := Model{}
	states, err := m.Check(30_000_000)
	t.Logf("%d states", states)
	if err != nil {
		t.Error(err)
	}
	if states < 10_000 {
		t.Errorf("only %d states", states)
	}
}

// Each condition is needed: without it, the checker finds what goes wrong.
func TestEachConditionOfAWithdrawalIsNeeded(t *testing.T) {
	for _, fault := range []Fault{
		NoLook, NoLookAgain, PointerIgnored, ViewIgnored, PublishesWithdrawn, HealsWithdrawn, HealsWithheld, ReturnsWithdrawn, BuriesFirst, UndoneLate,
		SkipsViews, UndoSkipsViews,
	} {
		m := Model{Fault: fault}
		if states, err := m.Check(30_000_000); err == nil {
			t.Errorf("%s: nothing goes wrong in %d states", fault, states)
		} else {
			t.Logf("%s: %v", fault, err)
		}
	}
}
