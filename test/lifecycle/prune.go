package lifecycle

// prune is the next step of the prune, if it has any.
func (m *Model) prune(s State) (next State, ok bool) {
	p := &s.pruner
	isOld := func(age uint8) bool { return age >= old || m.Fault == DeletesYoung }
	spare := func() bool { return s.document == tombstone && m.Fault != DeletesBuried } // it points at the content, for an undo
	switch p.at {
	case marking:
		p.document = s.document == live && isOld(s.documentAge)
		p.content = s.content && isOld(s.contentAge) && (s.document != live || p.document) && !spare()
		if !p.document && !p.content {
			return s, false
		}
		p.at = noticing
	case noticing:
		if s.notice && s.noticeAge <= alive { // another prune may be at work
			return s, false
		}
		s.notice, s.noticeAge, p.since, p.at = true, 0, 0, retracting
	case retracting:
		if p.document && s.offered && m.Fault != StillOffered {
			s.point(false, s.withdrawn)
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
		if s.removedAge < grace && m.Fault != ForgetsOffers {
			p.document = false
		}
		if m.Fault != NoSecondLook {
			p.document = p.document && s.document == live && isOld(s.documentAge) && (!s.offered || m.Fault == StillOffered)
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
			s.document, p.since = absent, 0
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
			p.content = p.content && s.content && isOld(s.contentAge) && (s.document != live || m.Fault == ContentFirst) && !spare()
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
		s.notice, s.noticeAge, s.objection = false, 0, false
		s.pruner = State{}.pruner
	}
	return s, true
}

// renews is a prune that waits and renews its notice.
func (m *Model) renews(s State) (next State, ok bool) {
	if s.noticeAge == 0 || s.noticeAge > alive && m.Fault != SleepsOn {
		return s, false // or it has died
	}
	s.noticeAge = 0
	return s, true
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
