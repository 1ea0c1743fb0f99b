package proxy

import (
	"strconv"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// selfFunc answers a command without a store: it appends the reply to w.out. The number of arguments is right.
type selfFunc func(s *session, w *work, args [][]byte)

func selfFuncs() map[string]selfFunc {
	m := map[string]selfFunc{
		"ping": ping, "echo": echo, "auth": auth, "hello": hello, "select": selectDB, "quit": quit, "reset": reset,
		"readonly":  func(s *session, w *work, _ [][]byte) { s.mode = readAny; w.ok() },
		"readwrite": func(s *session, w *work, _ [][]byte) { s.mode = readPrimary; w.ok() },
		"client":    client,
		"monitor":   monitor,
	}
	for _, name := range []string{"caching", "getname", "getredir", "help", "id", "info", "kill", "list", "no-evict",
		"pause", "reply", "setname", "tracking", "trackinginfo", "unblock", "unpause"} {
		m["client|"+name] = client
	}
	for _, name := range []string{"", "|count", "|docs", "|getkeys", "|getkeysandflags", "|help", "|info", "|list"} {
		m["command"+name] = func(s *session, w *work, args [][]byte) { w.out = command.AppendAnswer(w.out, args, s.proto) }
	}
	for _, name := range []string{"slowlog", "slowlog|get", "slowlog|len", "slowlog|reset", "slowlog|help"} {
		m[name] = slowlogCommand
	}
	for _, name := range []string{"whoami", "users", "list", "getuser", "cat", "dryrun", "genpass", "log", "help"} {
		m["acl|"+name] = aclCommand
	}
	return m
}

func (w *work) ok()               { w.out = frame.AppendSimple(w.out, "OK") }
func (w *work) error(text string) { w.out = frame.AppendError(w.out, text) }

func ping(s *session, w *work, args [][]byte) {
	switch {
	case len(args) > 2:
		w.error("ERR wrong number of arguments for 'ping' command")
	case s.sub.n > 0 && s.proto == 2:
		w.out = frame.AppendBulkString(frame.AppendArray(w.out, 2), "pong")
		if len(args) == 2 {
			w.out = frame.AppendBulk(w.out, args[1])
		} else {
			w.out = frame.AppendBulkString(w.out, "")
		}
	case len(args) == 2:
		w.out = frame.AppendBulk(w.out, args[1])
	default:
		w.out = frame.AppendSimple(w.out, "PONG")
	}
}

func echo(_ *session, w *work, args [][]byte) { w.out = frame.AppendBulk(w.out, args[1]) }

func quit(s *session, w *work, _ [][]byte) {
	w.ok()
	s.closing = true
}

const wrongPass = "WRONGPASS invalid username-password pair or user is disabled."

func auth(s *session, w *work, args [][]byte) {
	switch {
	case len(args) > 3:
		w.error("ERR syntax error")
	case len(args) == 2 && s.users.standard.noPass:
		w.error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case len(args) == 2 && s.login(args[0], []byte(defaultUser), args[1]), len(args) == 3 && s.login(args[0], args[1], args[2]):
		w.ok()
	default:
		w.error(wrongPass)
	}
}

const helloNoAuth = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH " +
	"<user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"

func hello(s *session, w *work, args [][]byte) {
	proto := s.proto
	if len(args) > 1 {
		n, ok := frame.ParseInt(args[1])
		switch {
		case !ok:
			w.error("ERR Protocol version is not an integer or out of range")
			return
		case n != 2 && n != 3:
			w.error("NOPROTO unsupported protocol version")
			return
		}
		proto = int(n)
	}
	var name []byte
	named := false
	for i := 2; i < len(args); {
		left := len(args) - i - 1
		switch {
		case command.EqualFold(args[i], "auth") && left >= 2:
			if !s.login(args[0], args[i+1], args[i+2]) {
				w.error(wrongPass)
				return
			}
			i += 3
		case command.EqualFold(args[i], "setname") && left >= 1:
			name, named = args[i+1], true
			i += 2
		default:
			w.error("ERR Syntax error in HELLO option '" + string(args[i]) + "'")
			return
		}
	}
	if s.user == nil {
		w.error(helloNoAuth)
		return
	}
	if named && !s.setName(name) {
		w.error(badName)
		return
	}
	s.setProto(proto)
	w.out = frame.AppendMap(w.out, 7, proto)
	text := func(k, v string) { w.out = frame.AppendBulkString(frame.AppendBulkString(w.out, k), v) }
	text("server", "redis")
	text("version", s.g.opt.Version)
	w.out = frame.AppendInt(frame.AppendBulkString(w.out, "proto"), int64(proto))
	w.out = frame.AppendInt(frame.AppendBulkString(w.out, "id"), s.id)
	text("mode", "standalone")
	text("role", "master") // every node takes writes
	w.out = frame.AppendArray(frame.AppendBulkString(w.out, "modules"), 0)
}

func (s *session) setProto(proto int) {
	s.proto = proto
	s.seenProto.Store(int32(proto))
}

func selectDB(s *session, w *work, args [][]byte) {
	n, err := strconv.Atoi(string(args[1]))
	switch {
	case err != nil:
		w.error("ERR value is not an integer or out of range")
	case n < 0 || n >= s.g.opt.Databases:
		w.error("ERR DB index is out of range")
	default:
		s.db = n
		s.seenDB.Store(int32(n))
		w.ok()
	}
}

func reset(s *session, w *work, _ [][]byte) {
	s.unmonitor()
	s.tx.pin.discard()
	s.tx = tx{}
	s.sub.close()
	s.releaseInvalidations()
	s.untrack()
	s.listens.Store(0)
	s.closeStore()
	s.untie()
	s.setProto(2)
	s.db, s.mode, s.mute, s.skip = 0, readNear, false, false
	s.seenDB.Store(0)
	s.setName(nil)
	s.be(s.users.open())
	w.out = frame.AppendSimple(w.out, "RESET")
}
