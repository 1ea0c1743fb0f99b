package conformance

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// reply is one parsed RESP2 or RESP3 reply. The parser is the test's own, so that it shares no mistake with ours.
type reply struct {
	kind  byte
	text  string
	null  bool
	elems []reply // of a map: key, value, key, value, …
}

func readReply(r *bufio.Reader) (reply, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return reply{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return reply{}, fmt.Errorf("bad reply line %q", line)
	}
	p := reply{kind: line[0]}
	head := line[1 : len(line)-2]
	switch p.kind {
	case '+', '-', ':', ',', '#', '(':
		p.text = head
		return p, nil
	case '_':
		p.null = true
		return p, nil
	case '$', '=', '!', '*', '%', '~', '>':
	default:
		return reply{}, fmt.Errorf("bad reply line %q", line)
	}
	n, err := strconv.Atoi(head)
	if err != nil {
		return reply{}, fmt.Errorf("bad length in %q", line)
	}
	if n < 0 {
		p.null = true
		return p, nil
	}
	switch p.kind {
	case '$', '=', '!':
		buf := make([]byte, n+2)
		if _, err := io.ReadFull(r, buf); err != nil {
			return reply{}, err
		}
		if string(buf[n:]) != "\r\n" {
			return reply{}, fmt.Errorf("bulk of %d bytes ends in %q", n, buf[n:])
		}
		p.text = string(buf[:n])
		return p, nil
	case '%':
		n *= 2
	}
	for range n {
		e, err := readReply(r)
		if err != nil {
			return reply{}, err
		}
		p.elems = append(p.elems, e)
	}
	return p, nil
}

func (p reply) isError() bool { return p.kind == '-' || p.kind == '!' }

func (p reply) String() string {
	switch {
	case p.null:
		return string(p.kind) + "nil"
	case p.kind == '*' || p.kind == '%' || p.kind == '~' || p.kind == '>':
		var b strings.Builder
		b.WriteByte(p.kind)
		b.WriteByte('[')
		for i, e := range p.elems {
			if i > 0 {
				b.WriteByte(' ')
			}
			if b.Len() > 1500 {
				fmt.Fprintf(&b, "… %d more", len(p.elems)-i)
				break
			}
			b.WriteString(e.String())
		}
		b.WriteByte(']')
		return b.String()
	case len(p.text) > 300:
		return fmt.Sprintf("%c%q… (%d bytes)", p.kind, p.text[:300], len(p.text))
	}
	return fmt.Sprintf("%c%q", p.kind, p.text)
}

// rule says how two replies to the same command are compared.
type rule int

const (
	exact     rule = iota
	unordered      // an array or set in any order
	pairs          // an array or map of pairs in any order
	scan           // cursor, then an array in any order
	scanPairs      // cursor, then pairs in any order
	shape          // random choices: only kinds and lengths
	seconds        // a time in seconds that passes
	millis         // the same in milliseconds
	moments        // exact but for Unix times in milliseconds, which are near
	pending        // the same, and the third element of a reply's arrays is a time that passes
	idle           // the same, with the sixth
	anyOrder       // all that is in it, in any order
	kindOnly       // what is in it is each server's own
	slow           // entries of the slow log: times aside
	stats          // lines of INFO: times aside
)

func ruleFor(args []string) rule {
	switch strings.ToLower(args[0]) {
	case "smembers", "sinter", "sunion", "sdiff", "keys", "hkeys", "hvals", "spop":
		return unordered
	case "hgetall":
		return pairs
	case "scan", "sscan":
		return scan
	case "hscan", "zscan":
		return scanPairs
	case "srandmember", "hrandfield", "zrandmember", "randomkey":
		return shape
	case "eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro":
		return anyOrder
	case "time", "role", "hello":
		return shape
	case "latency", "lastsave":
		return kindOnly
	case "sort", "sort_ro":
		if slices.ContainsFunc(args, func(a string) bool { return strings.EqualFold(a, "alpha") }) {
			return anyOrder // C compares up to the first zero byte, and doesn't say in which order equal ones come
		}
	case "info":
		if len(args) == 1 {
			return kindOnly
		}
		return stats
	}
	if strings.EqualFold(args[0], "command") && (len(args) == 1 || len(args) == 2 && strings.EqualFold(args[1], "info")) {
		return kindOnly // the order is that of a table
	}
	if len(args) > 1 {
		switch strings.ToLower(args[0] + " " + args[1]) {
		case "function list":
			return anyOrder
		case "function dump", "memory usage", "client info", "client list", "client id", "object freq", "object idletime", "object refcount":
			return kindOnly
		case "slowlog get":
			return slow
		case "command list", "pubsub channels", "pubsub shardchannels":
			return unordered
		case "config get":
			return pairs
		}
	}
	switch strings.ToLower(args[0]) {
	case "xpending":
		if len(args) > 3 {
			return pending
		}
	case "xinfo":
		if len(args) > 1 && strings.EqualFold(args[1], "consumers") {
			return idle
		}
		return moments
	case "ttl", "expiretime":
		return seconds
	case "pttl", "pexpiretime":
		return millis
	}
	return exact
}

