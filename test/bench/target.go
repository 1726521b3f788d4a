package bench

import (
	"fmt"
)

// A Target is what must be reached in a cell.
type Target struct {
	Cell Cell
	What string // what is compared with what
	Most float64
	// Least turns it round: the value must be at least that much.
	Least bool
	Unit  string // "" : a ratio

	value func(r *Results, c Cell) (v float64, ok bool)
	// floor is the value of a client that does the least; nil: nobody knows.
	floor func(r *Results, c Cell) (v float64, ok bool)
}

// A Verdict is a target, and what was measured.
type Verdict struct {
	Target
	Value    float64
	Measured bool
	Floor    float64 // that of the target, in the same run; 0: it is not known
}

// Reached reports whether a target that was measured is reached.
func (v Verdict) Reached() bool {
	if v.Least {
		return v.Value >= v.Most
	}
	return v.Value <= v.Most
}

func (v Verdict) String() string {
	limit := "at most"
	if v.Least {
		limit = "at least"
	}
	text := fmt.Sprintf("%s: %s %s %s", v.Cell, v.What, limit, quantity(v.Most, v.Unit))
	switch {
	case !v.Measured:
		return text + ": not measured"
	case v.Reached():
		return text + ": " + quantity(v.Value, v.Unit) + ", reached"
	}
	return text + ": " + quantity(v.Value, v.Unit) + ", NOT REACHED"
}

func quantity(v float64, unit string) string {
	text := fmt.Sprintf("%.2f", v)
	if unit != "" {
		if v >= 100 || v == float64(int(v)) {
			text = fmt.Sprintf("%.0f", v)
		}
		return text + " " + unit
	}
	return text
}

func isOurs(c *Client) bool     { return c.Ours }
func isAlone(c *Client) bool    { return c.Alone && !c.Baseline }
func isBaseline(c *Client) bool { return c.Baseline && !c.Floor && !c.Sender }
func isFloor(c *Client) bool    { return c.Floor }
func isSender(c *Client) bool   { return c.Sender && !c.Alone }
func isBare(c *Client) bool     { return c.Sender && c.Alone }

// byPeer is our wall time by that of the best peer in the same cell.
func byPeer(is func(*Client) bool) func(*Results, Cell) (float64, bool) {
	return func(r *Results, c Cell) (float64, bool) {
		us, them := r.find(c, is), r.bestPeer(c)
		if us == nil || them == nil {
			return 0, false
		}
		return float64(us.wall()) / float64(them.wall()), true
	}
}

// busy is a floor of byPeer: the processors of the machine need so long for what the sender
// does, and for the server's part; and one of them for hashing a single file.
func busy(is, sender func(*Client) bool) func(*Results, Cell) (float64, bool) {
	return func(r *Results, c Cell) (float64, bool) {
		fast := Cell{c.Work, "fast", ""}
		us, them, least := r.find(c, is), r.bestPeer(c), r.find(c, sender)
		if least == nil {
			least = r.find(fast, sender)
		}
		if us == nil || them == nil || least == nil || r.CPUs == 0 {
			return 0, false
		}
		wall := (least.cpu() + us.server()).Seconds() / float64(r.CPUs)
		if hash := r.find(fast, isFloor); hash != nil && !least.client.Alone {
			wall = max(wall, hash.wall().Seconds())
		}
		return wall / them.wall().Seconds(), true
	}
}

// byReading is our processor time by that of reading and hashing the same bytes once.
func byReading(r *Results, c Cell) (float64, bool) {
	us, base := r.find(c, isOurs), r.find(Cell{c.Work, "fast", ""}, isBaseline)
	if us == nil || base == nil {
		return 0, false
	}
	return float64(us.cpu()) / float64(base.cpu()), true
}

func ours(of func(*Row) float64) func(*Results, Cell) (float64, bool) {
	return func(r *Results, c Cell) (float64, bool) {
		us := r.find(c, isOurs)
		if us == nil {
			return 0, false
		}
		return of(us), true
	}
}

var (
	seconds  = ours(func(r *Row) float64 { return r.wall().Seconds() })
	peak     = ours(func(r *Row) float64 { return float64(r.peak()) / 1e6 })
	requests = ours(func(r *Row) float64 { return float64(r.requests()) })
	reads    = ours(func(r *Row) float64 { return float64(median(r.Runs, func(m Measure) int64 { return m.Reads })) })
)

// filesOf is how many objects a small mirror is.
const filesOf = 20_000

// perSecond is how many objects are sent a second, by what is asked for: 5,000, or four times
// what the best peer does, whichever is less.
func perSecond(r *Results, c Cell) (float64, bool) {
	us, them := r.find(c, isOurs), r.bestPeer(c)
	if us == nil {
		return 0, false
	}
	objects := float64(filesOf) / float64(r.Scale)
	want := 5000.0
	if them != nil {
		want = min(want, 4*objects/them.wall().Seconds())
	}
	return objects / us.wall().Seconds() / want, true
}

