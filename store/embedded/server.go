package embedded

import (
	"net"
	"strconv"
)

func serverCommands() []registration {
	return []registration{
		{"time", timeCommand, lockShared},
		{"role", roleCommand, lockShared},
		{"wait", waitCommand, lockExclusive},
		{"config|get", configGet, lockShared},
		{"memory|usage", memoryUsage, lockByFlag},
	}
}

func timeCommand(x *call) {
	t := x.e.opts.Now().UnixMicro()
	x.array(2)
	x.bulkString(strconv.FormatInt(t/1e6, 10))
	x.bulkString(strconv.FormatInt(t%1e6, 10))
}

func roleCommand(x *call) {
	r := x.e.opts.Replication()
	if x.e.showsReplica() {
		x.array(5)
		x.bulkString("slave")
		x.bulkString(r.PrimaryHost)
		x.int(int64(r.PrimaryPort))
		switch {
		case r.LinkUp:
			x.bulkString("connected")
		case r.Syncing:
			x.bulkString("sync")
		default:
			x.bulkString("connect")
		}
		x.int(r.Offset)
		return
	}
	x.array(3)
	x.bulkString("master")
	x.int(r.Offset)
	x.array(len(r.Replicas))
	for _, rep := range r.Replicas {
		host, port := splitAddr(rep.Addr)
		x.array(3)
		x.bulkString(host)
		x.bulkString(port)
		x.bulkString(strconv.FormatInt(rep.Offset, 10))
	}
}

func splitAddr(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, "0"
	}
	return host, port
}

// policy is the name among Redis's policies that says what this engine does when memory is full.
func (e *Engine) policy() string {
	if e.opts.Eviction {
		return "allkeys-random" // those with a TTL first
	}
	return "noeviction"
}

// settings are the parameters that have a meaning here, with their true values.
func (e *Engine) settings() [][2]string {
	return append(e.appendOnlySettings(), [][2]string{
		{"busy-reply-threshold", strconv.FormatInt(e.opts.ScriptTimeLimit.Milliseconds(), 10)},
		{"databases", strconv.Itoa(len(e.dbs))},
		{"lua-time-limit", strconv.FormatInt(e.opts.ScriptTimeLimit.Milliseconds(), 10)},
		{"maxmemory", strconv.FormatInt(e.opts.MaxMemory, 10)},
		{"maxmemory-policy", e.policy()},
		{"proto-max-bulk-len", strconv.Itoa(maxString)},
		{"save", ""},
		{"timeout", "0"},
	}...)
}

func configGet(x *call) {
	var found [][2]string
	for _, s := range x.e.settings() {
		for _, p := range x.args[2:] {
			if match(p, []byte(s[0]), true) {
				found = append(found, s)
				break
			}
		}
	}
	x.mapHeader(len(found))
	for _, s := range found {
		x.bulkString(s[0])
		x.bulkString(s[1])
	}
}

func memoryUsage(x *call) {
	for i := 3; i < len(x.args); i += 2 {
		if !is(x.args[i], "SAMPLES") || i+1 == len(x.args) {
			x.syntax()
			return
		}
		n, ok := x.argInt(x.args[i+1])
		if !ok {
			return
		}
		if n < 0 {
			x.syntax()
			return
		}
	}
	o := x.readQuietly(x.args[2])
	if o == nil {
		x.null()
		return
	}
	x.int(o.mem)
}
