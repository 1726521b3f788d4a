package pruning

// next are the states that one step leads to.
func (m *Model) next(s State) []State {
	all := []State{s.tick()}
	if !s.client.holds && s.offered {
		n := s
		n.client = reading{holds: true}
		all = append(all, n)
	}
	if !s.locked.holds && s.document {
		n := s
		n.locked = reading{holds: true}
		all = append(all, n)
	}
	all = append(all, m.publish(s)...)
	all = append(all, m.heal(s)...)
	all = append(all, m.prune(s)...)
	// Whoever dies begins again, and knows nothing.
	if s.publisher.at != planning {
		n := s
		n.publisher = State{}.publisher
		all = append(all, n)
	}
	if s.pruner.at != marking {
		n := s
		n.pruner = State{}.pruner
		all = append(all, n)
	}
	return all
}

// publish is the next step of the publisher.
func (m *Model) publish(s State) []State {
	p := &s.publisher
	switch p.at {
	case planning:
		if s.document && s.content && s.offered {
			return nil
		}
		p.foundDocument, p.foundContent, p.moved, p.at = s.document, s.content, false, sending
	case sending:
		if !p.foundContent {
			s.send()
		}
		p.at = deciding
	case deciding:
		p.checked = 0
		switch {
		case !p.foundContent && !p.foundDocument && p.sent <= young:
			p.at = writing
		case m.Fault == NoNotice:
			p.at = looking
		default:
			p.at = objecting
		}
	case objecting:
		p.checked = 0
		if p.at = looking; s.notice {
			s.objection = true
			if p.at = waiting; m.Fault == NoPatience || s.noticeAge >= dead {
				p.at = looking
			}
		}
	case waiting:
		if p.checked == 0 {
			return nil
		}
		p.at = looking
	case looking:
		if m.Fault != NotAgain {
			if !s.content {
				s.send()
			}
		}
		p.at = writing
	case writing:
		if p.checked > fresh && m.Fault != StaleCheck {
			p.at = deciding
			break
		}
		if !s.document {
			s.document, s.documentAge = true, 0
		}
		p.at = committing
	case committing:
		if (p.moved || p.checked > fresh && m.Fault != StaleCheck) && m.Fault != PointerIgnored {
			p.moved, p.foundDocument, p.at = false, true, deciding
			break
		}
		s.setOffer(true)
		p.at = planning
		s.publisher = State{}.publisher
	}
	return []State{s}
}

// send stores content. What is there stays, with its age.
func (s *State) send() {
	if !s.content {
		s.content, s.contentAge = true, 0
	}
	s.publisher.sent = 0
}

// heal is the next step of the healer.
func (m *Model) heal(s State) []State {
	h := &s.healer
	switch h.at {
	case searching:
		if !s.document || !s.content || s.offered {
			return nil
		}
		h.moved, h.checked = false, 0
		if h.at = asking; s.documentAge <= young {
			h.at = healing
		} else if m.Fault == HealsBlindly {
			h.at = checking
		}
	case asking:
		h.checked = 0
		if h.at = checking; s.notice && s.noticeAge < dead {
			h.at = searching
		} else if m.Fault == HealsUnseen {
			h.at = healing
		}
	case checking:
		if h.at = healing; !s.document || !s.content {
			h.at = searching
		}
	case healing:
		switch {
		case h.moved:
			h.at = searching
		case h.checked > fresh:
			h.at = asking
		default:
			s.setOffer(true)
			h.at = searching
		}
	}
	if s.healer.at == searching {
		s.healer = State{}.healer
	}
	return []State{s}
}

// prune is the next step of the prune.
func (m *Model) prune(s State) []State {
	p := &s.pruner
	isOld := func(age uint8) bool { return age >= old || m.Fault == DeletesYoung }
	switch p.at {
	case marking:
		p.document = s.document && isOld(s.documentAge)
		p.content = s.content && isOld(s.contentAge) && (!s.document || p.document)
		if !p.document && !p.content {
			return nil
		}
		p.at = noticing
	case noticing:
		if s.notice && s.noticeAge <= alive { // another prune may be at work
			return nil
		}
		s.notice, s.noticeAge, p.since, p.at = true, 0, 0, withdrawing
	case withdrawing:
		if p.document && s.offered && m.Fault != StillOffered {
			s.setOffer(false)
			p.since = 0
		}
		p.at = pausing
	case pausing:
		if p.since < grace && m.Fault != NoFirstGrace {
			return m.renews(s)
		}
		p.at = lookingAgain
	case lookingAgain:
		p.moved = false
		if m.Fault != NoSecondLook {
			p.document = p.document && s.document && isOld(s.documentAge) && (!s.offered || m.Fault == StillOffered)
		}
		if p.at = listing; m.Fault == ContentFirst {
			p.at = lookingAtContent
		}
	case listing:
		p.at = deletingDocument
		m.list(&s)
	case deletingDocument:
		if p.document && !p.listed && m.Fault != SlowRequest {
			p.at = listing
			break
		}
		if p.moved && s.offered {
			p.document = false
		}
		if p.document {
			s.document, p.since = false, 0
		}
		if p.at = pausingAgain; m.Fault == ContentFirst {
			p.at = ending
		}
	case pausingAgain:
		if p.document && p.since < grace && m.Fault != NoSecondGrace {
			return m.renews(s)
		}
		p.at = lookingAtContent
	case lookingAtContent:
		if m.Fault != NoSecondLook {
			p.content = p.content && s.content && isOld(s.contentAge) && (!s.document || m.Fault == ContentFirst)
		}
		p.at = listingAgain
	case listingAgain:
		p.at = deletingContent
		m.list(&s)
	case deletingContent:
		if p.content && !p.listed && m.Fault != SlowRequest {
			p.at = listingAgain
			break
		}
		if p.content {
			s.content = false
		}
		if p.at = ending; m.Fault == ContentFirst {
			p.at = listing
		}
	case ending:
		s.notice, s.objection = false, false
		s.pruner = State{}.pruner
	}
	return []State{s}
}

// renews is a prune that waits and renews its notice.
func (m *Model) renews(s State) []State {
	if s.noticeAge == 0 || s.noticeAge > alive && m.Fault != SleepsOn {
		return nil // or it has died
	}
	s.noticeAge = 0
	return []State{s}
}

// list renews the notice, lists the objections, and obeys them. A prune that could not renew its notice in time stops.
func (m *Model) list(s *State) {
	if s.noticeAge > alive && m.Fault != SleepsOn && m.Fault != NoRenewal {
		s.pruner = State{}.pruner
		return
	}
	if m.Fault != NoRenewal {
		s.noticeAge = 0
	}
	s.pruner.listed = true
	if s.objection && m.Fault != Disobedient {
		s.pruner.document, s.pruner.content = false, false
	}
}
