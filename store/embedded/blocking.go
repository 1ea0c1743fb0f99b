package embedded

import (
	"context"
	"math"
	"slices"
	"time"

	"respmesh/resp/command"
)

// waiter is a session in a blocking command. It stands in the queue of each of its keys; when one of them comes to
// hold a value of the kind, the session whose command did that runs the waiter's command again on its behalf,
// under the write lock it holds, so that what is served and what is propagated have one order. The engine's write lock
// guards all of it but done, which is closed once served.
type waiter struct {
	c       *Conn
	spec    *command.Spec
	args    [][]byte // of the blocked caller, who doesn't go on before done
	raw     []byte
	dbIndex int
	proto   int
	kind    kind
	keys    []string
	timeout time.Duration
	// replicas is how many WAIT waits for; its kind is kindNone, and it has no keys.
	replicas int
	outside  func(dst []byte) []byte // of a command that goes on without the lock: appends its reply

	out     []byte
	served  bool
	refused string // an error that ends the wait
	done    chan struct{}
}

// longestWait, in ms, is all that a time.Duration can hold: 292 years.
const longestWait = int64(math.MaxInt64 / time.Millisecond)

type readyKey struct {
	db  int
	key string
}

func (e *Engine) enqueue(x *call, k kind, timeout int64, keys [][]byte) *waiter {
	w := &waiter{
		c: x.c, spec: x.spec, args: x.args, raw: x.raw, dbIndex: x.dbIndex, proto: x.proto,
		kind: k, timeout: time.Duration(min(timeout, longestWait)) * time.Millisecond, done: make(chan struct{}),
	}
	queues := e.waiting[x.dbIndex]
	for _, key := range keys {
		if s := string(key); !slices.Contains(w.keys, s) {
			w.keys = append(w.keys, s)
			queues[s] = append(queues[s], w)
		}
	}
	e.stats.blocked.Add(1)
	x.c.waiting = w
	return w
}

// dequeue ends a wait.
func (e *Engine) dequeue(w *waiter) {
	queues := e.waiting[w.dbIndex]
	for _, key := range w.keys {
		q := slices.DeleteFunc(queues[key], func(o *waiter) bool { return o == w })
		if len(q) == 0 {
			delete(queues, key)
		} else {
			queues[key] = q
		}
	}
	delete(e.counting, w)
	w.c.waiting = nil
	e.stats.blocked.Add(-1)
}

// signalReady notes that a key has come into being, for whoever waits for it.
func (e *Engine) signalReady(db int, key []byte, k kind) {
	if queues := e.waiting[db]; len(queues) > 0 && k != kindString && k != kindHash && k != kindSet {
		if _, ok := queues[string(key)]; ok {
			e.ready = append(e.ready, readyKey{db, string(key)})
		}
	}
}

// inGroup tells whether the waiter's command is XREADGROUP: its group is gone with the stream.
func (w *waiter) inGroup() bool { return w.kind == kindStream && w.spec.Name == "xreadgroup" }

// signalGone notes that a key isn't a stream any more, for who waits in a group of it.
func (e *Engine) signalGone(db int, key []byte) {
	queue := e.waiting[db][string(key)]
	if !slices.ContainsFunc(queue, (*waiter).inGroup) {
		return
	}
	if ent := e.dbs[db].keys.find(key); ent == nil || ent.val.kind != kindStream {
		e.ready = append(e.ready, readyKey{db, string(key)})
	}
}

// serveReady serves those who wait for the keys that became ready in the command or transaction that just ended,
// and what becomes ready by that.
func (e *Engine) serveReady(now int64) {
	for len(e.ready) > 0 {
		ready := e.ready
		e.ready = nil
		for _, r := range ready {
			for _, w := range slices.Clone(e.waiting[r.db][r.key]) {
				ent := e.dbs[r.db].keys.find(bytesOf(r.key))
				switch {
				case ent != nil && ent.val.kind == w.kind:
					e.serve(w, r.key, now)
				case w.inGroup():
					e.refuse(w, "UNBLOCKED the stream key no longer exists")
				}
			}
		}
	}
}

// serve runs a waiter's command again.
func (e *Engine) serve(w *waiter, key string, now int64) {
	x := &call{
		e: e, c: w.c, db: e.dbs[w.dbIndex], dbIndex: w.dbIndex, spec: w.spec, args: w.args, raw: w.raw,
		proto: w.proto, now: now, tick: e.clock.tick(), retry: true, ready: []byte(key), out: w.out[:0],
	}
	e.invoke(x)
	e.effects.end()
	e.count(x)
	if x.blocked == nil {
		w.out, w.served = x.out, true
		e.dequeue(w)
		e.woken = append(e.woken, w)
	}
}

// refuse ends a wait with an error.
func (e *Engine) refuse(w *waiter, text string) {
	w.refused, w.served = text, true
	e.dequeue(w)
	e.woken = append(e.woken, w)
}

// wait blocks until the waiter is served, its time is over, the engine closes or ctx ends; alive is false in the last
// two cases unless the waiter had been served by then.
func (c *Conn) wait(ctx context.Context, w *waiter, dst []byte) (out []byte, alive bool) {
	if w.outside != nil {
		return c.runOutside(w, dst)
	}
	if w.kind == kindNone {
		return c.waitForReplicas(ctx, w, dst)
	}
	var timeout <-chan time.Time
	if w.timeout > 0 {
		t := time.NewTimer(w.timeout)
		defer t.Stop()
		timeout = t.C
	}
	timedOut := false
	select {
	case <-w.done:
	case <-timeout:
		timedOut = true
	case <-ctx.Done():
	case <-c.e.closed:
	case <-c.gone:
	}
	c.e.lock()
	defer c.e.mu.Unlock()
	x := call{e: c.e, out: dst, proto: w.proto}
	if w.refused != "" || timedOut && !w.served {
		c.e.commands[w.spec.ID].calls.Add(1)
		if w.refused != "" {
			c.e.commands[w.spec.ID].failed.Add(1)
		}
	}
	switch {
	case w.refused != "":
		x.err(w.refused)
	case w.served:
		x.out = append(x.out, w.out...)
	case timedOut:
		c.e.dequeue(w)
		x.nullArray()
	default:
		c.e.dequeue(w)
		return dst, false
	}
	return x.out, true
}
