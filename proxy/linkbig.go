package proxy

import (
	"bytes"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// On a shared link all wait behind a long reply. So a read whose reply turns out to be long isn't answered there: the other
// node is told, and asks again over a connection of its own.

// bigShared is how long a reply may be on a shared link, give or take as much again.
const bigShared = 512 << 10

const tooBig = "RESPMESH the reply is too long for a shared link"

func isTooBig(raw []byte) bool { return bytes.HasPrefix(raw, []byte("-"+tooBig)) }

// do executes a batch.
func (l *served) do(reqs []command.Request) {
	within, ok := l.sc.(BoundedConn)
	if !ok || l.out != nil {
		l.reply = l.sc.Do(l.ctx, l.reply, reqs)
		return
	}
	for len(reqs) > 0 {
		from := len(l.reply)
		var n int
		if l.reply, n = within.DoWithin(l.ctx, l.reply, reqs, bigShared); n == 0 {
			return
		}
		if len(l.reply)-from > 2*bigShared && l.ls.table.of(reqs[n-1].Spec).class == classRead {
			l.leaveOut(from, n)
		}
		if reqs = reqs[n:]; len(reqs) > 0 && len(l.reply) >= linkKeep {
			back := l.away()
			err := l.write()
			if back(); err != nil {
				return
			}
		}
	}
}

// leaveOut takes back the last of n replies, which is the long one: the batch would have ended with an earlier one.
func (l *served) leaveOut(from, n int) {
	r := frame.NewReader(bytes.NewReader(l.reply[from:min(len(l.reply), from+bigShared+1)]))
	at := from
	var p frame.Reply
	for range n - 1 {
		if r.ReadReply(&p) != nil {
			return // it can't be; then all of it is sent
		}
		at += len(p.Raw)
	}
	l.reply = frame.AppendError(l.reply[:at], tooBig)
}

// askAlone asks again for what was too long for a shared link. False: there is no connection to be had.
func (g *Gateway) askAlone(c *call, node string) bool {
	l := g.takePinned(node, c.proto, c.db)
	if l == nil {
		return false
	}
	l.become(c.proto, c.db)
	if l.send(c, c.raw) != nil {
		return false
	}
	l.kick()
	l.whenIdle(g.givePinned)
	return true
}
