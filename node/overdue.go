package node

import (
	"sync/atomic"
	"time"
)

// overdue tells the way of each batch whether the guard of an election should have looked by now. After a process was
// stopped for longer than its lease, those who wait to write may run before the guard does.
type overdue struct {
	began time.Time
	at    atomic.Int64 // when the guard looks, in ns since began; 0: never
	look  func()       // has it look at once
}

func newOverdue(look func()) *overdue { return &overdue{began: time.Now(), look: look} }

// in says when the guard looks next.
func (o *overdue) in(left time.Duration) {
	if o != nil {
		o.at.Store(max(int64(time.Since(o.began)+left), 1))
	}
}

// check is cheap until it's time. It mustn't be called under the engine's lock.
func (o *overdue) check() {
	if o == nil {
		return
	}
	if at := o.at.Load(); at != 0 && int64(time.Since(o.began)) >= at {
		o.look()
	}
}