// indexWrites are the writes beyond those of the packages: each of the 20 has three. One more proves that the
// server obeys conditions: it is refused and writes nothing. And one is the record of the switch in the history.
func indexWrites(r *Results, c Cell) (float64, bool) {
	n, ok := ours(func(r *Row) float64 { return float64(median(r.Runs, func(m Measure) int64 { return m.Writes })) })(r, c)
	return n - 20*3 - 2, ok
}

// byUndisturbed is our wall time by that in the same scenario without faults.
func byUndisturbed(r *Results, c Cell) (float64, bool) {
	us, well := r.find(c, isOurs), r.find(Cell{c.Work, "far", ""}, isOurs)
	if us == nil || well == nil {
		return 0, false
	}
	return float64(us.wall()) / float64(well.wall()), true
}

// targets are those that the project has set itself.
func targets() []Target {
	var all []Target
	add := func(t Target) { all = append(all, t) }
	wall := func(work, scenario string, most float64) {
		add(Target{Cell: Cell{work, scenario, ""}, What: "wall time by the best peer", Most: most, value: byPeer(isOurs), floor: busy(isOurs, isSender)})
	}
	wall("cache", "fast", 0.5)
	wall("cache", "far", 0.6)
	wall("cache", "tls", 0.9)
	add(Target{Cell: Cell{"cache", "tls", ""}, What: "wall time of the engine alone by the best peer", Most: 0.7, value: byPeer(isAlone), floor: busy(isAlone, isBare)})
	wall("big", "fast", 0.8)
	wall("big", "far", 0.45)
	for _, work := range []string{"cache", "big"} {
		wall(work, "versitygw", 0.9)
		wall(work, "minio", 0.9)
	}
	memory := map[string]float64{"cache": 128, "big": 64}
	for _, work := range []string{"cache", "big"} {
		for _, s := range []string{"fast", "far", "tls", "versitygw", "minio"} {
			most := 1.6
			if s == "tls" {
				most = 2.2
			}
			add(Target{Cell: Cell{work, s, ""}, What: "processor time by reading and hashing", Most: most, value: byReading})
			add(Target{Cell: Cell{work, s, ""}, What: "peak memory", Most: memory[work], Unit: "MB", value: peak})
		}
	}
	again := Cell{"cache", "far", Again}
	add(Target{Cell: again, What: "wall time", Most: 0.25, Unit: "s", value: seconds})
	add(Target{Cell: again, What: "requests", Most: 5, Unit: "requests", value: requests})
	add(Target{Cell: Cell{"small", "far", Again}, What: "wall time", Most: 1, Unit: "s", value: seconds})
	add(Target{Cell: Cell{"small", "fast", ""}, What: "objects a second by 5,000 or four times the best peer's, whichever is less", Most: 1, Least: true, value: perSecond})
	merge := Cell{"merge", "local", Merge}
	add(Target{Cell: merge, What: "wall time", Most: 2, Unit: "s", value: seconds})
	add(Target{Cell: merge, What: "peak memory", Most: 300, Unit: "MB", value: peak})
	add(Target{Cell: merge, What: "reads", Most: 2, Unit: "reads", value: reads})
	add(Target{Cell: merge, What: "writes of the index", Most: 2, Unit: "writes", value: indexWrites})
	add(Target{Cell: Cell{"rebuild", "late", Index}, What: "wall time", Most: 30, Unit: "s", value: seconds})
	for _, act := range []string{Plan, Whole} {
		add(Target{Cell: Cell{"million", "late", act}, What: "wall time", Most: 60, Unit: "s", value: seconds})
		add(Target{Cell: Cell{"million", "late", act}, What: "peak memory", Most: 500, Unit: "MB", value: peak})
	}
	crowdTargets(add)
	for _, act := range []string{Back, Forth} {
		add(Target{Cell: Cell{"past", "kept", act}, What: "wall time", Most: 2, Unit: "s", value: seconds})
	}
	add(Target{Cell: Cell{"cache", "ill", ""}, What: "wall time by the undisturbed one", Most: 1.3, value: byUndisturbed})
	return all
}

// Verdicts compares what was measured with all targets.
func (r *Results) Verdicts() []Verdict {
	var all []Verdict
	for _, t := range targets() {
		v := Verdict{Target: t}
		v.Value, v.Measured = t.value(r, t.Cell)
		if t.floor != nil {
			v.Floor, _ = t.floor(r, t.Cell)
		}
		all = append(all, v)
	}
	return all
}
