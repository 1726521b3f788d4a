package lifecycle

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/test/checker"
)

// What must not be.
var (
	errPointsAtNothing = errors.New("a document points at content that is gone")
	errOffersNothing   = errors.New("the index offers a package whose document is gone")
	errOffersWithdrawn = errors.New("the index offers what is withdrawn")
	errBroughtBack     = errors.New("what a rollback took out came back without being published")
	errClientMisses    = errors.New("a client misses what it has read of a moment ago")
)

func (s *State) wrong() error {
	switch {
	case s.document == live && !s.content:
		return errPointsAtNothing
	case s.offered && s.document != live:
		return errOffersNothing
	case s.offered && s.withdrawn:
		return errOffersWithdrawn
	case s.offered && s.takenOut:
		return errBroughtBack
	case s.client.holds && (s.document == absent || !s.content), s.locked.holds && !s.content:
		return errClientMisses
	}
	return nil
}

// Check visits every state that can be reached, and returns how many there are. The error says what is wrong with one of them, and
// that there are more than most.
func (m *Model) Check(most int) (states int, err error) {
	c := checker.Model[State, State]{
		Start: m.start(),
		Key: func(s *State) State {
			k := *s
			if w := &k.writers; compare(w[0], w[1]) > 0 {
				w[0], w[1] = w[1], w[0]
			}
			return k
		},
		Wrong: func(s *State) error {
			if err := s.wrong(); err != nil {
				return fmt.Errorf("%w: %+v", err, *s)
			}
			return nil
		},
		Steps: m.steps,
	}
	return c.Check(most)
}

// compare orders writers: it does not matter which one of two does what.
func compare(a, b writer) int {
	return cmp.Compare(a.number(), b.number())
}

func (w writer) number() int {
	n := 0
	for _, b := range []bool{w.foundDocument, w.foundContent, w.moved} {
		if n *= 2; b {
			n++
		}
	}
	return (((n*16+int(w.job))*16+int(w.at))*16+int(w.checked))*16 + int(w.planned)
}

// Ends reports whether a prune that nothing disturbs deletes what nobody needs.
func (m *Model) Ends() bool {
	s := State{document: live, content: true, documentAge: old, contentAge: old}
	for range 100 {
		if next, ok := m.prune(s); ok {
			s = next
		} else {
			s = s.tick()
		}
		if s.document == absent && !s.content && !s.notice {
			return true
		}
	}
	return false
}
