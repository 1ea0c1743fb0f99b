package proxy

import (
	"bytes"
	"strconv"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// On a shared link all wait behind a long reply. So a read whose reply turns out to be long isn't answered there: the reply is kept, and the
// other node told to fetch it over a connection of its own. It isn't asked again, or it would show what came after its turn.

// bigShared is how long a reply may be on a shared link, give or take as much again.
const bigShared = 512 << 10

const tooBig = "RESPMESH the reply is too long for a shared link"

func isTooBig(raw []byte) bool { return bytes.HasPrefix(raw, []byte("-"+tooBig)) }

// keptReplies are those of a LinkServer that wait to be fetched. What finds no room is sent on the shared link.
type keptReplies struct {
	mu    sync.Mutex
	next  int64
	bytes int
	of    map[int64]keptReply
}

type keptReply struct {
	store Store
	reply []byte
	drop  *time.Timer
}

const (
	keepReplies = 64 << 20 // bytes; a single one may be longer
	keepReply   = 10 * time.Second
)

// keep takes a copy of a reply and returns the name that it is fetched by; 0: there is no room.
func (k *keptReplies) keep(store Store, reply []byte) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes > 0 && k.bytes+len(reply) > keepReplies {
		return 0
	}
	if k.of == nil {
		k.of = make(map[int64]keptReply)
	}
	k.next++
	name := k.next
	k.bytes += len(reply)
	k.of[name] = keptReply{store, bytes.Clone(reply), time.AfterFunc(keepReply, func() { k.fetch(store, name) })}
	return name
}

// fetch gives a reply away; nil: it isn't there, or not of that store.
func (k *keptReplies) fetch(store Store, name int64) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.of[name]
	if !ok || r.store != store {
		return nil
	}
	r.drop.Stop()
	delete(k.of, name)
	k.bytes -= len(r.reply)
	return r.reply
}

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
	if name := l.ls.kept.keep(l.store, l.reply[at:]); name > 0 {
		l.reply = frame.AppendError(l.reply[:at], tooBig+" "+strconv.FormatInt(name, 10))
	}
}

// fetched answers RESPMESH FETCH name.
func (l *served) fetched(name []byte) {
	if n, ok := frame.ParseInt(name); ok {
		if reply := l.ls.kept.fetch(l.store, n); reply != nil {
			l.reply = append(l.reply, reply...)
			return
		}
	}
	l.reply = frame.AppendError(l.reply, "LOADING the reply isn't kept any more") // as another copy will answer
}

// fetch gets what was too long for a shared link. False: there is no connection to be had.
func (g *Gateway) fetch(c *call, node string, told []byte) bool {
	l := g.takePinned(node, c.proto, c.db)
	if l == nil {
		return false
	}
	l.become(c.proto, c.db)
	c.fetched = true
	raw := c.raw // asked again: a node of an earlier version keeps nothing
	if name := bytes.TrimSpace(told[1+len(tooBig):]); len(name) > 0 {
		raw = frame.AppendCommandString(nil, "RESPMESH", "FETCH", string(name))
	}
	if l.send(c, raw) != nil {
		return false
	}
	l.kick()
	l.whenIdle(g.givePinned)
	return true
}
