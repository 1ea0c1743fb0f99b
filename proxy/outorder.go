package proxy

// placing is how enqueue ended.
type placing uint8

const (
	placed    placing = iota
	overtaken         // nothing is in flight any more, and it is to be decided anew where the call goes
	clientGone
)

// enqueue gives c its place in the order. It waits while the window is full, and while what is in flight isn't where it was sent to
// (see detour). A read has been overtaken if anything was asked elsewhere since the session looked last.
func (o *output) enqueue(c *call, window int) placing {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.pending >= window && !o.closed {
		o.waitLocked()
	}
	if o.racing || o.detour.Load() != nil {
		for o.pending > 0 && !o.closed {
			o.waitLocked()
		}
		o.straightLocked()
		if c.read && !o.closed {
			return overtaken
		}
	}
	if o.closed {
		return clientGone
	}
	if o.tail == nil {
		o.head = c
	} else {
		o.tail.next = c
	}
	o.tail = c
	o.pending++
	if !c.read {
		o.writes++
	}
	return placed
}

// straightLocked ends races and detours, once all that took part is answered. Only the session says so: what it is about to do may have
// been decided before.
func (o *output) straightLocked() {
	if o.pending == 0 {
		o.racing = false
		o.detour.Store(nil)
	}
}

// look is inFlight for the session, which decides after it where to go next.
func (o *output) look() (all, writes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.straightLocked()
	return o.pending, o.writes
}

// await waits until everything before c is answered, or the client is gone.
func (o *output) await(c *call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.head != c && !o.closed {
		o.waitLocked()
	}
}

func (o *output) isLast(c *call) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tail == c
}

// followsWrite says whether something that isn't a plain read is unanswered before c.
func (o *output) followsWrite(c *call) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := o.head; k != nil && k != c; k = k.next {
		if !k.read && !k.done {
			return true
		}
	}
	return false
}

// complete gives c its reply. It is called exactly once for each call that was enqueued, by any goroutine. The caller
// flushes afterwards.
func (o *output) complete(c *call, reply []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending--
	if !c.read {
		o.writes--
	}
	if o.waiting > 0 {
		o.changed.Broadcast()
	}
	if o.closed {
		return
	}
	if c.mute {
		reply = nil
	}
	if c != o.head {
		c.reply = append(c.reply[:0], reply...)
		c.done = true
		o.behind += len(reply)
		o.checkLocked(len(reply))
		return
	}
	if o.buf == nil {
		o.buf = o.takeSpare()
	}
	o.buf = append(o.buf, reply...)
	for {
		next := c.next
		o.buf = append(o.buf, c.after...)
		o.behind -= len(c.after)
		c.free()
		o.head = next
		if next == nil {
			o.tail = nil
			break
		}
		if !next.done {
			break
		}
		o.buf = append(o.buf, next.reply...)
		o.behind -= len(next.reply)
		c = next
	}
	o.checkLocked(len(reply))
}
