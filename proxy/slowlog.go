package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// slowlog keeps the commands of this node's sessions that took long: in the local store, or elsewhere beyond the round trip.
// Commands that may wait aren't in it.
type slowlog struct {
	mu   sync.Mutex
	next int64
	ring []slowEntry // slowKeep once there was one; next%slowKeep is the oldest
	from int64       // entries before were reset
}

const (
	slowKeep = 128
	slowArgs = 32  // arguments of an entry
	slowArg  = 128 // bytes of one
	slowRaw  = 512 // of a forwarded write, kept in case that it is slow
)

type slowEntry struct {
	id     int64
	at     time.Time
	took   time.Duration
	args   []string
	client string
	name   string
}

func (l *slowlog) add(e slowEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ring == nil {
		l.ring = make([]slowEntry, slowKeep)
	}
	e.id = l.next
	l.ring[l.next%slowKeep] = e
	l.next++
}

// latest returns entries, the newest first.
func (l *slowlog) latest(n int) (all []slowEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := l.next - 1; id >= max(l.from, l.next-slowKeep) && len(all) < n; id-- {
		all = append(all, l.ring[id%slowKeep])
	}
	return all
}

func (l *slowlog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = l.next
	clear(l.ring[:])
}

// brief copies arguments as SLOWLOG shows them.
func brief(args [][]byte) (list []string) {
	for i, a := range args {
		if i == slowArgs-1 && len(args) > slowArgs {
			return append(list, fmt.Sprintf("... (%d more arguments)", len(args)-i))
		}
		if len(a) > slowArg {
			list = append(list, fmt.Sprintf("%s... (%d more bytes)", a[:slowArg], len(a)-slowArg))
		} else {
			list = append(list, string(a))
		}
	}
	return list
}

// slowBatch notes a run of the local store that took long. Of several commands it isn't known which it was.
func (s *session) slowBatch(reqs []command.Request, took time.Duration) {
	if len(reqs) == 0 || len(reqs[0].Args) == 0 {
		return
	}
	args := brief(reqs[0].Args)
	if len(reqs) > 1 {
		args = append(args, fmt.Sprintf("... (and %d more commands of a pipeline)", len(reqs)-1))
	}
	s.g.slow.add(slowEntry{at: time.Now(), took: took, args: args, client: s.conn.RemoteAddr().String(), name: s.title()})
}

// slowCall notes a forwarded command that took long.
func (g *Gateway) slowCall(c *call, now time.Time, took time.Duration) {
	raw := c.raw
	if len(raw) == 0 {
		raw = c.head
	}
	var args [][]byte
	for rest := raw; ; { // what was kept of it may end anywhere
		i := bytes.IndexByte(rest, '\n')
		if i < 0 || len(args) > slowArgs {
			break
		}
		if rest[0] != '$' {
			rest = rest[i+1:]
			continue
		}
		n, _ := frame.ParseInt(bytes.TrimSuffix(rest[1:i], []byte("\r")))
		rest = rest[i+1:]
		end := min(int(max(n, 0)), len(rest))
		args = append(args, rest[:end])
		rest = rest[min(end+2, len(rest)):]
	}
	g.slow.add(slowEntry{at: now, took: took, args: brief(args), client: c.out.conn.RemoteAddr().String()})
}

// slowlogCommand answers SLOWLOG for this node.
func slowlogCommand(s *session, w *work, args [][]byte) {
	if len(args) < 2 {
		w.error("ERR wrong number of arguments for 'slowlog' command")
		return
	}
	switch sub := strings.ToLower(string(args[1])); sub {
	case "reset":
		s.g.slow.reset()
		w.ok()
	case "len":
		w.out = frame.AppendInt(w.out, int64(len(s.g.slow.latest(slowKeep))))
	case "get":
		n := int64(10)
		if len(args) == 3 {
			var ok bool
			if n, ok = frame.ParseInt(args[2]); !ok || n < -1 {
				w.error("ERR count should be greater than or equal to -1")
				return
			}
			if n == -1 {
				n = slowKeep
			}
		}
		all := s.g.slow.latest(int(min(n, slowKeep)))
		w.out = frame.AppendArray(w.out, len(all))
		for _, e := range all {
			w.out = frame.AppendInt(frame.AppendInt(frame.AppendInt(frame.AppendArray(w.out, 6), e.id), e.at.Unix()), e.took.Microseconds())
			w.out = frame.AppendArray(w.out, len(e.args))
			for _, a := range e.args {
				w.out = frame.AppendBulkString(w.out, a)
			}
			w.out = frame.AppendBulkString(frame.AppendBulkString(w.out, e.client), e.name)
		}
	case "help":
		lines := []string{"SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", "GET [<count>]", "LEN", "RESET",
			"The log is this node's: what its own store was slow at, and what took long elsewhere beyond the round trip."}
		w.out = frame.AppendArray(w.out, len(lines))
		for _, l := range lines {
			w.out = frame.AppendSimple(w.out, l)
		}
	default:
		w.error(command.UnknownError(args))
	}
}
