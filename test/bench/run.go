package bench

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// at calls do with the server of a scenario.
func (r *runner) at(c Cell, do func(place) error) error {
	p, err := scenarios[c.Scenario].start(r)
	if err != nil {
		return err
	}
	defer p.close()
	return do(p)
}

// race lets clients send the workload into an empty bucket, in as many rounds as there are.
// Who is far behind the best peer in the first round is not asked again.
func (r *runner) race(ctx context.Context, c Cell) error {
	return r.rounds(ctx, c, slices.DeleteFunc(slices.Clone(r.clients), func(client *Client) bool {
		return client.Scenario != "" && client.Scenario != c.Scenario || real(c) && (client.Alone || r.hopeless(c, client))
	}))
}

// alone is race without others.
func (r *runner) alone(ctx context.Context, c Cell) error {
	return r.rounds(ctx, c, slices.DeleteFunc(slices.Clone(r.clients), func(client *Client) bool { return !client.Ours }))
}

// real reports whether the server of a cell stores what it gets, which takes it long.
func real(c Cell) bool { return c.Scenario == "versitygw" || c.Scenario == "minio" }

// hopeless reports whether a peer has taken so much longer than the best, where the server
// takes no time, that there is nothing to learn from it where the server does.
func (r *runner) hopeless(c Cell, client *Client) bool {
	fast := Cell{c.Work, "fast", ""}
	row, best := r.out.row(fast, client.Name), r.out.bestPeer(fast)
	return client.peer() && row != nil && best != nil && (len(row.Runs) == 0 || row.wall() > 3*best.wall())
}

