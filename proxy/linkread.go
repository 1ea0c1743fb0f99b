package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"respmesh/resp/frame"
)

// read is the reading goroutine of a link: it answers the calls in order until the connection ends.
func (l *link) read() error {
	r := frame.NewReader(l.conn)
	var p frame.Reply
	if err := r.ReadReply(&p); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := l.welcome(p); err != nil {
		if errors.Is(err, errRefused) {
			l.mu.Lock()
			l.written = 0 // a refused handshake executes nothing of what came with it
			l.mu.Unlock()
		}
		return err
	}
	defer l.flush()
	for {
		l.now = time.Now()
		l.answered.Store(l.now.UnixNano())
		for {
			ok, err := r.NextReply(&p)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := l.receive(p); err != nil {
				return err
			}
		}
		l.flush()
		if err := r.Fill(); err != nil {
			return err
		}
	}
}

// welcome reads "+OK role replid offset".
func (l *link) welcome(p frame.Reply) error {
	if p.IsError() {
		return fmt.Errorf("%w: %q", errRefused, p.Text())
	}
	words := bytes.Fields(p.Text())
	if len(words) != 4 || string(words[0]) != "OK" {
		return errFrame
	}
	offset, ok := frame.ParseInt(words[3])
	if !ok {
		return errFrame
	}
	replid := string(words[2])
	l.replid, l.offset = &replid, offset
	l.position(&replid, offset)
	return nil
}

func (l *link) position(replid *string, offset int64) {
	l.replid, l.offset = replid, offset
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != linkDown { // else it is forgotten already how far the node was
		l.remote.at.raise(replid, offset)
	}
}

func (l *link) receive(p frame.Reply) error {
	switch p.Kind() {
	case frame.Attribute:
		return l.attribute(p)
	case frame.Push:
		if l.onPush != nil {
			l.onPush(p.Raw)
		}
		return nil
	}
	c, led := l.pop()
	switch {
	case c == nil:
		return errFrame
	case led:
		if p.IsError() && c.why == nil {
			c.why = bytes.Clone(p.Text())
		}
	case c.why != nil && bytes.HasPrefix(p.Raw, []byte("-"+abortText)):
		l.answer(c, frame.AppendError(nil, "EXECABORT Transaction discarded because of: "+string(bytes.TrimPrefix(c.why, []byte("ERR ")))))
	default:
		l.answer(c, p.Raw)
	}
	return nil
}

// attribute takes the position that comes before a batch's replies.
func (l *link) attribute(p frame.Reply) error {
	replid, offset := l.replid, l.offset
	var key []byte
	p.Each(func(v frame.Reply) bool {
		switch {
		case key == nil:
			key = v.Text()
			return true
		case string(key) == "offset":
			offset, _ = v.Int()
		case string(key) == "replid":
			s := string(v.Text())
			replid = &s
		}
		key = nil
		return true
	})
	l.position(replid, offset)
	return nil
}

// pop takes the call whose reply has come; led: it was one of those before its own, and the call stays.
func (l *link) pop() (c *call, led bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == len(l.queue) {
		return nil, false
	}
	if c = l.queue[l.first]; c.lead > 0 {
		c.lead--
		return c, true
	}
	l.queue[l.first] = nil
	l.first++
	switch {
	case l.first == len(l.queue):
		l.queue, l.first = l.queue[:0], 0
		if cap(l.queue) > 4096 {
			l.queue = nil
		}
	case l.first >= 1024 && l.first*2 >= len(l.queue):
		n := copy(l.queue, l.queue[l.first:])
		clear(l.queue[n:])
		l.queue, l.first = l.queue[:n], 0
	}
	if l.blocked > 0 {
		l.room.Broadcast()
	}
	return c, false
}

// answer hands a reply to its call. What the reply promises is remembered before anybody can see it.
func (l *link) answer(c *call, raw []byte) {
	if c.race != nil {
		if c = l.g.arrive(c, !tryElsewhere(raw)); c == nil {
			return
		}
	}
	if c.read && !c.retried {
		if strays := c.until.IsZero() && !c.fetched && c.out.detour.Load() != nil; strays || tryElsewhere(raw) {
			if l.g.retry(c, l.remote.node) {
				return
			}
			if strays {
				l.g.answerFailed(c, l.remote, errNotSent)
				return
			}
		}
	}
	if l.switched(c, raw) {
		return
	}
	if c.read && isTooBig(raw) {
		if !l.g.fetch(c, l.remote.node, raw) {
			l.g.answerFailed(c, l.remote, errNotSent)
		}
		return
	}
	l.g.remember(l, c)
	if c.class < classCount && c.out != nil {
		took := l.now.Sub(c.started)
		l.g.meters.latency.of(c.cmd, c.route).observe(took, 1)
		if took > l.g.opt.SlowerThan && !c.blocks {
			if rtt, _ := l.g.opt.Mesh.RTT(l.remote.node); took-rtt > l.g.opt.SlowerThan {
				l.g.slowCall(c, l.now, took)
			}
		}
		if c.traced {
			l.g.traceCall(c, l.remote, l.now, raw)
		}
		if len(raw) >= l.g.opt.BigValue {
			l.g.bigValue(nil, nil, len(raw), "out")
		}
	}
	if c.tap != nil {
		c.tap(raw)
	}
	if c.replace != nil {
		raw = c.replace
	}
	if c.fn != nil {
		fn := c.fn
		fn(raw, nil)
		c.free()
	} else {
		if len(raw) > 9 && raw[0] == '-' && bytes.HasPrefix(raw, []byte("-READONLY")) {
			l.g.nudge()
		}
		out := c.out // c may be another's once it is completed
		out.complete(c, raw)
		if len(l.dirty) == 0 || l.dirty[len(l.dirty)-1] != out {
			l.dirty = append(l.dirty, out)
		}
		if len(l.dirty) >= 256 {
			l.flush()
		}
	}
	if l.pinned {
		l.checkIdle()
	}
}

// tryElsewhere says whether a reply only means that this copy doesn't serve reads.
func tryElsewhere(raw []byte) bool {
	return raw[0] == '-' && (bytes.HasPrefix(raw, []byte("-MASTERDOWN")) || bytes.HasPrefix(raw, []byte("-LOADING")))
}

func (l *link) flush() {
	for i, o := range l.dirty {
		o.flush()
		l.dirty[i] = nil
	}
	l.dirty = l.dirty[:0]
}
