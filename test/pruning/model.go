// Package pruning is a model of a prune beside a publisher, a healer and a client, and a checker that visits every state that it
// can reach.
//
// The protocol is that of publish/prune and publish/reindex/notice. The model has one package: a document that points at content,
// and an index that offers it or not. No rule keeps the package. The publisher has it, the healer indexes it where it finds it
// unindexed, and the client has read an index that offers it. Each may stop for any time between two steps, and the publisher, the
// healer and the prune may die at any step and begin again. The storage deletes whatever is there, as if there were no condition,
// because content that is stored again has the same version.
//
// What holds is in check.go. A Fault leaves one condition of the protocol out; the checker must then find a violation.
package pruning

// Times, in ticks. The real ones are in the same order: see the constants of notice, and Options of prune.
const (
	fresh = 1 // for how long a publisher may rely on having seen no notice
	young = 1 // up to which age a publisher relies on what it has sent
	grace = 2 // for how long a client works with an index, and a prune waits
	old   = 3 // from which age a prune deletes
	alive = 1 // how old its notice is when a prune renews it at the latest
	dead  = 2 // from which age on of a notice its prune counts as dead
)

// A Fault is a condition that is left out.
type Fault string

// The faults.
const (
	None           Fault = ""
	NoNotice       Fault = "a publisher does not look for the notice"
	NotAgain       Fault = "a publisher does not look again at what it has found, after it has looked for the notice"
	NoPatience     Fault = "a publisher that objects does not wait"
	StaleCheck     Fault = "a publisher relies on having seen no notice for ever"
	HealsBlindly   Fault = "a healer does not look for the notice"
	HealsUnseen    Fault = "a healer does not look again at what it has found"
	Disobedient    Fault = "a prune does not obey objections"
	SlowRequest    Fault = "a request that deletes may end at any time"
	NoFirstGrace   Fault = "a prune does not wait before documents"
	NoSecondGrace  Fault = "a prune does not wait before content"
	NoSecondLook   Fault = "a prune does not read the mirror again"
	DeletesYoung   Fault = "a prune deletes what is young"
	ContentFirst   Fault = "a prune deletes content before documents"
	StillOffered   Fault = "a prune does not withdraw the offer first"
	NoRenewal      Fault = "a prune does not renew its notice before it deletes"
	SleepsOn       Fault = "a prune goes on whose notice it could not renew in time"
	PointerIgnored Fault = "a publisher replaces the index whatever it has become"
)

// A publisherPhase is what the publisher does next.
type publisherPhase uint8

const (
	planning publisherPhase = iota
	sending
	deciding // whether it relies on anything
	objecting
	waiting // after an objection
	looking
	writing
	committing
)

// A healerPhase is what the healer does next.
type healerPhase uint8

const (
	searching healerPhase = iota
	asking                // for the notice
	checking              // whether what it has found is still there
	healing
)

// A prunerPhase is what the prune does next.
type prunerPhase uint8

const (
	marking prunerPhase = iota
	noticing
	withdrawing
	pausing
	lookingAgain
	listing
	deletingDocument
	pausingAgain
	lookingAtContent
	listingAgain
	deletingContent
	ending
)

// A State is the mirror and everyone who works with it.
type State struct {
	document, content       bool
	documentAge, contentAge uint8
	offered                 bool // by the index
	notice, objection       bool
	noticeAge               uint8 // since it was renewed

	publisher struct {
		at                          publisherPhase
		foundDocument, foundContent bool
		moved                       bool  // the index is another than the one that it has read
		checked                     uint8 // ticks since it looked for the notice, or objected
		sent                        uint8 // since it has sent content
	}
	healer struct {
		at      healerPhase
		moved   bool
		checked uint8
	}
	pruner struct {
		at                prunerPhase
		document, content bool  // that it has marked
		moved             bool  // the index is another than when it looked
		since             uint8 // ticks since it gave notice, or changed something
		listed            bool  // it has listed the objections in this tick
	}
	client reading // has read an index that offers the package
	locked reading // has read the document, and no index: it installs what a lock file names
}

// A reading is what a client has read, and for how long it works with that.
type reading struct {
	holds bool
	age   uint8
}

// A Model is what is checked.
type Model struct{ Fault Fault }

// start are the states in which everything may begin.
func (m *Model) start() []State {
	var all []State
	for _, document := range []bool{false, true} {
		for _, content := range []bool{false, true} {
			for _, offered := range []bool{false, true} {
				if document && !content || offered && !document {
					continue
				}
				all = append(all, State{document: document, content: content, offered: offered, documentAge: old, contentAge: old})
			}
		}
	}
	return all
}

// setOffer replaces the index.
func (s *State) setOffer(offered bool) {
	s.offered = offered
	s.publisher.moved, s.healer.moved, s.pruner.moved = true, true, true
}

// tick lets time pass.
func (s State) tick() State {
	for _, t := range []struct {
		at   *uint8
		most uint8
	}{
		{&s.documentAge, old}, {&s.contentAge, old}, {&s.publisher.checked, fresh + 1}, {&s.publisher.sent, young + 1},
		{&s.healer.checked, fresh + 1}, {&s.pruner.since, grace}, {&s.noticeAge, dead}, {&s.client.age, grace}, {&s.locked.age, grace},
	} {
		*t.at = min(*t.at+1, t.most)
	}
	if !s.notice {
		s.noticeAge = 0
	}
	s.pruner.listed = false
	for _, r := range []*reading{&s.client, &s.locked} {
		if r.age == grace {
			r.holds = false
		}
	}
	return s
}
