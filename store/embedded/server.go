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
		{"monitor", monitorCommand, lockExclusive},
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
