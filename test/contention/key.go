package contention

import "bytes"

// A key is a state as a map holds it. States that differ only in who is which publisher have the same key.
type key [80]byte

// key writes a state for every order of the publishers and returns the least.
func (m *Model) key(s *State) key {
	var least key
	for n, order := range orders[m.Publishers] {
		k := s.renamed(order)
		if n == 0 || bytes.Compare(k[:], least[:]) < 0 {
			least = k
		}
	}
	return least
}

// orders are those of 1, 2 and 3 publishers: order[i] is the new number of publisher i.
var orders = map[int][][maxPublishers]uint8{
	1: {{0, 1, 2}},
	2: {{0, 1, 2}, {1, 0, 2}},
	3: {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}},
}

// A writer writes a state with the publishers renamed.
type writer struct {
	out   key
	n     int
	order [maxPublishers]uint8
	sets  [1 << maxPublishers]set // each set renamed
}

func (w *writer) byte(b byte) {
	w.out[w.n] = b
	w.n++
}

func (w *writer) version(v version) byte {
	if v.foreign {
		return byte(w.sets[v.offers]) | 1<<maxPublishers
	}
	return byte(w.sets[v.offers])
}

func (s *State) renamed(order [maxPublishers]uint8) key {
	w := writer{order: order}
	var back [1 << maxPublishers]set
	for of := range w.sets {
		for i := range maxPublishers {
			if set(of).has(i) {
				w.sets[of] |= only(int(order[i]))
			}
		}
		back[w.sets[of]] = set(of)
	}
	w.byte(w.version(s.pointer))
	blobs := byte(0)
	for of := range back {
		blobs |= s.blobs >> back[of] & 1 << of
	}
	w.byte(blobs)
	for of := range back {
		r := s.receipts[back[of]]
		w.byte(bit(r.there)<<7 | byte(w.sets[r.took])<<4 | w.version(r.base))
	}
	for n := range versions {
		of := version{n >= versions/2, back[n%(versions/2)]}.number()
		w.byte(byte(w.sets[s.announced[of]]))
		l := s.leads[of]
		if l.holder > 0 {
			l.holder = order[l.holder-1] + 1
		}
		w.byte(l.holder<<6 | l.number<<4 | bit(l.spent)<<3 | byte(w.sets[l.found]))
	}
	w.byte(byte(w.sets[s.durable])<<4 | byte(w.sets[s.dropped]))
	w.byte(bit(s.otherLooked)<<7 | byte(w.sets[s.otherSaw])<<4 | s.left.Foreign)
	w.byte(s.left.Crashes<<4 | s.left.Lost<<2 | s.left.Late)
	w.byte(byte(s.broken))
	w.publishers(s)
	return w.out
}

func (w *writer) publishers(s *State) {
	const size = 6
	at := w.n
	for i, p := range s.publishers {
		w.n = at + int(w.order[i])*size
		w.byte(byte(p.at))
		w.byte(w.version(p.base)<<4 | w.version(p.seen))
		w.byte(w.version(p.hop)<<4 | byte(w.sets[p.takes]))
		w.byte(p.leadSeen<<4 | bit(p.acked)<<1 | bit(p.late))
		w.byte(w.version(p.lateBase)<<4 | w.version(p.lateNext))
	}
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// tidy forgets what nobody can come back to: hints and receipts of versions that the pointer can no longer have. While the other
// program may still write, any version can come back.
func (m *Model) tidy(s *State) {
	if m.ended(s) {
		s.receipts = [versions / 2]receipt{}
		s.announced, s.leads = [versions]set{}, [versions]lead{}
		return
	}
	if s.otherLooked || s.left.Foreign > 0 {
		return
	}
	var reachable, listed [versions]bool
	use := func(v version) {
		for {
			if reachable[v.number()] {
				return
			}
			reachable[v.number()], listed[v.number()] = true, true
			r := s.receipts[v.offers]
			if v.foreign || !r.there {
				return
			}
			v = r.base
		}
	}
	for offers := range set(versions / 2) {
		if offers.holds(s.pointer.offers) {
			use(version{offers: offers})
		}
	}
	use(s.pointer)
	for _, p := range s.publishers[:m.Publishers] {
		if p.at != done && p.at != dead {
			use(p.base)
			use(p.seen)
			use(p.hop)
		}
	}
	for n := range versions {
		if !reachable[n] {
			s.leads[n], s.announced[n] = lead{}, 0
			if n < versions/2 {
				s.receipts[n] = receipt{}
			}
		}
	}
}
