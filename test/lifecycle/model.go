// Package lifecycle is a model of everyone who works on one mirror for years: publishers, healers, withdrawals and their undo, rollbacks, a prune,
// and clients.
//
// The protocol is that of publish/reindex, its notice, publish/prune, publish/withdraw and publish/rollback. The model has one package: a
// document that points at content, and an index that offers it or not. No rule keeps the package. Everyone may stop for any time
// between two steps and die at any of them. The storage deletes whatever is there, as if there were no condition, because content that is stored
// again has the same version. What a withdrawal owes to named indices has a model of its own (test/withdrawing), and so has the index that many publishers
// share (test/contention).
//
// What holds is in check.go. A Fault leaves one condition of the protocol out; the checker must then find a violation.
package lifecycle

// Times, in ticks. The real ones are in the same order: see the constants of notice, and Options of prune.
const (
	fresh = 1 // for how long a writer may rely on having seen no notice
	young = 1 // up to which age a publisher relies on what has come since its plan
	grace = 2 // for how long a client works with an index, and a prune waits
	old   = 3 // from which age a prune deletes
	alive = 1 // how old its notice is when a prune renews it at the latest
	dead  = 2 // from which age on of a notice its prune counts as dead
)

// A Fault is a condition that is left out.
type Fault string

// The faults.
const (
	None               Fault = ""
	NoNotice           Fault = "a publisher does not look for the notice"
	NotAgain           Fault = "a publisher does not look again at what it has found, after it has looked for the notice"
	NoPatience         Fault = "a publisher that objects does not wait"
	StaleCheck         Fault = "a publisher relies on having seen no notice for ever"
	PublishesWithdrawn Fault = "a publisher does not leave out what is withdrawn"
	HealsBlindly       Fault = "a healer does not look for the notice"
	HealsUnseen        Fault = "a healer does not look again at what it has found"
	HealsLate          Fault = "a healer relies on having seen no notice for ever"
	HealsWithdrawn     Fault = "a healer brings back what is withdrawn"
	HealsWithheld      Fault = "a healer brings back what a rollback took out"
	BuriesFirst        Fault = "a withdrawal replaces the document before the index"
	UndoneLate         Fault = "an undo replaces the index before the document"
	UndoneBlindly      Fault = "an undo does not look for the notice"
	UndoneUnseen       Fault = "an undo does not look at what it gives again"
	UndoneStale        Fault = "an undo relies on having seen no notice for ever"
	UndoneWithheld     Fault = "an undo brings back what a rollback took out"
	ReturnsWithdrawn   Fault = "a rollback brings back what is withdrawn"
	ReturnsBlindly     Fault = "a rollback does not look for the notice"
	ReturnsUnseen      Fault = "a rollback does not look again at what it brings back"
	ReturnsStale       Fault = "a rollback relies on having seen no notice for ever"
	PointerIgnored     Fault = "the index is replaced whatever it has become"
	Disobedient        Fault = "a prune does not obey objections"
	SlowRequest        Fault = "a request that deletes may end at any time"
	NoFirstGrace       Fault = "a prune does not wait before documents"
	NoSecondGrace      Fault = "a prune does not wait before content"
	NoSecondLook       Fault = "a prune does not read the mirror again"
	DeletesYoung       Fault = "a prune deletes what is young"
	DeletesBuried      Fault = "a prune deletes what is needed to undo a withdrawal"
	ContentFirst       Fault = "a prune deletes content before documents"
	StillOffered       Fault = "a prune does not withdraw the offer first"
	ForgetsOffers      Fault = "a prune does not look at what the index offered until a moment ago"
	NoRenewal          Fault = "a prune does not renew its notice before it deletes"
	SleepsOn           Fault = "a prune goes on whose notice it could not renew in time"
)

// A document is there, or what stands for it.
type document uint8

const (
	absent document = iota
	live
	tombstone
)

// A job is what a writer does.
type job uint8

const (
	none job = iota
	publishing
	healing
	withdrawing
	undoing
	takingOut // a rollback to when the index did not offer the package
	returning // and to when it did
	jobs
)

// A phase is what a writer does next.
type phase uint8

const (
	planning phase = iota
	sending
	deciding // whether it relies on anything
	asking   // for the notice
	waiting  // after an objection
	looking  // at what it relies on
	writing  // the document
	reading  // the pointer
	committing
)

// A writer does one job after the other.
type writer struct {
	job                         job
	at                          phase
	foundDocument, foundContent bool
	moved                       bool  // the index is another than the one that it has read
	checked                     uint8 // ticks since it looked for the notice, or objected
	planned                     uint8 // since it has planned
}

// A prunerPhase is what the prune does next.
type prunerPhase uint8

const (
	marking prunerPhase = iota
	noticing
	retracting
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
	document                document
	content                 bool
	documentAge, contentAge uint8
	offered                 bool  // by the index
	withdrawn, withheld     bool  // as its pointer says
	takenOut                bool  // by a rollback, and neither published nor brought back since
	removedAge              uint8 // since a writer took it out of the index, as the history says
	notice, objection       bool
	noticeAge               uint8 // since it was renewed

	writers [2]writer
	pruner  struct {
		at                prunerPhase
		document, content bool  // that it has marked
		moved             bool  // the index is another than when it looked
		since             uint8 // ticks since it gave notice, or changed something
		listed            bool  // it has listed the objections in this tick
	}
	client held // has read an index that offers the package
	locked held // has read the document, and no index: it installs what a lock file names
}

// A held package is what a client has read, and for how long it works with that.
type held struct {
	holds bool
	age   uint8
}

// A Model is what is checked.
type Model struct {
	Fault   Fault
	Writers int  // at work at the same time
	Prunes  bool // beside them, and clients read. Without that no time passes
}
