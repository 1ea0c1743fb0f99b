package wan

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// network is what relays and routers share: the lines, what is under way on them,
// and the conditions.
type network struct {
	seed  uint64
	log   *slog.Logger
	start time.Time
	queue schedule
	wake  chan struct{} // the first deadline has become an earlier one
	bufs  sync.Pool
	ctx   context.Context // its life, ended by Close
	end   context.CancelFunc
	wg    sync.WaitGroup

	lineMu sync.Mutex
	lines  map[direction]*line // guarded by lineMu
	cut    map[string]bool     // nodes cut off, guarded by lineMu
}

type direction struct{ from, to string }

// exit is where the parcels of a line leave.
type exit interface{ write([]parcel) }

func newNetwork(o Options) *network {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &network{
		seed:  o.Seed,
		log:   o.Log,
		start: time.Now(),
		wake:  make(chan struct{}, 1),
		bufs:  sync.Pool{New: func() any { return new([maxDatagram]byte) }},
		lines: make(map[direction]*line),
		cut:   make(map[string]bool),
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	r.wg.Go(r.deliver)
	return r
}

func (r *network) now() time.Duration { return time.Since(r.start) }

// line is one direction, made when it is first spoken of.
func (r *network) line(from, to string) *line {
	r.lineMu.Lock()
	defer r.lineMu.Unlock()
	d := direction{from, to}
	l := r.lines[d]
	if l == nil {
		l = newLine(r.seed, from, to)
		for _, n := range [...]string{from, to} {
			if r.cut[n] {
				l.nodeCuts++
			}
		}
		r.lines[d] = l
	}
	return l
}

func (l *line) setExit(o exit) {
	l.mu.Lock()
	l.out = o
	l.mu.Unlock()
}

// Set gives one direction its conditions; they hold for datagrams from now on.
// The path needn't exist yet.
func (r *network) Set(from, to string, c Conditions) error {
	if err := c.validate(); err != nil {
		return err
	}
	l := r.line(from, to)
	l.mu.Lock()
	l.c = c
	l.mu.Unlock()
	return nil
}

// Conditions are those of one direction now.
func (r *network) Conditions(from, to string) Conditions {
	l := r.line(from, to)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c
}

// Cut takes a node off the network, in both directions, until Heal. Conditions
// stay as they are.
func (r *network) Cut(node string) { r.setCut(node, true) }

// Heal brings a node back that Cut took off.
func (r *network) Heal(node string) { r.setCut(node, false) }

func (r *network) setCut(node string, cut bool) {
	r.lineMu.Lock()
	defer r.lineMu.Unlock()
	if r.cut[node] == cut {
		return
	}
	r.cut[node] = cut
	for d, l := range r.lines {
		if d.from != node && d.to != node {
			continue
		}
		l.mu.Lock()
		if cut {
			l.nodeCuts++
		} else {
			l.nodeCuts--
		}
		l.mu.Unlock()
	}
}

// Stats counts one direction.
func (r *network) Stats(from, to string) Stats {
	r.lineMu.Lock()
	l := r.lines[direction{from, to}]
	r.lineMu.Unlock()
	if l == nil {
		return Stats{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// schedule has parcels wait until they are due.
func (r *network) schedule(ps []parcel) {
	if len(ps) > 0 && r.queue.add(ps) {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// deliver sends what comes due.
func (r *network) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	due := make([]parcel, 0, 4*writeBatch)
	for {
		var wait time.Duration
		due, wait = r.queue.due(due, r.now())
		r.send(due)
		switch {
		case r.ctx.Err() != nil:
			return
		case wait == 0:
			continue
		case wait < 0:
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-r.ctx.Done():
			return
		case <-timer.C:
		case <-r.wake:
		}
	}
}

// send sends parcels, each line's in order, and gives their buffers back.
func (r *network) send(ps []parcel) {
	for len(ps) > 0 {
		l := ps[0].line
		n := 1
		for n < len(ps) && n < writeBatch && ps[n].line == l {
			n++
		}
		l.mu.Lock()
		out := l.out
		l.mu.Unlock()
		out.write(ps[:n])
		for i := range ps[:n] {
			r.bufs.Put(ps[i].buf)
			ps[i] = parcel{}
		}
		ps = ps[n:]
	}
}
