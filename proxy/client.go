package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

const badName = "ERR Client names cannot contain spaces, newlines or special characters."

// client answers the CLIENT family. It speaks of the sessions of this node and database.
func client(s *session, w *work, args [][]byte) {
	if len(args) < 2 {
		w.error("ERR wrong number of arguments for 'client' command")
		return
	}
	switch sub := strings.ToLower(string(args[1])); sub {
	case "id":
		w.out = frame.AppendInt(w.out, s.id)
	case "getname":
		if name := s.title(); name != "" {
			w.out = frame.AppendBulkString(w.out, name)
		} else {
			w.out = frame.AppendNull(w.out, s.proto)
		}
	case "setname":
		if !s.setName(args[2]) {
			w.error(badName)
			return
		}
		w.ok()
	case "setinfo":
		s.setInfo(w, args)
	case "info":
		w.out = frame.AppendVerbatim(w.out, "txt", s.describe(time.Now()), s.proto)
	case "list":
		s.list(w, args)
	case "kill":
		s.killOthers(w, args)
	case "no-evict", "no-touch":
		if len(args) != 3 || !command.EqualFold(args[2], "on") && !command.EqualFold(args[2], "off") {
			w.error("ERR syntax error")
			return
		}
		w.ok() // the node evicts no clients, and reads of a replica touch nothing
	case "reply":
		s.replyMode(w, args[2])
	case "tracking", "trackinginfo", "caching", "getredir":
		clientTracking(s, w, args, sub)
	case "pause":
		clientPause(s, w, args)
	case "unpause":
		clientUnpause(s, w)
	case "unblock":
		clientUnblock(s, w, args)
	case "help":
		w.out = frame.AppendArray(w.out, 1)
		w.out = frame.AppendSimple(w.out, "CLIENT CACHING|GETNAME|GETREDIR|ID|INFO|KILL|LIST|NO-EVICT|NO-TOUCH|PAUSE|REPLY|SETINFO|SETNAME|TRACKING|TRACKINGINFO|UNBLOCK|UNPAUSE")
	default:
		w.error(command.UnknownError(args))
	}
}

func printable(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < '!' || c > '~' })
}

func (s *session) setName(name []byte) bool {
	if !printable(name) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = string(name)
	return true
}

func (s *session) title() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

