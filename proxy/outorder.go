package proxy

// enqueue gives c its place in the order. It waits while the window is full; false: the client is gone.
func (o *output) enqueue(c *call, window int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.pending >= window && !o.closed {
		o.waitLocked()
	}
	if o.closed {
		return false
	}
	if o.tail == nil {
		o.head = c
	} else {
		o.tail.next = c
	}
	o.tail = c
	o.pending++
	o.strict.joinLocked(c)
	if !c.read {
		o.writes++
	}
	return true
}

// complete gives c its reply. It is called exactly once for each call that was enqueued, by any goroutine. The caller
// flushes afterwards.
func (o *output) complete(c *call, reply []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending--; o.pending == 0 {
		o.strict.relaxLocked()
	}
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
