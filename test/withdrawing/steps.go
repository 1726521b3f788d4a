package withdrawing

// next are the states that one step leads to.
func (m *Model) next(s State) []State {
	all := []State{m.publish(s), m.withdraw(s), m.heal(s), m.rollBack(s)}
	if s.publisher.at != idle { // it dies
		n := s
		n.dirty = n.dirty || s.publisher.at > committingView
		n.publisher = worker{}
		all = append(all, n)
	}
	if w := s.withdrawer; w.at != idle && w.at != withdrawn { // it dies, and is run again
		n := s
		n.withdrawer = worker{at: m.first(w.undo), undo: w.undo}
		all = append(all, n)
	}
	return all
}

// publish is the next step of the publisher.
func (m *Model) publish(s State) State {
	p := &s.publisher
	switch p.at {
	case idle:
		if !s.all.withdrawn { // else the plan leaves it out
			p.at = storing
		}
	case storing:
		if s.document == absent {
			s.document = live
		}
		p.at = reading
	case reading:
		p.allMoved, p.seen = false, s.all.withdrawn
		if p.at = committing; p.seen && m.Fault != PublishesWithdrawn {
			p.at = beginning
		}
	case committing:
		switch {
		case p.allMoved && m.Fault != PointerIgnored:
			p.at = reading
		default:
			w := s.all.withdrawn && m.Fault != PointerIgnored
			p.at, s.withheld, s.takenOut = beginning, false, false
			s.setAll(index{offered: true, withdrawn: w})
		}
	case beginning:
		p.allMoved, p.seen, p.at = false, s.all.withdrawn, readingView
	case readingView:
		p.view = s.view
		if p.viewMoved, p.at = false, committingView; p.seen {
			p.at = checking
		}
	case committingView:
		if p.viewMoved && m.Fault != ViewIgnored {
			p.at = readingView
			break
		}
		if p.at = checking; !p.view.withdrawn {
			s.setView(index{offered: true})
		}
	case checking:
		if p.at = idle; p.allMoved && m.Fault != NoLook {
			p.at = aligning
		}
	default:
		m.align(&s, p, idle)
	}
	return s
}

// align is the next step of what makes the view obey the pointer of the whole mirror.
func (m *Model) align(s *State, w *worker, then phase) {
	switch w.at {
	case aligning:
		w.allMoved, w.seen, w.at = false, s.all.withdrawn, readingAlign
	case readingAlign:
		w.viewMoved, w.at, w.view = false, committingAlign, s.view
	case committingAlign:
		if w.viewMoved && m.Fault != ViewIgnored {
			w.at = readingAlign
			break
		}
		if w.at = checkingAlign; w == &s.withdrawer {
			s.dirty = false
		}
		switch {
		case w.seen && w.view.offered:
			s.setView(index{withdrawn: true})
		case !w.seen && w.view.withdrawn:
			s.setView(index{offered: s.document == live})
		}
	case checkingAlign:
		if w.at = then; w.allMoved && m.Fault != NoLookAgain {
			w.at = aligning
		}
	}
}

// first is where a withdrawal begins, or an undo.
func (m *Model) first(undo bool) phase {
	switch {
	case undo && m.Fault != UndoneLate:
		return exhuming
	case !undo && m.Fault == BuriesFirst:
		return burying
	}
	return reading
}

// withdraw is the next step of the withdrawer.
func (m *Model) withdraw(s State) State {
	w := &s.withdrawer
	switch w.at {
	case idle:
		if s.document == live {
			*w = worker{at: m.first(false)}
		}
	case withdrawn:
		*w = worker{at: m.first(true), undo: true}
	case reading:
		w.allMoved, w.at = false, committing
	case committing:
		if w.allMoved {
			w.at = reading
			break
		}
		if w.at = aligning; w.undo {
			s.withheld, s.takenOut = false, false
			s.setAll(index{offered: s.document == live || m.Fault == UndoneLate})
		} else {
			s.setAll(index{withdrawn: true})
		}
		if !w.undo && m.Fault == SkipsViews {
			w.at = burying
		}
		if w.undo && m.Fault == UndoSkipsViews {
			*w = worker{}
		}
	case burying:
		if s.document == live {
			s.document = tombstone
		}
		if w.at = withdrawn; m.Fault == BuriesFirst && !s.all.withdrawn {
			w.at = reading
		}
	case exhuming:
		s.document = live
		if w.at = reading; m.Fault == UndoneLate {
			*w = worker{}
		}
	case checkingAlign:
		then := burying
		if w.undo {
			if then = idle; m.Fault == UndoneLate {
				then = exhuming
			}
		}
		m.align(&s, w, then)
		if w.at == then && then == idle {
			*w = worker{}
		}
	default:
		m.align(&s, w, burying)
	}
	return s
}

// heal is the next step of the healer, which indexes what it finds.
func (m *Model) heal(s State) State {
	if !s.healing {
		found := s.document == live && !s.all.offered && (!s.all.withdrawn || m.Fault == HealsWithdrawn) && (!s.withheld || m.Fault == HealsWithheld)
		s.healing, s.healerMoved = found, false
		return s
	}
	if s.healing = false; !s.healerMoved || m.Fault == PointerIgnored {
		s.setAll(index{offered: true, withdrawn: s.all.withdrawn})
	}
	return s
}

// rollBack is the next step of a rollback of the whole mirror, to when it did not offer the package, or did.
func (m *Model) rollBack(s State) State {
	if !s.rolling {
		s.rolling, s.rollbackMoved = true, false
		return s
	}
	s.rolling = false
	switch {
	case s.rollbackMoved && m.Fault != PointerIgnored:
	case s.all.offered:
		s.withheld, s.takenOut = true, true
		s.setAll(index{withdrawn: s.all.withdrawn})
	case s.document == live && (!s.all.withdrawn || m.Fault == ReturnsWithdrawn):
		s.withheld, s.takenOut = false, false
		s.setAll(index{offered: true, withdrawn: s.all.withdrawn})
	}
	return s
}
