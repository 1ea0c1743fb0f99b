package redis

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"respmesh/resp/frame"
)

// read answers the calls in order until the connection ends. It is called, and returns, holding p.reading.
func (p *pipe) read() error {
	idle := time.NewTimer(lendTime)
	defer idle.Stop()
	for {
		if err := p.answer(); err != nil {
			return err
		}
		if p.lent && p.waiting.Load() == 0 {
			p.lend(idle)
		}
		if err := p.fill(); err != nil {
			return err
		}
	}
}

// answer answers with what has come.
func (p *pipe) answer() error {
	var f frame.Reply
	for {
		ok, err := p.r.NextReply(&f)
		if err != nil {
			return err
		}
		if !ok {
			p.letGo()
			return nil
		}
		if err := p.receive(f); err != nil {
			return err
		}
	}
}

// fill waits for more. A deadline is only meant to interrupt a session that reads.
func (p *pipe) fill() error {
	for {
		err := p.r.Fill()
		if err == nil {
			p.heard.Store(time.Now().UnixNano())
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read: %w", err)
		}
		p.conn.SetReadDeadline(time.Time{})
	}
}

// lendTime is how long a pipe that nobody uses isn't read, and at least how long a session that reads goes unnoticed.
const lendTime = 10 * time.Millisecond

// lend lets sessions read for themselves while there is one at a time: its reply then wakes it, and not first this goroutine,
// which would wake it. The lock is held before and after.
func (p *pipe) lend(idle *time.Timer) {
	p.reading.Unlock()
	idle.Reset(lendTime)
	for last := p.reads.Load(); ; {
		select {
		case <-p.wanted:
			if p.reading.TryLock() {
				return
			}
			continue // a session reads; it will say so if it leaves something
		case <-idle.C:
		}
		now := p.reads.Load()
		if now == last {
			if p.reading.TryLock() {
				return
			}
			p.conn.SetReadDeadline(time.Unix(1, 0)) // it waits for long, and can't see that its client has gone
		}
		last = now
		idle.Reset(lendTime)
	}
}

// readFor has the session of a call read until that is answered. False: the pipe's goroutine reads, or is about to.
func (p *pipe) readFor(c *call) (answered bool) {
	if !p.lent || !p.reading.TryLock() {
		return false
	}
	p.reads.Add(1)
	for {
		err := p.answer()
		if err == nil {
			select {
			case <-c.done:
				answered = true
			default:
				if err = p.r.Fill(); err == nil {
					continue
				}
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.conn.SetReadDeadline(time.Time{})
		} else if err != nil {
			p.close(fmt.Errorf("read: %w", err))
		}
		break
	}
	if answered {
		p.heard.Store(time.Now().UnixNano())
	}
	p.reading.Unlock()
	if !answered || p.waiting.Load() > 0 {
		select {
		case p.wanted <- struct{}{}:
		default:
		}
	}
	return answered
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
