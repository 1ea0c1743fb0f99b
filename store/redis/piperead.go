package redis

import (
	"bytes"
	"fmt"
	"time"

	"respmesh/resp/frame"
)

// read answers the calls in order until the connection ends.
func (p *pipe) read(r *frame.Reader) error {
	var f frame.Reply
	for {
		for {
			ok, err := r.NextReply(&f)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := p.receive(f); err != nil {
				return err
			}
		}
		p.letGo()
		if err := r.Fill(); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		p.heard.Store(time.Now().UnixNano())
	}
}

// next is the oldest unanswered call, nil if there is none.
func (p *pipe) next() *call {
	if p.at == len(p.taken) {
		clear(p.taken)
		p.mu.Lock()
		p.taken, p.queue = p.queue, p.taken[:0]
		if cap(p.queue) > 4096 {
			p.queue = nil
		}
		p.mu.Unlock()
		p.at = 0
		if len(p.taken) == 0 {
			return nil
		}
	}
	return p.taken[p.at]
}

// receive takes one frame.
func (p *pipe) receive(f frame.Reply) error {
	c := p.next()
	switch f.Kind() {
	case frame.Attribute:
		return nil
	case frame.Push:
		if c == nil || !c.confirms || !isConfirmation(f) {
			if push := p.onPush.Load(); push != nil {
				(*push)(f.Raw)
			}
			return nil
		}
	default:
		if c == nil {
			if push := p.onPush.Load(); push != nil && p.stray.Load() {
				(*push)(f.Raw)
				return nil
			}
			return errFrame
		}
	}
	if c == &p.role {
		p.offset(f)
		return nil
	}
	if c.state.Load() != callHeld && !c.state.CompareAndSwap(callWaits, callHeld) {
		c.got++ // nobody wants it
	} else {
		c.last = len(c.dst)
		c.dst = append(c.dst, f.Raw...)
		c.got++
	}
	if c.confirms && f.Kind() != frame.Push {
		c.got = c.need // an error instead of all confirmations
	}
	if c.got < c.need {
		return nil
	}
	p.at++
	p.waiting.Add(-1)
	if c.changes {
		p.held = append(p.held, c)
		return nil
	}
	p.finish(c)
	return nil
}

// finish tells the session, if it hasn't left.
func (p *pipe) finish(c *call) {
	if c.state.Load() != callLeft {
		c.done <- struct{}{}
	}
}

// letGo allows sessions to leave while nothing is there to be read.
func (p *pipe) letGo() {
	if p.at < len(p.taken) {
		p.taken[p.at].state.CompareAndSwap(callHeld, callWaits)
	}
	for _, c := range p.held {
		c.state.CompareAndSwap(callHeld, callWaits)
	}
}

// offset takes the reply to ROLE, and answers those who waited for it.
func (p *pipe) offset(f frame.Reply) {
	p.at++
	p.waiting.Add(-1)
	if offset, ok := roleOffset(f); ok && p.moved != nil {
		p.moved(offset)
	}
	for i, h := range p.held {
		if h.state.CompareAndSwap(callWaits, callHeld) || h.state.Load() == callHeld {
			h.done <- struct{}{}
		}
		p.held[i] = nil
	}
	p.held = p.held[:0]
}

// roleOffset reads the offset out of a primary's answer to ROLE.
func roleOffset(f frame.Reply) (offset int64, ok bool) {
	if f.Kind() != frame.Array {
		return 0, false
	}
	i := 0
	f.Each(func(e frame.Reply) bool {
		switch i {
		case 0:
			if string(e.Text()) != "master" {
				return false
			}
		case 1:
			offset, ok = e.Int()
			return false
		}
		i++
		return true
	})
	return offset, ok
}

// isConfirmation tells the confirmation of a subscription from a message.
func isConfirmation(f frame.Reply) (yes bool) {
	f.Each(func(e frame.Reply) bool {
		yes = bytes.HasSuffix(e.Text(), []byte("subscribe"))
		return false
	})
	return yes
}

// fail answers what is left when both goroutines are done with the connection.
func (p *pipe) fail() {
	p.mu.Lock()
	for p.inWrite { // what the socket took decides
		p.room.Wait()
	}
	left := append(p.taken[p.at:len(p.taken):len(p.taken)], p.queue...)
	p.queue, p.buf, p.spare = nil, nil, nil
	written := p.written
	p.mu.Unlock()
	for _, c := range append(p.held, left...) {
		if c == &p.role || !c.state.CompareAndSwap(callWaits, callHeld) && c.state.Load() != callHeld {
			continue
		}
		c.err = p.cause
		if c.changes { // replies without an offset: others might not see what they say
			c.got = 0
		}
		c.sent = max(0, written-c.start)
		c.done <- struct{}{}
	}
	p.held, p.taken, p.at = nil, nil, 0
	p.waiting.Store(0)
}
