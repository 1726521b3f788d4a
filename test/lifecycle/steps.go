package lifecycle

// start are the states in which everything may begin.
func (m *Model) start() []State {
	var all []State
	for _, s := range []State{
		{}, {content: true}, {document: live, content: true}, {document: live, content: true, offered: true},
		{document: live, content: true, withheld: true, takenOut: true}, {document: tombstone, content: true, withdrawn: true},
	} {
		s.documentAge, s.contentAge, s.removedAge = old, old, grace
		all = append(all, s)
	}
	return all
}

// steps are the states that one step leads to.
func (m *Model) steps(s *State, step func(*State)) {
	for i := range m.Writers {
		m.work(*s, i, step)
	}
	if !m.Prunes {
		return
	}
	n := s.tick()
	step(&n)
	if !s.client.holds && s.offered {
		n := *s
		n.client = held{holds: true}
		step(&n)
	}
	if !s.locked.holds && s.document == live {
		n := *s
		n.locked = held{holds: true}
		step(&n)
	}
	if n, ok := m.prune(*s); ok {
		step(&n)
	}
	if s.pruner.at != marking { // it dies
		n := *s
		n.pruner = State{}.pruner
		step(&n)
	}
}

// tick lets time pass.
func (s State) tick() State {
	age := func(at *uint8, most uint8) { *at = min(*at+1, most) }
	age(&s.documentAge, old)
	age(&s.contentAge, old)
	age(&s.removedAge, grace)
	age(&s.pruner.since, grace)
	if s.notice {
		age(&s.noticeAge, dead)
	}
	for i := range s.writers {
		if w := &s.writers[i]; w.job != none {
			age(&w.checked, fresh+1)
			age(&w.planned, young+1)
		}
	}
	s.pruner.listed = false
	for _, h := range []*held{&s.client, &s.locked} {
		if h.holds {
			if age(&h.age, grace); h.age == grace {
				*h = held{}
			}
		}
	}
	return s
}

// point replaces the index.
func (s *State) point(offered, withdrawn bool) {
	s.offered, s.withdrawn, s.pruner.moved = offered, withdrawn, true
	for i := range s.writers {
		if w := &s.writers[i]; w.job != none {
			w.moved = true
		}
	}
}

// atWork reports whether a prune is, as those see who would have to object.
func (s *State) atWork() bool { return s.notice && s.noticeAge < dead }

// work takes each step that a writer can take.
func (m *Model) work(s State, i int, step func(*State)) {
	w := &s.writers[i]
	if w.job == none {
		for j := none + 1; j < jobs; j++ {
			n := s
			if m.begins(&n, &n.writers[i], j, s.writers[1-i].job) {
				step(&n)
			}
		}
		return
	}
	dies := s
	dies.writers[i] = writer{}
	step(&dies)
	if w.at == waiting && w.checked == 0 {
		return
	}
	end := false
	switch w.job {
	case publishing:
		end = m.publish(&s, w)
	case healing:
		end = m.heal(&s, w)
	case withdrawing:
		end = m.withdraw(&s, w)
	case undoing:
		end = m.undo(&s, w)
	case takingOut:
		end = m.takeOut(&s, w)
	case returning:
		end = m.bringBack(&s, w)
	}
	if end {
		*w = writer{}
	}
	step(&s)
}

// begins lets a writer begin with a job, if there is anything to do. Not more than one withdraws or undoes at a time.
func (m *Model) begins(s *State, w *writer, j, beside job) bool {
	*w = writer{job: j, at: reading}
	whole := s.document == live && s.content
	switch j {
	case publishing:
		w.foundDocument, w.foundContent, w.at = s.document == live, s.content, sending
		return !s.withdrawn && !(whole && s.offered)
	case healing:
		if w.at = asking; s.documentAge <= young {
			w.at = committing
		} else if m.Fault == HealsBlindly {
			w.at = looking
		}
		return whole && !s.offered && (!s.withdrawn || m.Fault == HealsWithdrawn) && (!s.withheld || m.Fault == HealsWithheld)
	case withdrawing:
		if m.Fault == BuriesFirst {
			w.at = writing
		}
		return s.document == live && beside != withdrawing && beside != undoing
	case undoing:
		if w.at = writing; m.Fault == UndoneLate {
			w.at = reading
		}
		return s.withdrawn && beside != withdrawing && beside != undoing
	case takingOut:
		return s.offered
	}
	return !s.offered && s.document == live
}

