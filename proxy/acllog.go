package proxy

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// acllog keeps what users of this node's sessions were refused: wrong passwords, commands, keys and channels that aren't
// theirs. It is as Redis's (acl.c), with the fields of 7.2: the same again within a minute is counted, not added.
type acllog struct {
	mu      sync.Mutex
	entries []aclEntry // the newest first
	next    int64
}

const (
	aclKeep  = 128
	aclWhole = 128 // bytes of a name or object
	aclGroup = time.Minute
)

type aclEntry struct {
	id              int64
	count           int64
	reason, context string
	object, user    string
	created, last   time.Time
	client          string
}

func (l *acllog) add(e aclEntry, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.count, e.created, e.last = 1, now, now
	i := slices.IndexFunc(l.entries, func(o aclEntry) bool {
		return o.reason == e.reason && o.context == e.context && o.object == e.object && o.user == e.user && now.Sub(o.last) <= aclGroup
	})
	if i >= 0 {
		old := l.entries[i]
		l.entries = slices.Delete(l.entries, i, i+1)
		e.id, e.created, e.count = old.id, old.created, old.count+1
	} else {
		e.id = l.next
		l.next++
	}
	if len(l.entries) == aclKeep {
		l.entries = l.entries[:aclKeep-1]
	}
	l.entries = slices.Insert(l.entries, 0, e)
}

func (l *acllog) latest(n int) []aclEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries[:min(n, len(l.entries))])
}

func (l *acllog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

// denied notes that the session was refused something. Nothing of the command's values is kept.
func (s *session) denied(reason string, object, user []byte) {
	now := time.Now()
	context := "toplevel"
	if s.tx.open {
		context = "multi"
	}
	s.g.acl.add(aclEntry{
		reason: reason, context: context, object: string(object[:min(len(object), aclWhole)]), user: string(user[:min(len(user), aclWhole)]),
		client: strings.TrimSuffix(s.describe(now), "\n"),
	}, now)
}

// aclLog is ACL LOG [count | RESET].
func aclLog(s *session, w *work, args [][]byte) {
	n := int64(10)
	switch {
	case len(args) > 3:
		w.error(command.UnknownError(args))
		return
	case len(args) == 3 && command.EqualFold(args[2], "reset"):
		s.g.acl.reset()
		w.ok()
		return
	case len(args) == 3:
		var ok bool
		if n, ok = frame.ParseInt(bytes.TrimSpace(args[2])); !ok {
			w.error("ERR value is not an integer or out of range")
			return
		}
	}
	now := time.Now()
	entries := s.g.acl.latest(int(min(max(n, 0), aclKeep)))
	w.out = frame.AppendArray(w.out, len(entries))
	text := func(k, v string) { w.out = frame.AppendBulkString(frame.AppendBulkString(w.out, k), v) }
	number := func(k string, n int64) { w.out = frame.AppendInt(frame.AppendBulkString(w.out, k), n) }
	for _, e := range entries {
		w.out = frame.AppendMap(w.out, 10, s.proto)
		number("count", e.count)
		text("reason", e.reason)
		text("context", e.context)
		text("object", e.object)
		text("username", e.user)
		w.out = frame.AppendDouble(frame.AppendBulkString(w.out, "age-seconds"), float64(now.Sub(e.created).Milliseconds())/1000, s.proto)
		text("client-info", e.client)
		number("entry-id", e.id)
		number("timestamp-created", e.created.UnixMilli())
		number("timestamp-last-updated", e.last.UnixMilli())
	}
}
