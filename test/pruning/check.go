package pruning

import (
	"errors"
	"fmt"
)

// What must not be.
var (
	errPointsAtNothing = errors.New("a document points at content that is gone")
	errOffersNothing   = errors.New("the index offers a package whose document is gone")
	errClientMisses    = errors.New("a client misses what it has read of a moment ago")
)

func (s *State) check() error {
	switch {
	case s.document && !s.content:
		return errPointsAtNothing
	case s.offered && !s.document:
		return errOffersNothing
	case s.client.holds && (!s.document || !s.content), s.locked.holds && !s.content:
		return errClientMisses
	}
	return nil
}

// Check visits every state that can be reached, and returns how many there are. The error says what is wrong with one of them, and
// that there are more than most.
func (m *Model) Check(most int) (states int, err error) {
	seen := make(map[State]bool)
	var queue []State
	visit := func(s State) error {
		if seen[s] {
			return nil
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("%w: %+v", err, s)
		}
		if len(seen) == most {
			return fmt.Errorf("more than %d states", most)
		}
		seen[s] = true
		queue = append(queue, s)
		return nil
	}
	for _, s := range m.start() {
		if err := visit(s); err != nil {
			return len(seen), err
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, n := range m.next(s) {
			if err := visit(n); err != nil {
				return len(seen), err
			}
		}
	}
	return len(seen), nil
}

// Ends reports whether a prune that nothing disturbs deletes what nobody needs.
func (m *Model) Ends() bool {
	s := State{document: true, content: true, documentAge: old, contentAge: old}
	for range 100 {
		if next := m.prune(s); next != nil {
			s = next[0]
		} else {
			s = s.tick()
		}
		if !s.document && !s.content && !s.notice {
			return true
		}
	}
	return false
}
