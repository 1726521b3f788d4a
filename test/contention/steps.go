package contention

// A step is a change of state that a Model allows.
type step struct {
	to State
	// patient marks steps that a publisher may repeat without getting anywhere: a poll, and a takeover.
	patient bool
}

// A mover collects the steps of one publisher.
type mover struct {
	m     *Model
	s     *State
	i     int
	steps *[]step
}

// to adds a step of the publisher to a phase. change may be nil.
func (v *mover) to(at phase, change func(s *State, p *publisher)) {
	v.add(at, false, change)
}

// patiently adds a step that may be repeated.
func (v *mover) patiently(at phase, change func(s *State, p *publisher)) {
	v.add(at, true, change)
}

func (v *mover) add(at phase, patient bool, change func(s *State, p *publisher)) {
	next := *v.s
	p := &next.publishers[v.i]
	p.at = at
	if change != nil {
		change(&next, p)
	}
	p.forget()
	*v.steps = append(*v.steps, step{next, patient})
}

// forget clears what the phase no longer needs, so that equal states are equal.
func (p *publisher) forget() {
	switch p.at {
	case done, dead, resting:
		base := p.base
		*p = publisher{at: p.at, acked: p.acked, late: p.late, lateBase: p.lateBase, lateNext: p.lateNext}
		if p.at == resting {
			p.base = base
		}
	case deposing, deposed:
		p.seen, p.hop, p.takes = version{}, version{}, 0
	case following:
		p.takes, p.leadSeen = 0, 0
	case gathering, leaping, preparing, receipting, swapping, swapped:
		p.seen, p.hop, p.leadSeen = version{}, version{}, 0
	default:
		p.seen, p.hop, p.takes, p.leadSeen = version{}, version{}, 0, 0
	}
}

// steps returns every step that is possible in a state.
func (m *Model) steps(s *State) []step {
	var steps []step
	for i := range m.Publishers {
		v := &mover{m, s, i, &steps}
		v.lateWrite()
		if p := &s.publishers[i]; p.at == done || p.at == dead {
			continue
		}
		if s.left.Crashes > 0 {
			v.to(dead, func(s *State, _ *publisher) { s.left.Crashes-- })
		}
		v.move()
	}
	return m.foreign(s, steps)
}

// foreign lets the other program list what there is, and some time later write an index of that.
func (m *Model) foreign(s *State, steps []step) []step {
	next := *s
	switch {
	case s.otherLooked:
		next.otherLooked, next.otherSaw = false, 0
		next.dropped = (s.dropped | s.pointer.offers) &^ s.otherSaw
		next.pointer = version{foreign: true, offers: s.otherSaw}
	case s.left.Foreign > 0:
		next.left.Foreign--
		next.otherLooked, next.otherSaw = true, s.durable
	default:
		return steps
	}
	return append(steps, step{next, false})
}

// lateWrite lets a write arrive that its publisher has given up.
func (v *mover) lateWrite() {
	p := v.s.publishers[v.i]
	if !p.late {
		return
	}
	v.to(p.at, func(s *State, q *publisher) {
		q.late, q.lateBase, q.lateNext = false, version{}, version{}
		if s.pointer == p.lateBase || v.m.Fault == BlindSwap {
			s.replace(p.lateNext)
		}
	})
}

// replace writes the pointer.
func (s *State) replace(next version) {
	if !next.offers.holds(s.pointer.offers) {
		s.broken = droppedByUs
	}
	s.dropped &^= next.offers
	s.pointer = next
}

func (v *mover) move() {
	s, i := v.s, v.i
	p := s.publishers[i]
	me := only(i)
	switch p.at {
	case storing:
		v.to(looking, func(s *State, _ *publisher) { s.durable |= me })
	case looking:
		v.to(claiming, func(s *State, p *publisher) { p.base = s.pointer })
	case claiming:
		v.claim()
	case claimed:
		v.holds()
	case announcing:
		v.to(waiting, func(s *State, p *publisher) { s.announced[p.base.number()] |= me })
	case waiting:
		v.wait()
	case deposing:
		v.depose()
	case deposed:
		v.holds()
	case following:
		v.follow()
	case reading:
		v.to(gathering, func(s *State, p *publisher) {
			if !s.stored(p.base) {
				s.broken = indexMissing
			}
		})
	case gathering:
		v.gather()
	case leaping:
		v.unlessMoved(preparing)
	case preparing, receipting:
		v.prepare()
	case swapping:
		v.swap()
	case swapped:
		v.reconcile()
	case resting:
		v.to(done, func(s *State, _ *publisher) {
			if l := &s.leads[p.base.number()]; !v.m.Free && l.holder == uint8(i+1) {
				l.spend(0)
			}
		})
	}
}

func (v *mover) claim() {
	if v.m.Free {
		v.to(reading, nil)
		v.to(waiting, nil)
		return
	}
	g := v.s.publishers[v.i].base.number()
	if v.s.leads[g].holder != 0 {
		v.to(announcing, nil)
		return
	}
	take := func(s *State, _ *publisher) { s.leads[g].take(v.i) }
	v.to(reading, take)
	v.lost(claimed, take)
	v.lost(announcing, take) // its own claim is in the way when it claims again
}

// lost adds a step that is made and whose answer does not arrive.
func (v *mover) lost(at phase, change func(s *State, p *publisher)) {
	if v.s.left.Lost == 0 {
		return
	}
	v.to(at, func(s *State, p *publisher) {
		s.left.Lost--
		change(s, p)
	})
}

func (l *lead) take(i int) { *l = lead{holder: uint8(i + 1), number: l.number%3 + 1} }

