// Package contention is a model of how publishers share one index.
//
// The protocol is that of publish/reindex: claim, announce, combine, receipt. The model has up to three
// publishers with one package each, and another program that replaces the index without looking, as Spack
// does. Publishers may crash at any step. Answers may be lost, and a write may arrive long after its
// publisher gave it up. Versions of the pointer follow from its content, so they recur.
//
// What holds is in check.go. A Fault breaks the protocol in one place; the checker must then find a violation,
// which shows that it can.
package contention

// maxPublishers bounds the arrays of a State.
const maxPublishers = 3

// A set is a set of packages. Publisher i has package i.
type set uint8

func (s set) has(i int) bool       { return s>>i&1 == 1 }
func (s set) holds(other set) bool { return other&^s == 0 }
func only(i int) set               { return 1 << i }
func all(publishers int) set       { return 1<<publishers - 1 }

// subsets calls do for every part of a set, the empty one included.
func (s set) subsets(do func(part set)) {
	for part := s; ; part = (part - 1) & s {
		do(part)
		if part == 0 {
			return
		}
	}
}

// A version is one content of the pointer: what the index offers, and whether our writer or another program
// wrote it. Equal content is the same version.
type version struct {
	foreign bool
	offers  set
}

// versions is how many there are.
const versions = 2 << maxPublishers

func (v version) number() int {
	if v.foreign {
		return int(v.offers) + versions/2
	}
	return int(v.offers)
}

// A phase is what a publisher does next.
type phase uint8

const (
	storing    phase = iota // its documents
	looking                 // reads the pointer
	claiming                // creates the lead of the version that it saw
	claimed                 // has lost the answer to that: reads the lead
	announcing              // has not got the lead
	waiting                 // polls the pointer and the lead
	deposing                // has lost patience: replaces the lead that it read
	deposed                 // has lost the answer to that: reads the lead
	following               // the pointer has moved: follows receipts
	reading                 // leads: reads the index
	gathering               // lists announcements
	leaping                 // looks at the pointer once more
	preparing               // stores the index and the receipt
	receipting              // the index is stored
	swapping                // replaces the pointer
	swapped                 // has lost the answer to that: reads the pointer
	resting                 // has succeeded: gives the lead back
	done
	dead
)

// A publisher adds its package to the index.
type publisher struct {
	at   phase
	base version // of the pointer, on which it builds
	// seen is the version that it found in place of base, and hop how far it has followed receipts back from
	// there.
	seen, hop version
	takes     set   // what it adds to base
	leadSeen  uint8 // number of the lead that it read
	acked     bool  // it has reported success

	// late is a write of the pointer that was given up and may still arrive.
	late               bool
	lateBase, lateNext version
}

// A lead says who builds on a version. It is a hint: nothing that is written depends on it.
type lead struct {
	holder uint8 // publisher + 1; 0: there is no lead
	number uint8 // of its version, modulo 3: versions of a lead recur, too
	spent  bool  // given back
	found  set   // of a spent lead: what its holder found in the index already
}

// A receipt says that an index consists of another one and some packages.
type receipt struct {
	there bool
	base  version
	took  set
}

// A State is the bucket and everyone who writes to it.
type State struct {
	pointer    version
	blobs      uint8 // bit by bit, the indices of ours that are stored
	receipts   [versions / 2]receipt
	announced  [versions]set
	leads      [versions]lead
	durable    set // packages whose documents are stored
	dropped    set // by the other program, and not indexed again since
	publishers [maxPublishers]publisher

	otherLooked bool // the other program has listed what there is
	otherSaw    set
	left        Budget
	broken      violation // what the step to this state has broken
}

// A Budget bounds what may go wrong: crashes of publishers, lost answers, writes that arrive late, and rounds of the
// other program.
type Budget struct {
	Crashes, Lost, Late, Foreign uint8
}

// A Fault is a mistake in the protocol that the checker must find.
type Fault string

// The faults.
const (
	None           Fault = ""
	BlindSwap      Fault = "the pointer is replaced without a condition"
	AckOnMove      Fault = "a moved pointer is taken for success"
	TrustForeign   Fault = "the index of another program is taken for one of ours"
	GuessedReceipt Fault = "a receipt names what is announced, not what was merged"
	PointerFirst   Fault = "the pointer is written before the index"
	NoDeposition   Fault = "nobody replaces a leader that died"
)

// A Model is what is checked.
type Model struct {
	Publishers int
	Budget     Budget
	// Free takes away what leads and lists do: every waiting publisher may lead at any time, and a list shows any part
	// of what is durable. What holds then does not depend on hints.
	Free  bool
	Fault Fault
}
