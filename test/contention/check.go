package contention

import "github.com/vantagecompute/slurm-factory-publish/test/checker"

// A violation is something that must not be.
type violation uint8

const (
	nothing violation = iota
	droppedByUs
	ackedUnseen
	indexMissing
	offersUndurable
	ackedLost
	receiptFalse
	endIncomplete
	stuck
	circling
)

var violations = map[violation]string{
	droppedByUs:     "a write of ours drops what the index offered",
	ackedUnseen:     "a publisher reports success, and the index that it saw does not offer its package",
	indexMissing:    "the pointer names an index that is not stored",
	offersUndurable: "the index offers a package that is not stored",
	ackedLost:       "a package was reported as published, is not in the index, and no other program dropped it",
	receiptFalse:    "a receipt says what is not so",
	endIncomplete:   "all have succeeded undisturbed, and the index is not the union in our writing",
	stuck:           "publishers are left that can never finish",
	circling:        "publishers can go round in circles without waiting for anyone",
}

func (v violation) Error() string { return violations[v] }

// stored reports whether the index of a version can be read. The other program stores its own.
func (s *State) stored(v version) bool {
	return v.foreign || v.offers == 0 || s.blobs>>v.offers&1 == 1
}

// check returns what is wrong with a state.
func (m *Model) check(s *State) violation {
	switch {
	case s.broken != nothing:
		return s.broken
	case !s.stored(s.pointer):
		return indexMissing
	case !s.durable.holds(s.pointer.offers):
		return offersUndurable
	}
	for i := range m.Publishers {
		if s.publishers[i].acked && !(s.pointer.offers | s.dropped).has(i) {
			return ackedLost
		}
	}
	for offers, r := range s.receipts {
		if r.there && !set(offers).holds(r.took|r.base.offers) {
			return receiptFalse
		}
	}
	undisturbed := s.left.Crashes == m.Budget.Crashes && s.left.Foreign == m.Budget.Foreign
	if m.ended(s) && undisturbed && s.pointer != (version{offers: all(m.Publishers)}) {
		return endIncomplete
	}
	return nothing
}

// ended reports whether all publishers are done or dead.
func (m *Model) ended(s *State) bool {
	for i := range m.Publishers {
		if at := s.publishers[i].at; at != done && at != dead {
			return false
		}
	}
	return true
}

// A Report is what a check has visited.
type Report struct{ States, Steps int }

// A graph is the states by number, and the steps between them.
type graph struct {
	from, to []int32
	patient  []bool
	ended    []bool // of each state
}

// Check visits all states, at most limit, and returns the first violation. It also makes sure that everyone can finish from
// each of them, and that nobody goes round in circles without waiting.
func (m *Model) Check(limit int) (Report, error) {
	var g graph
	patient := false // the step that is taken
	c := checker.Model[State, key]{
		Start: []State{{left: m.Budget}},
		Key:   m.key,
		Wrong: func(s *State) error {
			if wrong := m.check(s); wrong != nothing {
				return wrong
			}
			return nil
		},
		Steps: func(s *State, step func(*State)) {
			g.ended = append(g.ended, m.ended(s))
			for _, next := range m.steps(s) {
				m.tidy(&next.to)
				patient = next.patient
				step(&next.to)
			}
		},
		Edge: func(from, to int32) {
			g.from, g.to, g.patient = append(g.from, from), append(g.to, to), append(g.patient, patient)
		},
	}
	if _, err := c.Check(limit); err != nil {
		return g.report(), err
	}
	switch {
	case !g.finishes():
		return g.report(), stuck
	case g.circles():
		return g.report(), circling
	}
	return g.report(), nil
}

func (g *graph) report() Report { return Report{len(g.ended), len(g.from)} }

// neighbours arranges steps by the state at one end: those of state i are list[at[i]:at[i+1]].
func (g *graph) neighbours(of, other []int32, wanted func(step int) bool) (at, list []int32) {
	at = make([]int32, len(g.ended)+1)
	for step, i := range of {
		if wanted(step) {
			at[i+1]++
		}
	}
	for i := range g.ended {
		at[i+1] += at[i]
	}
	list = make([]int32, at[len(g.ended)])
	next := append([]int32(nil), at[:len(g.ended)]...)
	for step, i := range of {
		if wanted(step) {
			list[next[i]] = other[step]
			next[i]++
		}
	}
	return at, list
}

// finishes reports whether an end can be reached from every state.
func (g *graph) finishes() bool {
	at, before := g.neighbours(g.to, g.from, func(int) bool { return true })
	good := make([]bool, len(g.ended))
	var todo []int32
	visit := func(i int32) {
		if !good[i] {
			good[i] = true
			todo = append(todo, i)
		}
	}
	for i, end := range g.ended {
		if end {
			visit(int32(i))
		}
	}
	seen := 0
	for ; len(todo) > 0; seen++ {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, j := range before[at[i]:at[i+1]] {
			visit(j)
		}
	}
	return seen == len(good)
}

// circles reports whether there is a cycle of steps none of which is patient.
func (g *graph) circles() bool {
	eager := func(step int) bool { return !g.patient[step] }
	at, after := g.neighbours(g.from, g.to, eager)
	entries := make([]int32, len(g.ended))
	for _, j := range after {
		entries[j]++
	}
	var todo []int32
	for i, n := range entries {
		if n == 0 {
			todo = append(todo, int32(i))
		}
	}
	seen := 0
	for ; len(todo) > 0; seen++ {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, j := range after[at[i]:at[i+1]] {
			if entries[j]--; entries[j] == 0 {
				todo = append(todo, j)
			}
		}
	}
	return seen < len(entries)
}
