package proxy

import (
	"sync"
	"time"
)

// call is a command on its way over a link. Its owner is first the session, then the link, and from the moment it
// is answered its output, which frees it when its turn in the order has come.
type call struct {
	out  *output // whose reply it is; nil: fn takes it
	fn   func(reply []byte, err error)
	next *call // in out

	read    bool // a plain read: may be tried once more elsewhere
	retried bool
	fresh   bool      // a read that no other copy than the primary may serve
	traced  bool      // the tracer is told of it
	mute    bool      // CLIENT REPLY OFF: nobody wants the answer
	queued  bool      // within MULTI: nothing is executed before EXEC
	lead    int       // replies that come before its own: those of a batch's MULTI and queued commands
	last    int       // length of the batch's EXEC: without it nothing was executed
	blocks  bool      // may wait in the store for ever
	until   time.Time // a write that a node refused since it doesn't lead goes to another one until then; zero: none has
	led     int       // lead, as it was when the call was made
	hedge   bool      // a read that another copy may be asked for as well, if this one is late
	any     bool      // of a session that takes any copy, however stale
	race    *race     // two links carry a read; this stands for it on one of them
	runner  *call     // …the read
	second  bool      // …and was sent later
	fetched bool      // a read whose long reply comes over another link than the replies behind it
	noWait  bool      // internal: isn't sent when the link is full

	raw     []byte       // a read, to be tried again
	proto   int          //
	db      int          //
	keys    []uint64     // what to remember for read-your-writes
	all     bool         // …or: every key
	replace []byte       // answered instead of the reply
	tap     func([]byte) // sees the reply before the client does
	cmd     int          // idOf its command
	head    []byte       // the beginning of a command that isn't a read, for the slow log
	class   class
	route   routeKind
	started time.Time

	start int64  // where the bytes begin in the link's stream by which it is executed
	why   []byte // the first error among the replies before its own

	done  bool   // answered, but not at its turn: guarded by out.mu
	reply []byte // guarded by out.mu
	after []byte // replies of the session itself that come after it: guarded by out.mu
}

var calls = sync.Pool{New: func() any { return new(call) }}

func newCall() *call { return calls.Get().(*call) }

// free returns the call to the pool, without what is too big to keep.
func (c *call) free() {
	raw, reply, after, keys, head := c.raw, c.reply, c.after, c.keys, c.head
	*c = call{}
	c.head = head[:0]
	const keep = 4 << 10
	if cap(raw) <= keep {
		c.raw = raw[:0]
	}
	if cap(reply) <= keep {
		c.reply = reply[:0]
	}
	if cap(after) <= keep {
		c.after = after[:0]
	}
	if cap(keys) <= 64 {
		c.keys = keys[:0]
	}
	calls.Put(c)
}