func same(r rule, want, got reply) bool {
	if want.kind != got.kind || want.null != got.null {
		return false
	}
	if want.isError() {
		return want.text == got.text
	}
	switch r {
	case kindOnly:
		return true
	case anyOrder:
		return slices.Equal(leaves(want), leaves(got))
	case stats:
		return slices.Equal(statLines(want.text), statLines(got.text))
	case slow:
		return slices.EqualFunc(want.elems, got.elems, func(w, g reply) bool {
			return len(w.elems) == 6 && len(g.elems) == 6 && w.elems[0].text == g.elems[0].text && same(exact, w.elems[3], g.elems[3])
		}) && (want.kind != ':' || want.text == got.text)
	case unordered:
		return sameMultiset(want.elems, got.elems, 1) && want.text == got.text
	case pairs:
		return sameMultiset(want.elems, got.elems, 2) && want.text == got.text
	case scan, scanPairs:
		n := 1
		if r == scanPairs {
			n = 2
		}
		if len(want.elems) == 2 && len(got.elems) == 2 && want.elems[0].String() == got.elems[0].String() {
			return sameMultiset(want.elems[1].elems, got.elems[1].elems, n)
		}
	case shape:
		return slices.EqualFunc(want.elems, got.elems, func(a, b reply) bool { return same(shape, a, b) })
	case moments:
		return sameTimes(want, got)
	case pending, idle:
		at := 2
		if r == idle {
			at = 5
		}
		return slices.EqualFunc(want.elems, got.elems, func(w, g reply) bool { return sameButTime(w, g, at) }) && want.text == got.text
	case seconds:
		return near(want.text, got.text, 2)
	case millis:
		return near(want.text, got.text, 2000)
	}
	return want.text == got.text && slices.EqualFunc(want.elems, got.elems, func(a, b reply) bool { return same(exact, a, b) })
}

// leaves lists what is in a reply, however nested.
func leaves(p reply) (out []string) {
	if p.elems == nil {
		return []string{p.String()}
	}
	for _, e := range p.elems {
		out = append(out, leaves(e)...)
	}
	slices.Sort(out)
	return out
}

// statLines lists the lines of INFO, without times and without what the test itself causes.
func statLines(text string) (out []string) {
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"cmdstat_ping", "cmdstat_psubscribe", "cmdstat_hello", "cmdstat_info", "cmdstat_config|resetstat"}, name) {
			continue
		}
		var kept []string
		for field := range strings.SplitSeq(strings.TrimSpace(line), ",") {
			if strings.HasPrefix(field, "usec") || strings.HasPrefix(field, "avg_ttl") {
				continue
			}
			kept = append(kept, field)
		}
		out = append(out, strings.Join(kept, ","))
	}
	slices.Sort(out)
	return out
}

// sameTimes compares exactly but for times in Unix milliseconds.
func sameTimes(want, got reply) bool {
	if want.kind != got.kind || want.null != got.null || !slices.EqualFunc(want.elems, got.elems, sameTimes) {
		return false
	}
	return want.text == got.text || want.kind == ':' && len(want.text) == 13 && near(want.text, got.text, 5000)
}

// sameButTime compares the elements, that at a place as a time that passes.
func sameButTime(want, got reply, at int) bool {
	if want.kind != got.kind || len(want.elems) <= at || len(got.elems) != len(want.elems) {
		return sameTimes(want, got)
	}
	for i := range want.elems {
		if i != at && !sameTimes(want.elems[i], got.elems[i]) || i == at && !near(want.elems[i].text, got.elems[i].text, 5000) {
			return false
		}
	}
	return true
}

func sameMultiset(want, got []reply, group int) bool {
	lines := func(elems []reply) []string {
		var out []string
		for c := range slices.Chunk(elems, group) {
			out = append(out, fmt.Sprint(c))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(lines(want), lines(got))
}

func near(want, got string, tolerance int64) bool {
	a, err1 := strconv.ParseInt(want, 10, 64)
	b, err2 := strconv.ParseInt(got, 10, 64)
	if err1 != nil || err2 != nil || a < 0 || b < 0 {
		return want == got
	}
	return max(a-b, b-a) <= tolerance
}
