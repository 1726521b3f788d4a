// Package withdrawing is a model of a withdrawal, its undo and a rollback beside a publisher that also writes a view, and a healer.
//
// The protocol is that of publish/withdraw, publish/rollback and publish/reindex. The model has one package, with a document, in an index
// of the whole mirror and in a view. Everyone may stop for any time between two steps, and the publisher and the withdrawer may die at any of
// them; a withdrawer that died is run again. test/lifecycle has prunes beside them, and no view.
package withdrawing

import (
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/test/checker"
)

// A Fault is a condition that is left out.
type Fault string

// The faults.
const (
	None               Fault = ""
	NoLook             Fault = "a writer of a view does not look at the pointer of the whole mirror afterwards"
	NoLookAgain        Fault = "what aligns a view does not look again at that pointer"
	PointerIgnored     Fault = "the index is replaced whatever it has become"
	ViewIgnored        Fault = "a view is replaced whatever it has become"
	PublishesWithdrawn Fault = "a publisher does not leave out what is withdrawn"
	HealsWithdrawn     Fault = "a healer brings back what is withdrawn"
	HealsWithheld      Fault = "a healer brings back what a rollback took out"
	ReturnsWithdrawn   Fault = "a rollback brings back what is withdrawn"
	BuriesFirst        Fault = "a withdrawal replaces the document before the index"
	UndoneLate         Fault = "an undo replaces the index before the document"
	SkipsViews         Fault = "a withdrawal does not look at views"
	UndoSkipsViews     Fault = "an undo does not look at views"
)

// A document is there, or what stands for it.
type document uint8

const (
	absent document = iota
	live
	tombstone
)

// An index offers the package or not, and its pointer may say that it is withdrawn.
type index struct{ offered, withdrawn bool }

// A phase is what someone does next.
type phase uint8

const (
	idle phase = iota
	storing
	reading    // the pointer of the whole mirror
	committing // the index of the whole mirror
	beginning  // with the view
	readingView
	committingView
	checking // whether the pointer of the whole mirror has moved
	aligning // the view
	readingAlign
	committingAlign
	checkingAlign
	burying
	exhuming
	withdrawn // all is done; what may come is an undo
)

// A worker is a publisher or a withdrawer.
type worker struct {
	at                  phase
	allMoved, viewMoved bool // since it has read them
	seen                bool // withdrawn, as it has read last
	undo                bool
	view                index // as it has read it
}

// A State is the mirror and everyone who works with it.
type State struct {
	document                   document
	all, view                  index
	withheld                   bool
	takenOut                   bool // by a rollback, and not published again
	dirty                      bool // a writer of the view died after it had written, and no withdrawal has looked since
	publisher, withdrawer      worker
	healing, rolling           bool // they have read the pointer
	healerMoved, rollbackMoved bool
}

// A Model is what is checked.
type Model struct{ Fault Fault }

func (s *State) setAll(x index) {
	s.all = x
	s.publisher.allMoved, s.withdrawer.allMoved, s.healerMoved, s.rollbackMoved = true, true, true, true
}

func (s *State) setView(x index) {
	s.view = x
	s.publisher.viewMoved, s.withdrawer.viewMoved = true, true
}

// What must not be.
var (
	errOffersWithdrawn = errors.New("the index offers what is withdrawn")
	errOffersNothing   = errors.New("the index offers a package that has no document")
	errViewOffers      = errors.New("it is withdrawn, and a view offers it")
	errViewLacks       = errors.New("it is given again, and a view keeps it out")
	errBroughtBack     = errors.New("what a rollback took out came back without being published")
)

func (s *State) check() error {
	quiet := s.publisher.at < beginning && !s.dirty
	switch {
	case s.all.offered && s.all.withdrawn:
		return errOffersWithdrawn
	case s.all.offered && s.document != live:
		return errOffersNothing
	case s.withdrawer.at == withdrawn && quiet && s.view.offered:
		return errViewOffers
	case s.withdrawer.at == idle && quiet && s.view.withdrawn:
		return errViewLacks
	case s.takenOut && s.all.offered:
		return errBroughtBack
	}
	return nil
}

// Check visits every state that can be reached, at most so many, and returns how many there are.
func (m *Model) Check(most int) (states int, err error) {
	c := checker.Model[State, State]{
		Key: func(s *State) State { return *s },
		Wrong: func(s *State) error {
			if err := s.check(); err != nil {
				return fmt.Errorf("%w: %+v", err, *s)
			}
			return nil
		},
		Steps: func(s *State, step func(*State)) {
			for _, next := range m.next(*s) {
				step(&next)
			}
		},
	}
	for _, d := range []document{absent, live} {
		for _, offered := range []bool{false, d == live} {
			for _, inView := range []bool{false, offered} {
				c.Start = append(c.Start, State{document: d, all: index{offered: offered}, view: index{offered: inView}})
			}
		}
	}
	return c.Check(most)
}