func (s *session) setInfo(w *work, args [][]byte) {
	if len(args) != 4 {
		w.error("ERR wrong number of arguments for 'client|setinfo' command")
		return
	}
	attr := strings.ToLower(string(args[2]))
	if attr != "lib-name" && attr != "lib-ver" {
		w.error("ERR Unrecognized option '" + string(args[2]) + "'")
		return
	}
	if !printable(args[3]) {
		w.error("ERR " + attr + " cannot contain spaces, newlines or special characters.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if attr == "lib-name" {
		s.libName = string(args[3])
	} else {
		s.libVer = string(args[3])
	}
	w.ok()
}

// replyMode is CLIENT REPLY. OFF and SKIP aren't answered themselves.
func (s *session) replyMode(w *work, mode []byte) {
	switch {
	case command.EqualFold(mode, "on"):
		s.mute = false
		w.ok()
	case command.EqualFold(mode, "off"):
		s.mute = true
	case command.EqualFold(mode, "skip"):
		s.skip = !s.mute
	default:
		w.error("ERR syntax error")
	}
}

// userName is for CLIENT LIST.
func (s *session) userName() string {
	if u := s.who.Load(); u != nil {
		return u.Name
	}
	return defaultUser
}

// flags are the session's in CLIENT LIST.
func (s *session) flags() string {
	f := ""
	if s.listens.Load() > 0 {
		f += "P"
	}
	if s.waits.Load() != nil {
		f += "b"
	}
	return cmp.Or(f, "N")
}

// describe is the session's line in CLIENT LIST.
func (s *session) describe(now time.Time) string {
	s.mu.Lock()
	name, libName, libVer := s.name, s.libName, s.libVer
	s.mu.Unlock()
	cmd := "NULL"
	if c := s.lastCmd.Load(); c != nil {
		cmd = c.Name
	}
	idle := now.Sub(time.Unix(0, s.lastActive.Load()))
	peer := "" // a field more at the end, as new versions of Redis have had them
	if s.peer != "" {
		peer = " peer=" + s.peer
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=-1 name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=0 multi=-1 "+
		"omem=%d cmd=%s user=%s resp=%d lib-name=%s lib-ver=%s%s\n", s.id, s.conn.RemoteAddr(), s.conn.LocalAddr(), name,
		int(now.Sub(s.since).Seconds()), int(idle.Seconds()), s.flags(), s.seenDB.Load(), s.listens.Load(), s.out.untaken(), cmd, s.userName(), s.seenProto.Load(), libName, libVer, peer)
}

func (s *session) list(w *work, args [][]byte) {
	var ids []int64
	kind := ""
	switch {
	case len(args) == 2:
	case len(args) == 4 && command.EqualFold(args[2], "type"):
		if kind = strings.ToLower(string(args[3])); kind != "normal" && kind != "pubsub" && kind != "master" && kind != "replica" && kind != "slave" {
			w.error("ERR Unknown client type '" + printableName(args[3]) + "'")
			return
		}
	case len(args) > 3 && command.EqualFold(args[2], "id"):
		for _, a := range args[3:] {
			n, ok := frame.ParseInt(a)
			if !ok || n <= 0 {
				w.error("ERR Invalid client ID")
				return
			}
			ids = append(ids, n)
		}
	default:
		w.error("ERR syntax error")
		return
	}
	all := s.g.snapshot()
	slices.SortFunc(all, func(a, b *session) int { return int(a.id - b.id) })
	var b strings.Builder
	now := time.Now()
	for _, o := range all {
		listens := o.listens.Load() > 0
		fits := kind == "" || kind == "pubsub" && listens || kind == "normal" && !listens
		if fits && (ids == nil || slices.Contains(ids, o.id)) {
			b.WriteString(o.describe(now))
		}
	}
	w.out = frame.AppendVerbatim(w.out, "txt", b.String(), s.proto)
}

// killOthers is CLIENT KILL addr, and CLIENT KILL with the filters ID, ADDR, LADDR, USER, TYPE and SKIPME.
func (s *session) killOthers(w *work, args [][]byte) {
	old := len(args) == 3
	skipMe := !old
	matches := []func(*session) bool{}
	if old {
		addr := string(args[2])
		matches = append(matches, func(o *session) bool { return o.conn.RemoteAddr().String() == addr })
	} else if len(args)%2 != 0 || len(args) < 4 {
		w.error("ERR syntax error")
		return
	}
	for i := 2; !old && i+1 < len(args); i += 2 {
		key, value := strings.ToLower(string(args[i])), string(bytes.Clone(args[i+1]))
		switch key {
		case "id":
			n, ok := frame.ParseInt(args[i+1])
			if !ok || n <= 0 {
				w.error("ERR client-id should be greater than 0")
				return
			}
			matches = append(matches, func(o *session) bool { return o.id == n })
		case "addr":
			matches = append(matches, func(o *session) bool { return o.conn.RemoteAddr().String() == value })
		case "laddr":
			matches = append(matches, func(o *session) bool { return o.conn.LocalAddr().String() == value })
		case "user":
			if s.users.byName[value] == nil {
				w.error("ERR No such user '" + printableName(args[i+1]) + "'")
				return
			}
			matches = append(matches, func(o *session) bool { return o.userName() == value })
		case "type":
			kind := strings.ToLower(value)
			if kind != "normal" && kind != "pubsub" && kind != "master" && kind != "replica" && kind != "slave" {
				w.error("ERR Unknown client type '" + printableName(args[i+1]) + "'")
				return
			}
			matches = append(matches, func(o *session) bool {
				return kind == "pubsub" && o.listens.Load() > 0 || kind == "normal" && o.listens.Load() == 0
			})
		case "skipme":
			skipMe = strings.EqualFold(value, "yes")
		default:
			w.error("ERR syntax error")
			return
		}
	}
	killed := 0
	for _, o := range s.g.snapshot() {
		if o == s && skipMe || slices.ContainsFunc(matches, func(m func(*session) bool) bool { return !m(o) }) {
			continue
		}
		killed++
		if o == s {
			s.closing = true // after the reply
		} else {
			o.kill(cutKilled)
		}
	}
	switch {
	case !old:
		w.out = frame.AppendInt(w.out, int64(killed))
	case killed == 0:
		w.error("ERR No such client")
	default:
		w.ok()
	}
}
