package psync

import (
	"bytes"
	"fmt"
	"strings"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

const (
	// maxBatch bounds a batch, since the engine is locked for as long as it takes.
	maxBatch = 512
	// keepArgs bounds what a slot keeps for the next batch.
	keepArgs = 1024
	// maxTransaction bounds what is held of a transaction that hasn't ended.
	maxTransaction = 1 << 30
)

// batch is what stream has parsed and not applied. Transactions are applied
// whole, so that one that the link cuts in two is simply asked for again.
type batch struct {
	reqs  []command.Request // slots, reused with their Args
	n     int               // how many are filled
	ready int               // how many of them are outside of an open transaction
	inTx  bool
	acked bool // a GETACK is among them

	held    []command.Request // the beginning of an open transaction, copied
	heldRaw []byte
}

// stream applies what comes until the link ends.
func (l *link) stream() error {
	var b batch
	for {
		raw, more, err := l.parse(&b)
		if err == nil {
			err = l.apply(&b, raw)
		}
		if err != nil {
			return err
		}
		if !more {
			if err := l.in.Fill(); err != nil {
				return fmt.Errorf("stream: %w", err)
			}
			if l.eager.Load() {
				l.eager.Store(false) // the stream has started
			}
		}
	}
}

// parse takes what is buffered, up to a batch. raw is all its bytes, of which
// those up to the last command outside of a transaction come first.
func (l *link) parse(b *batch) (raw span, more bool, err error) {
	b.n, b.ready, b.acked = 0, 0, false
	raw.bytes = l.in.Buffered()
	start := l.in.Consumed()
	for b.n < maxBatch {
		if b.n == len(b.reqs) {
			b.reqs = append(b.reqs, command.Request{})
		}
		q := &b.reqs[b.n]
		ok, err := l.in.NextCommand(&q.Command)
		if err != nil {
			return raw, false, fmt.Errorf("stream: %w", err)
		}
		if !ok {
			break
		}
		more = true
		effects := b.n
		l.sort(b, q)
		if !b.inTx {
			b.ready = b.n
			raw.ready = int(l.in.Consumed() - start)
			if b.n > effects {
				raw.effects = raw.ready
			}
		}
	}
	raw.bytes = raw.bytes[:l.in.Consumed()-start]
	if !b.inTx {
		raw.ready = len(raw.bytes)
	}
	return raw, more, nil
}

// span is a piece of the stream and how much of it can be applied now.
type span struct {
	bytes   []byte
	ready   int
	effects int // of those ready, how many bytes until the last that changes the data
}

// sort decides what a command is to the stream. PING and REPLCONF are for the
// link only: they count as bytes and aren't applied.
func (l *link) sort(b *batch, q *command.Request) {
	name := q.Args[0]
	switch {
	case is(name, "ping"):
		return
	case is(name, "replconf"):
		b.acked = b.acked || len(q.Args) > 1 && is(q.Args[1], "getack")
		return
	case is(name, "multi"):
		b.inTx = true
	case is(name, "exec"):
		b.inTx = false
	}
	q.Spec = command.Lookup(q.Args)
	b.n++
}

func is(b []byte, lower string) bool {
	return len(b) == len(lower) && strings.EqualFold(string(b), lower)
}

// apply applies the commands that are ready, then moves the log on by exactly
// their bytes; it keeps a copy of the others.
func (l *link) apply(b *batch, raw span) error {
	if raw.ready > 0 {
		reqs := b.reqs[:b.ready]
		if len(b.held) > 0 {
			reqs = append(b.held, reqs...)
		}
		if err := l.advance(reqs, b.heldRaw, raw); err != nil {
			return err
		}
		b.held, b.heldRaw = nil, nil
		signal(l.applied)
	}
	for _, q := range b.reqs[b.ready:b.n] {
		b.held = append(b.held, clone(q))
	}
	b.heldRaw = append(b.heldRaw, raw.bytes[raw.ready:]...)
	for i := range b.n {
		if cap(b.reqs[i].Args) > keepArgs {
			b.reqs[i] = command.Request{}
		}
	}
	if len(b.heldRaw) > maxTransaction {
		return fmt.Errorf("%w: transaction of more than %d bytes", ErrBroken, maxTransaction)
	}
	if b.acked {
		signal(l.asked)
	}
	return nil
}

func (l *link) advance(reqs []command.Request, held []byte, raw span) error {
	log := l.r.opt.Log
	log.gate.Lock()
	defer log.gate.Unlock()
	// Who reads what is new here must not be told of a position before it: the next copy it asks might be as far as that only.
	move := func() {
		log.append(held, true)
		log.append(raw.bytes[:raw.effects], true)
		log.append(raw.bytes[raw.effects:raw.ready], false)
	}
	if len(reqs) == 0 {
		move()
	} else if err := l.r.opt.Target.ApplyThen(reqs, move); err != nil {
		// Some of it may have been applied: the data is at no position.
		log.unsynced = true
		return fmt.Errorf("%w: apply stream: %w", ErrBroken, err)
	}
	if l.behind {
		l.takeTerm()
	}
	return nil
}

// clone copies a request out of the reader's buffer.
func clone(q command.Request) command.Request {
	c := command.Request{Spec: q.Spec, Command: frame.Command{Raw: bytes.Clone(q.Raw)}}
	c.Args = make([][]byte, len(q.Args))
	for i, a := range q.Args {
		c.Args[i] = bytes.Clone(a)
	}
	return c
}