func (r *runner) rounds(ctx context.Context, c Cell, clients []*Client) error {
	return r.at(c, func(p place) error {
		if err := r.warm(ctx, c, p); err != nil {
			return err
		}
		for round := range r.o.Rounds {
			if round == 1 {
				clients = r.stillIn(c, clients)
			}
			for i := range clients {
				client := clients[(i+round)%len(clients)] // nobody is always the first
				if client.WellKnown && p.wellKnown() == "" {
					r.out.note(c, client, "connects to the ports 80 and 443 only")
					continue
				}
				bucket, err := p.empty()
				if err != nil {
					return err
				}
				if err := r.send(ctx, c, client, r.dir(c.Work), destination{p, bucket}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// warm fills a real server once: whoever is the first has to find room on the RAM disk.
func (r *runner) warm(ctx context.Context, c Cell, p place) error {
	client := r.ours()
	if !real(c) || client == nil {
		return nil
	}
	bucket, err := p.empty()
	if err != nil {
		return err
	}
	_, err = measure(ctx, client.command(r.dir(c.Work), destination{p, bucket}, r.home), time.Minute)
	return err
}

// stillIn are the clients that are worth another round.
func (r *runner) stillIn(c Cell, clients []*Client) []*Client {
	best := r.out.bestPeer(c)
	var in []*Client
	for _, client := range clients {
		row := r.out.row(c, client.Name)
		if row == nil || len(row.Runs) == 0 {
			continue
		}
		if client.peer() && best != nil && float64(row.Runs[0].Wall) > r.o.Behind*float64(best.Runs[0].Wall) {
			continue
		}
		in = append(in, client)
	}
	return in
}

// send measures one run of a client. A client that fails or takes too long is noted; only ours
// must not.
func (r *runner) send(ctx context.Context, c Cell, client *Client, dir string, to destination) error {
	return r.run(ctx, c, client, client.command(dir, to, r.home), to.place)
}

func (r *runner) run(ctx context.Context, c Cell, client *Client, cmd command, p place) error {
	if err := p.forget(); err != nil {
		return err
	}
	before, err := used(p.pid())
	if err != nil {
		return err
	}
	m, err := measure(ctx, cmd, r.o.Limit)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = p.count(&m)
	}
	if err == nil {
		m.Server, err = used(p.pid())
		m.Server -= before
	}
	switch {
	case err == nil:
		r.out.add(c, client, m)
		r.say("%-34s %-24s %7.2f s  %6.2f s CPU  %5d MiB  %6d requests", c, client.Name, m.Wall.Seconds(), m.CPU.Seconds(), m.Peak>>20, m.Requests)
	case !client.peer():
		return err
	case errors.Is(err, errSlow):
		r.out.note(c, client, "more than "+r.o.Limit.Round(time.Second).String())
		r.say("%-34s %-24s more than %v", c, client.Name, r.o.Limit)
	default:
		r.out.note(c, client, firstLine(err))
		r.say("%-34s %-24s %v", c, client.Name, err)
	}
	return nil
}

// again lets every client find that all is there already. Peers find what they would have
// sent; we find what we have sent.
func (r *runner) again(ctx context.Context, c Cell) error {
	return r.at(c, func(p place) error {
		for _, client := range r.clients {
			if client.Baseline || client.Once || client.Alone {
				continue
			}
			bucket, err := p.empty()
			if err != nil {
				return err
			}
			to := destination{p, bucket}
			if client.peer() {
				err = p.load(r.dir(c.Work), prefix)
			} else {
				_, err = measure(ctx, client.command(r.dir(c.Work), to, r.home), r.o.Limit)
			}
			if err != nil {
				return err
			}
			for range r.o.Rounds {
				if err := r.send(ctx, c, client, r.dir(c.Work), to); err != nil {
					return err
				}
				if len(r.stillIn(c, []*Client{client})) == 0 {
					break
				}
			}
		}
		return nil
	})
}

// merge adds packages to a large index.
func (r *runner) merge(ctx context.Context, c Cell) error {
	client := r.ours()
	if client == nil {
		return nil
	}
	return r.at(c, func(p place) error {
		for range r.o.Rounds {
			bucket, err := p.empty()
			if err != nil {
				return err
			}
			if err := p.load(r.dir("merge", "there"), prefix); err != nil {
				return err
			}
			if err := r.send(ctx, c, client, r.dir("merge", "new"), destination{p, bucket}); err != nil {
				return err
			}
		}
		return nil
	})
}

// rebuild makes an index anew, beside Spack where there is a checkout of it.
func (r *runner) rebuild(ctx context.Context, c Cell) error {
	ours := r.ours()
	if ours == nil {
		return nil
	}
	index := *ours
	index.args = func(_ string, to destination) []string { return []string{"index", to.s3()} }
	clients := []*Client{&index}
	if r.o.Clients.MatchString(spackName) {
		spack, err := spackIndex()
		if err != nil {
			r.leftOut(firstLine(err))
		} else {
			clients = append(clients, spack)
			r.out.Clients = append(r.out.Clients, *spack)
		}
	}
	return r.at(c, func(p place) error {
		for _, client := range clients {
			bucket, err := p.empty()
			if err != nil {
				return err
			}
			if err := p.load(r.dir("rebuild"), prefix); err != nil {
				return err
			}
			if err := r.send(ctx, c, client, "", destination{p, bucket}); err != nil {
				return err
			}
		}
		return nil
	})
}

// million plans against a million objects: 20 packages that are new, and then, when the index
// is ours, many of which none is.
func (r *runner) million(ctx context.Context, c Cell) error {
	client := r.ours()
	if client == nil {
		return nil
	}
	return r.at(c, func(p place) error {
		bucket, err := p.empty()
		if err != nil {
			return err
		}
		to := destination{p, bucket}
		for _, part := range []string{"there", "same"} {
			if err := p.load(r.dir("million", part), prefix); err != nil {
				return err
			}
		}
		// What "same" has loaded last is its own index.
		if err := p.load(r.dir("million", "there", "v3"), prefix+"/v3"); err != nil {
			return err
		}
		plan := func(act, dir string) error {
			cmd := command{client.bin, []string{"--dry-run", r.dir("million", dir), to.s3()}, to.env(r.home)}
			return r.run(ctx, Cell{c.Work, c.Scenario, act}, client, cmd, p)
		}
		if err := plan(Plan, "new"); err != nil {
			return err
		}
		if _, err := measure(ctx, client.command(r.dir("million", "new"), to, r.home), r.o.Limit); err != nil {
			return err
		}
		return plan(Whole, "same")
	})
}

// back rolls a large index back over 20 generations, and forth again.
func (r *runner) back(ctx context.Context, c Cell) error {
	client := r.ours()
	if client == nil {
		return nil
	}
	return r.at(c, func(p place) error {
		bucket, err := p.empty()
		if err != nil {
			return err
		}
		if err := p.load(r.dir(c.Work, "there"), prefix); err != nil {
			return err
		}
		to := destination{p, bucket}
		shares, err := filepath.Glob(r.dir(c.Work, "new", "*.hashes"))
		if err != nil {
			return err
		}
		for _, list := range append([]string{r.dir(c.Work, "first")}, shares...) {
			if _, err := measure(ctx, client.command(strings.TrimSuffix(list, ".hashes"), to, r.home), r.o.Limit); err != nil {
				return err
			}
		}
		const first = 2 // what was loaded is the one before
		last := first + len(shares)
		for range r.o.Rounds {
			for _, way := range []struct {
				act string
				to  int
			}{{Back, first}, {Forth, last}} {
				cmd := command{client.bin, []string{"rollback", to.s3(), "--to", strconv.Itoa(way.to)}, to.env(r.home)}
				if err := r.run(ctx, Cell{c.Work, c.Scenario, way.act}, client, cmd, p); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