func (l *lead) spend(found set) { l.spent, l.found, l.number = true, found, l.number%3+1 }

// holds reads the lead after an answer was lost.
func (v *mover) holds() {
	if v.s.leads[v.s.publishers[v.i].base.number()].holder == uint8(v.i+1) {
		v.to(reading, nil)
		return
	}
	v.to(announcing, nil)
}

func (v *mover) wait() {
	p := v.s.publishers[v.i]
	g := p.base.number()
	l := v.s.leads[g]
	if v.s.pointer != p.base {
		v.moved()
		return
	}
	v.patiently(waiting, nil) // a poll
	switch {
	case v.m.Free:
		v.patiently(reading, nil)
	case l.spent && l.found.has(v.i):
		v.ack(p.base)
	case l.holder == uint8(v.i+1) && !l.spent:
		v.patiently(reading, nil)
	case v.m.Fault != NoDeposition: // it cannot tell a dead leader from a slow one
		v.patiently(deposing, func(_ *State, p *publisher) { p.leadSeen = l.number })
	}
}

func (v *mover) depose() {
	p := v.s.publishers[v.i]
	g := p.base.number()
	if v.s.leads[g].number != p.leadSeen {
		v.to(waiting, nil)
		return
	}
	take := func(s *State, _ *publisher) { s.leads[g].take(v.i) }
	v.patiently(reading, take)
	v.lost(deposed, take)
}

// moved follows receipts from the pointer as it is now.
func (v *mover) moved() {
	v.to(following, func(s *State, p *publisher) { p.seen, p.hop = s.pointer, s.pointer })
}

// unlessMoved goes on if the pointer is still the base.
func (v *mover) unlessMoved(at phase) {
	if v.s.pointer != v.s.publishers[v.i].base {
		v.moved()
		return
	}
	v.to(at, nil)
}

func (v *mover) follow() {
	p := v.s.publishers[v.i]
	r := v.s.receipts[p.hop.offers]
	again := func(_ *State, p *publisher) { p.base = p.seen }
	switch {
	case v.m.Fault == AckOnMove, v.m.Fault == TrustForeign && p.hop.foreign:
		v.ack(p.seen)
	case p.hop.foreign || !r.there:
		v.to(claiming, again)
	case r.took.has(v.i):
		v.ack(p.seen)
	case r.base == p.base || r.base == p.hop:
		v.to(claiming, again)
	default:
		v.to(following, func(_ *State, p *publisher) { p.hop = r.base })
	}
}

// gather lists announcements. A list may miss some: its answer may be older than it seems.
func (v *mover) gather() {
	p := v.s.publishers[v.i]
	hints := v.s.durable
	if !v.m.Free {
		hints = v.s.announced[p.base.number()]
		if r := v.s.receipts[p.base.offers]; !p.base.foreign && r.there {
			hints |= v.s.announced[r.base.number()]
		}
	}
	me := only(v.i)
	(hints &^ me).subsets(func(others set) {
		takes := others | me
		if p.base.offers.holds(takes) {
			v.found(takes)
			return
		}
		v.to(leaping, func(_ *State, p *publisher) { p.takes = takes })
	})
}

// found is a turn that finds everything in the index already. It gives the lead back and says what it found.
func (v *mover) found(takes set) {
	v.to(done, func(s *State, p *publisher) {
		p.acked = true
		if l := &s.leads[p.base.number()]; !v.m.Free && l.holder == uint8(v.i+1) {
			l.spend(takes)
		}
	})
}

// prepare stores the index and the receipt, in either order. A receipt may be refused, and one that is there stays.
func (v *mover) prepare() {
	p := v.s.publishers[v.i]
	index := p.base.offers | p.takes
	took := p.takes
	if v.m.Fault == GuessedReceipt {
		took = v.s.durable
	}
	blob := func(s *State, _ *publisher) {
		if v.m.Fault != PointerFirst {
			s.blobs |= 1 << index
		}
	}
	written := func(s *State, p *publisher) {
		if r := &s.receipts[index]; !r.there {
			*r = receipt{true, p.base, took}
		}
	}
	if p.at == receipting {
		v.to(swapping, written)
		v.to(swapping, nil)
		return
	}
	v.to(receipting, blob)
	v.to(swapping, func(s *State, p *publisher) {
		written(s, p)
		blob(s, p)
	})
}

func (v *mover) swap() {
	p := v.s.publishers[v.i]
	next := version{offers: p.base.offers | p.takes}
	if v.s.pointer == p.base || v.m.Fault == BlindSwap {
		write := func(s *State, _ *publisher) { s.replace(next) }
		v.to(resting, func(s *State, p *publisher) {
			write(s, p)
			p.acked = true
		})
		v.lost(swapped, write)
	} else {
		v.moved()
	}
	if v.s.left.Late > 0 && !p.late {
		v.to(swapped, func(s *State, p *publisher) {
			s.left.Late--
			p.late, p.lateBase, p.lateNext = true, p.base, next
		})
	}
}

// reconcile reads the pointer after the answer to a swap was lost.
func (v *mover) reconcile() {
	p := v.s.publishers[v.i]
	switch v.s.pointer {
	case version{offers: p.base.offers | p.takes}:
		v.ack(v.s.pointer)
	case p.base:
		v.to(swapping, nil)
	default:
		v.moved()
	}
}

// ack reports success because of the index that was seen.
func (v *mover) ack(seen version) {
	v.to(done, func(s *State, p *publisher) {
		p.acked = true
		if !seen.offers.has(v.i) {
			s.broken = ackedUnseen
		}
	})
}