// publish is the next step of a publisher.
func (m *Model) publish(s *State, w *writer) (end bool) {
	late := w.checked > fresh && m.Fault != StaleCheck
	switch w.at {
	case sending:
		if !w.foundContent {
			s.send()
		}
		w.at = deciding
	case deciding:
		w.checked = 0
		switch {
		case !w.foundContent && !w.foundDocument && w.planned <= young:
			w.at = writing
		case m.Fault == NoNotice:
			w.at = looking
		default:
			w.at = asking
		}
	case asking:
		w.checked = 0
		if w.at = looking; s.notice {
			s.objection = true
			if s.atWork() && m.Fault != NoPatience {
				w.at = waiting
			}
		}
	case waiting:
		w.at = looking
	case looking:
		if !s.content && m.Fault != NotAgain {
			s.send()
		}
		w.at = writing
	case writing:
		if late {
			w.at = deciding
			break
		}
		if s.document == absent {
			s.document, s.documentAge = live, 0
		}
		w.at = committing
	case committing:
		switch {
		case (w.moved || late) && m.Fault != PointerIgnored:
			w.moved, w.foundDocument, w.at = false, true, deciding
		case s.withdrawn && m.Fault != PublishesWithdrawn && m.Fault != PointerIgnored:
			return true
		default:
			s.withheld, s.takenOut = false, false
			s.point(true, s.withdrawn && m.Fault != PointerIgnored)
			return true
		}
	}
	return false
}

// send stores content. What is there stays, with its age.
func (s *State) send() {
	if !s.content {
		s.content, s.contentAge = true, 0
	}
}

// heal is the next step of a healer.
func (m *Model) heal(s *State, w *writer) (end bool) {
	switch w.at {
	case asking:
		w.checked = 0
		if w.at = looking; m.Fault == HealsUnseen {
			w.at = committing
		}
		return s.atWork()
	case looking:
		w.at = committing
		return s.document != live || !s.content
	case committing:
		if w.checked > fresh && m.Fault != HealsLate && !w.moved {
			w.at = asking
			return false
		}
		if !w.moved || m.Fault == PointerIgnored {
			s.point(true, s.withdrawn)
		}
		return true
	}
	return false
}

// withdraw is the next step of a withdrawal. Whoever reads the mirror from then on is told so, and waits for nothing.
func (m *Model) withdraw(s *State, w *writer) (end bool) {
	switch w.at {
	case reading:
		w.moved, w.at = false, committing
	case committing:
		if w.moved && m.Fault != PointerIgnored {
			w.at = reading
			break
		}
		s.point(false, true)
		s.client = held{}
		w.at = writing
		return m.Fault == BuriesFirst
	case writing:
		if s.document == live {
			s.document, s.documentAge, s.client = tombstone, 0, held{}
		}
		w.at = reading
		return m.Fault != BuriesFirst
	}
	return false
}

// undo is the next step of what gives a withdrawn package again.
func (m *Model) undo(s *State, w *writer) (end bool) {
	switch w.at {
	case writing:
		if s.document == tombstone {
			s.document, s.documentAge = live, 0
		}
		w.at = reading
		return m.Fault == UndoneLate
	case reading:
		w.moved, w.checked, w.foundDocument = false, 0, true
		if w.at = asking; m.Fault == UndoneLate {
			w.at = committing
		} else if m.Fault == UndoneBlindly {
			w.at = looking
		}
		return !s.withdrawn
	case asking:
		w.at, w.checked = looking, 0
		return s.atWork()
	case looking:
		w.foundDocument = s.document == live && s.content || m.Fault == UndoneUnseen
		w.at = committing
	case committing:
		if w.moved && m.Fault != PointerIgnored || w.checked > fresh && m.Fault != UndoneStale {
			w.at = reading
			break
		}
		s.point(w.foundDocument && (!s.withheld || m.Fault == UndoneWithheld), false)
		w.at = writing
		return m.Fault != UndoneLate
	}
	return false
}

// takeOut is the next step of a rollback to when the index did not offer the package.
func (m *Model) takeOut(s *State, w *writer) (end bool) {
	if w.at == reading {
		w.moved, w.at = false, committing
		return !s.offered
	}
	if w.moved && m.Fault != PointerIgnored {
		w.at = reading
		return false
	}
	s.withheld, s.takenOut, s.removedAge = true, true, 0
	s.point(false, s.withdrawn)
	return true
}

// bringBack is the next step of a rollback to when the index offered the package.
func (m *Model) bringBack(s *State, w *writer) (end bool) {
	switch w.at {
	case reading:
		w.moved, w.checked = false, 0
		if w.at = asking; m.Fault == ReturnsBlindly {
			w.at = looking
		}
		return s.offered || s.withdrawn && m.Fault != ReturnsWithdrawn
	case asking:
		w.at, w.checked = looking, 0
		return s.atWork()
	case looking:
		w.at = committing
		return (s.document != live || !s.content) && m.Fault != ReturnsUnseen
	case committing:
		if w.moved && m.Fault != PointerIgnored || w.checked > fresh && m.Fault != ReturnsStale {
			w.at = reading
			break
		}
		s.withheld, s.takenOut = false, false
		s.point(true, s.withdrawn)
		return true
	}
	return false
}
