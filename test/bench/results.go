package bench

import (
	"cmp"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Results are all that was measured.
type Results struct {
	Machine  string
	CPUs     int // processors, which client and server share
	Memory   int64
	Kernel   string
	Go       string
	Began    time.Time
	Took     time.Duration
	Scale    int
	Rounds   int
	Clients  []Client
	LeftOut  []string
	Rows     []*Row
	Crowds   []*Crowd
	LoadFrom string // the load of the machine before and after
	LoadTo   string
}

// A Row is a client in a cell.
type Row struct {
	Cell   Cell
	Client string
	Runs   []Measure
	Note   string // why there are no runs

	client *Client
}

func newResults(o Options) *Results {
	var info unix.Sysinfo_t
	unix.Sysinfo(&info)
	return &Results{
		Machine: processor(), CPUs: runtime.NumCPU(), Memory: int64(info.Totalram) * int64(info.Unit), Kernel: kernel(), Go: runtime.Version(),
		Began: time.Now(), Scale: int(o.Scale), Rounds: o.Rounds, LoadFrom: load(),
	}
}

func (r *Results) finish() {
	r.Took = time.Since(r.Began)
	r.LoadTo = load()
}

// kernel is its version, without what a distribution adds.
func kernel() string {
	var un unix.Utsname
	unix.Uname(&un)
	return regexp.MustCompile(`^\d+\.\d+`).FindString(unix.ByteSliceToString(un.Release[:]))
}

// processor is its name, and how many of them we may use.
func processor() string {
	name := runtime.GOARCH
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			name = strings.TrimSpace(v)
			break
		}
	}
	return strconv.Itoa(runtime.NumCPU()) + " x " + name
}

// load is how many processes wanted a processor, in the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

func (r *Results) add(c Cell, client *Client, m Measure) {
	row := r.rowFor(c, client)
	row.Runs = append(row.Runs, m)
}

func (r *Results) note(c Cell, client *Client, why string) { r.rowFor(c, client).Note = why }

func (r *Results) rowFor(c Cell, client *Client) *Row {
	if row := r.row(c, client.Name); row != nil {
		return row
	}
	row := &Row{Cell: c, Client: client.Name, client: client}
	r.Rows = append(r.Rows, row)
	return row
}

// row returns nil if the client was not in the cell.
func (r *Results) row(c Cell, client string) *Row {
	for _, row := range r.Rows {
		if row.Cell == c && row.Client == client {
			return row
		}
	}
	return nil
}

// in returns the rows of a cell, the fastest first.
func (r *Results) in(c Cell) []*Row {
	var rows []*Row
	for _, row := range r.Rows {
		if row.Cell == c {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b *Row) int {
		if (len(a.Runs) == 0) != (len(b.Runs) == 0) {
			return len(b.Runs) - len(a.Runs)
		}
		return cmp.Compare(a.wall(), b.wall())
	})
	return rows
}

// bestPeer returns the fastest of the others in a cell; nil: there is none.
func (r *Results) bestPeer(c Cell) *Row {
	for _, row := range r.in(c) {
		if row.client.peer() && len(row.Runs) > 0 {
			return row
		}
	}
	return nil
}

// find returns the row of the one client in a cell that is of a kind.
func (r *Results) find(c Cell, is func(*Client) bool) *Row {
	for _, row := range r.in(c) {
		if is(row.client) && len(row.Runs) > 0 {
			return row
		}
	}
	return nil
}

func median[T cmp.Ordered](runs []Measure, of func(Measure) T) T {
	all := make([]T, len(runs))
	for i, m := range runs {
		all[i] = of(m)
	}
	slices.Sort(all)
	if len(all) == 0 {
		var none T
		return none
	}
	return all[(len(all)-1)/2]
}

func (r *Row) wall() time.Duration {
	return median(r.Runs, func(m Measure) time.Duration { return m.Wall })
}
func (r *Row) cpu() time.Duration {
	return median(r.Runs, func(m Measure) time.Duration { return m.CPU })
}
func (r *Row) server() time.Duration {
	return median(r.Runs, func(m Measure) time.Duration { return m.Server })
}
func (r *Row) requests() int64 { return median(r.Runs, func(m Measure) int64 { return m.Requests }) }
func (r *Row) dialled() int64  { return median(r.Runs, func(m Measure) int64 { return m.Dialled }) }

// peak is the largest, since memory is promised and not only likely.
func (r *Row) peak() int64 {
	most := int64(0)
	for _, m := range r.Runs {
		most = max(most, m.Peak)
	}
	return most
}
