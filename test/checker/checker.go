// Package checker visits every state that a model can reach.
package checker

import "fmt"

// A TooLargeError says that there are more states than a check may visit. None of those visited is wrong.
type TooLargeError struct{ States int }

func (e *TooLargeError) Error() string { return fmt.Sprintf("more than %d states", e.States) }

// A Model is what is checked. States with the same key are one.
type Model[S any, K comparable] struct {
	Start []S
	Key   func(*S) K
	Wrong func(*S) error               // what must not be
	Steps func(s *S, step func(to *S)) // calls step for each state that one step leads to
	Edge  func(from, to int32)         // if set, it is called after each step, with the numbers of the states
}

// Check visits all states, breadth first and at most limit, and returns how many there are and the first that is wrong.
func (m *Model[S, K]) Check(limit int) (states int, err error) {
	number := make(map[K]int32)
	var queue []S
	visit := func(s *S) (int32, error) {
		k := m.Key(s)
		n, known := number[k]
		if known {
			return n, nil
		}
		if err := m.Wrong(s); err != nil {
			return 0, err
		}
		if len(number) == limit {
			return 0, &TooLargeError{limit}
		}
		n = int32(len(number))
		number[k] = n
		queue = append(queue, *s)
		return n, nil
	}
	for i := range m.Start {
		if _, err := visit(&m.Start[i]); err != nil {
			return len(number), err
		}
	}
	for at := int32(0); len(queue) > 0 && err == nil; at++ {
		s := queue[0]
		queue = queue[1:]
		m.Steps(&s, func(to *S) {
			if err != nil {
				return
			}
			var n int32
			if n, err = visit(to); err == nil && m.Edge != nil {
				m.Edge(at, n)
			}
		})
	}
	return len(number), err
}
