package proxy

import (
	"bytes"
	"context"
	"sync/atomic"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// special executes what a pinned link does beyond batches: waiting, and subscribing.
func (l *served) special(req *command.Request) bool {
	e := l.ls.table.of(req.Spec)
	if e.is(traitHello) && len(req.Args) > 1 {
		if n, ok := frame.ParseInt(req.Args[1]); ok && (n == 2 || n == 3) {
			l.proto = int(n)
		}
	}
	if req.Spec != nil && req.Name == "client|tracking" && len(req.Args) > 2 && command.EqualFold(req.Args[2], "on") {
		l.tracks = true
	}
	switch {
	case e.is(traitSubscribe | traitUnsubscribe):
		held := clone(req)
		l.execute()
		if e.is(traitSubscribe) {
			l.out.holdPushes()
		}
		l.reply = l.sc.Do(l.ctx, l.reply, []command.Request{held})
		if e.is(traitSubscribe) {
			l.flush()
			l.out.release()
		}
	case e.is(traitBlocking), e.is(traitBlockOption) && command.HasBlock(req.Args):
		held := clone(req)
		if l.flush() != nil {
			return true
		}
		defer l.ls.wait(l)()
		ctx, cancel := context.WithCancel(l.ctx)
		defer cancel()
		watch := &watcher{r: l.r, conn: l.conn}
		var told atomic.Int32 // as in blockHere
		watch.more = func(b []byte) {
			switch {
			case bytes.HasPrefix(b, unblockTimeout):
				told.Store(1)
			case bytes.HasPrefix(b, unblockError):
				told.Store(2)
			default:
				return
			}
			cancel()
		}
		watch.more(l.r.Buffered())
		stop := watch.start(cancel, func() bool { return false })
		from := len(l.reply)
		l.reply = l.sc.Do(ctx, l.reply, []command.Request{held})
		if stop() {
			l.cancel()
		} else if how := told.Load(); how > 0 && nothing(l.reply[from:]) {
			l.reply = unblocked(l.reply[:from], &held, how == 2, l.proto)
		}
	default:
		return false
	}
	return true
}

// What CLIENT UNBLOCK sends after the command that waits: it is the next that comes.
var (
	unblockTimeout = frame.AppendCommandString(nil, "RESPMESH", "UNBLOCK", "TIMEOUT")
	unblockError   = frame.AppendCommandString(nil, "RESPMESH", "UNBLOCK", "ERROR")
)
