package embedded

import (
	"fmt"
	"slices"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// monitorCommand shows this session what all execute.
func monitorCommand(x *call) {
	if x.c.push == nil {
		x.err("ERR MONITOR is not possible on this connection")
		return
	}
	if !x.c.monitor {
		x.c.monitor = true
		x.e.monitors = append(x.e.monitors, x.c)
		x.e.alone.Add(1)
	}
	x.ok()
}

// unmonitor ends it. Needs the write lock.
func (e *Engine) unmonitor(c *Conn) {
	if c.monitor {
		c.monitor = false
		e.monitors = slices.DeleteFunc(e.monitors, func(o *Conn) bool { return o == c })
		e.alone.Add(-1)
	}
}

// show tells monitors of a command. Those for administrators aren't shown, nor those that say so themselves.
func (x *call) show(spec *command.Spec, args [][]byte) {
	if len(x.e.monitors) == 0 || spec.Is(command.FlagSkipMonitor|command.FlagAdmin) {
		return
	}
	x.showAlways(spec, args)
}

func (x *call) showAlways(spec *command.Spec, args [][]byte) {
	if len(x.e.monitors) == 0 {
		return
	}
	who, db := "", x.dbIndex
	switch c := x.c; {
	case c == nil:
	case c == &x.e.scripts.conn:
		who = "lua"
	default:
		who, db = c.addr, c.db // SELECT shows the new one
	}
	t := x.e.opts.Now().UnixMicro()
	line := fmt.Appendf(nil, "%d.%06d [%d %s]", t/1e6, t%1e6, db, who)
	for i, a := range args {
		if secret(spec, args, i) {
			a = []byte(redacted)
		}
		line = append(line, ' ')
		line = appendQuoted(line, a)
	}
	text := frame.AppendSimple(nil, string(line))
	for _, c := range x.e.monitors {
		if c == x.e.current {
			x.e.own = append(x.e.own, text...)
		} else {
			c.push(text)
		}
	}
}

// appendQuoted writes a string as Redis's logs do.
func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, b := range s {
		switch {
		case b == '\\' || b == '"':
			dst = append(dst, '\\', b)
		case b == '\n':
			dst = append(dst, `\n`...)
		case b == '\r':
			dst = append(dst, `\r`...)
		case b == '\t':
			dst = append(dst, `\t`...)
		case b == '\a':
			dst = append(dst, `\a`...)
		case b == '\b':
			dst = append(dst, `\b`...)
		case b >= ' ' && b <= '~':
			dst = append(dst, b)
		default:
			dst = fmt.Appendf(dst, `\x%02x`, b)
		}
	}
	return append(dst, '"')
}
