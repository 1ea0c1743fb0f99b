package proxy

import (
	"fmt"
	"time"

	"respmesh/resp/command"
)

// monitor is MONITOR: the session is shown the commands of this node's sessions of the database as they arrive, whatever
// route they take. One that doesn't take them in time is cut like any slow client.
func monitor(s *session, w *work, _ [][]byte) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	if s.g.monitors == nil {
		s.g.monitors = make(map[*session]struct{})
	}
	s.g.monitors[s] = struct{}{}
	s.g.monitored.Store(int32(len(s.g.monitors)))
	s.monitors = true
	w.ok()
}

// unmonitor ends MONITOR.
func (s *session) unmonitor() {
	if !s.monitors {
		return
	}
	s.monitors = false
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	delete(s.g.monitors, s)
	s.g.monitored.Store(int32(len(s.g.monitors)))
}

// show tells those who watch of a command. Passwords and administration aren't shown.
func (s *session) show(req *command.Request, e *entry) {
	if req.Spec != nil && (req.Is(command.FlagSkipMonitor|command.FlagAdmin) || e.is(traitAuth) || e.is(traitHello) && len(req.Args) > 2) {
		return
	}
	now := time.Now()
	line := fmt.Appendf(nil, "+%d.%06d [%d %s]", now.Unix(), now.Nanosecond()/1000, s.db, s.conn.RemoteAddr())
	for _, a := range req.Args {
		line = append(line, ' ')
		line = appendQuoted(line, a)
	}
	line = append(line, '\r', '\n')
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	for m := range s.g.monitors {
		if m != s {
			m.out.push(line)
		}
	}
}

// appendQuoted is a string as redis-cli shows it.
func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\a':
			dst = append(dst, '\\', 'a')
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c < ' ' || c > '~':
			dst = fmt.Appendf(dst, `\x%02x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// session finds one by its ID.
func (g *Gateway) session(id int64) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[id]
}
