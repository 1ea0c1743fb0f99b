package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// mismatch is the first difference of a run.
type mismatch struct {
	at        int // index of the step; len(sequence) when the final key space differs
	conn      int
	args      []string
	want, got string
	signature string // names the kind of difference, so that a bug is reported once
}

// session follows what one connection has queued: the replies inside EXEC are compared each by its command's rule.
type session struct {
	multi bool
	queue [][]string
}

// punctual is how long a run may take for a difference to count: the shortest time to live that the grammar makes is a second, and on a
// machine that is slow a key may end between the two sides.
const punctual = 800 * time.Millisecond

// compare runs the sequence on both targets and then compares the key spaces. A difference in a run that was late has to come again.
func compare(want, got target, proto int, sequence []step) (m *mismatch, err error) {
	for range 5 {
		began := time.Now()
		m, err = compareOnce(want, got, proto, sequence)
		if m == nil || err != nil || time.Since(began) < punctual {
			break
		}
	}
	return m, err
}

func compareOnce(want, got target, proto int, sequence []step) (*mismatch, error) {
	if err := want.reset(proto); err != nil {
		return nil, err
	}
	if err := got.reset(proto); err != nil {
		return nil, err
	}
	var sessions [2]session
	for i, s := range sequence {
		if m, _, err := one(want, got, &sessions[s.conn], s); m != nil || err != nil {
			if m != nil {
				m.at = i
			}
			return m, err
		}
	}
	for conn := range sessions {
		if !sessions[conn].multi {
			continue
		}
		if m, _, err := one(want, got, &sessions[conn], step{conn, []string{"DISCARD"}}); m != nil || err != nil {
			return ending(m, len(sequence)), err
		}
	}
	m, err := compareKeyspaces(want, got)
	return ending(m, len(sequence)), err
}

func ending(m *mismatch, at int) *mismatch {
	if m != nil {
		m.at = at
		m.signature = "end: " + m.signature
	}
	return m
}

func one(want, got target, s *session, st step) (*mismatch, reply, error) {
	w, err := want.do(st.conn, st.args)
	if err != nil {
		return nil, w, fmt.Errorf("redis-server, %s: %w", show(st.args), err)
	}
	g, err := got.do(st.conn, st.args)
	if err != nil {
		return &mismatch{conn: st.conn, args: st.args, want: w.String(), got: "no reply: " + err.Error(),
			signature: strings.ToLower(st.args[0]) + ": " + firstLine(err.Error())}, w, nil
	}
	if !s.same(st.args, w, g) {
		return &mismatch{conn: st.conn, args: st.args, want: w.String(), got: g.String(),
			signature: signature(st.args, w, g)}, w, nil
	}
	we, err := want.events()
	if err != nil {
		return nil, w, fmt.Errorf("redis-server's events, %s: %w", show(st.args), err)
	}
	ge, _ := got.events()
	if !s.sameEvents(st.args, we, ge) {
		return &mismatch{conn: st.conn, args: st.args, want: fmt.Sprintf("events %q", we), got: fmt.Sprintf("events %q", ge),
			signature: strings.ToLower(st.args[0]) + ": events"}, w, nil
	}
	s.follow(st.args, w)
	return nil, w, nil
}

func (s *session) same(args []string, want, got reply) bool {
	if strings.EqualFold(args[0], "exec") && s.multi && want.kind == '*' && got.kind == '*' && len(want.elems) == len(s.queue) {
		return len(got.elems) == len(want.elems) && slices.EqualFunc(s.zip(want), s.zip(got), func(w, g queued) bool {
			return same(ruleFor(w.args), w.reply, g.reply)
		})
	}
	if want.kind == '+' { // QUEUED
		return same(exact, want, got)
	}
	return same(ruleFor(args), want, got)
}

type queued struct {
	args  []string
	reply reply
}

func (s *session) zip(p reply) []queued {
	out := make([]queued, len(p.elems))
	for i := range out {
		out[i] = queued{s.queue[i], p.elems[i]}
	}
	return out
}

func (s *session) follow(args []string, p reply) {
	switch name := strings.ToLower(args[0]); {
	case name == "multi" && !p.isError():
		*s = session{multi: true}
	case (name == "exec" || name == "discard") && s.multi && (!p.isError() || strings.HasPrefix(p.text, "EXECABORT")):
		*s = session{}
	case s.multi && p.kind == '+' && p.text == "QUEUED":
		s.queue = append(s.queue, args)
	}
}

// sameEvents compares events. SORT looks up the keys of a set's members in the order of its table.
func (s *session) sameEvents(args []string, want, got []string) bool {
	sorts := func(args []string) bool { return strings.HasPrefix(strings.ToLower(args[0]), "sort") }
	if sorts(args) || strings.EqualFold(args[0], "exec") && slices.ContainsFunc(s.queue, sorts) {
		want, got = slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))
	}
	return slices.Equal(want, got)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func signature(args []string, w, g reply) string {
	brief := func(p reply) string {
		if p.isError() {
			return p.text[:min(len(p.text), 25)]
		}
		if p.null {
			return string(p.kind) + "nil"
		}
		return string(p.kind)
	}
	return strings.ToLower(args[0]) + ": " + brief(w) + " / " + brief(g)
}

// compareKeyspaces reads every database through commands: keys, types, times and values.
func compareKeyspaces(want, got target) (*mismatch, error) {
	var s session
	for _, db := range []string{"0", "1", "2"} {
		steps := [][]string{{"SELECT", db}, {"DBSIZE"}, {"KEYS", "*"}}
		for i := 0; i < len(steps); i++ {
			m, w, err := one(want, got, &s, step{0, steps[i]})
			if m != nil || err != nil {
				return m, err
			}
			switch steps[i][0] {
			case "KEYS":
				for _, k := range w.elems {
					steps = append(steps, []string{"PTTL", k.text}, []string{"TYPE", k.text})
				}
			case "TYPE":
				key := steps[i][1]
				switch w.text {
				case "string":
					steps = append(steps, []string{"GET", key})
				case "list":
					steps = append(steps, []string{"LRANGE", key, "0", "-1"})
				case "hash":
					steps = append(steps, []string{"HGETALL", key})
				case "set":
					steps = append(steps, []string{"SMEMBERS", key})
				case "zset":
					steps = append(steps, []string{"ZRANGE", key, "0", "-1", "WITHSCORES"})
				case "stream":
					steps = append(steps, []string{"XRANGE", key, "-", "+"}, []string{"XINFO", "STREAM", key},
						[]string{"XINFO", "GROUPS", key}, []string{"XINFO", "STREAM", key, "FULL", "COUNT", "0"})
				}
			}
		}
	}
	return nil, nil
}

// shrink drops steps for as long as the same difference remains.
func shrink(compare func([]step) (*mismatch, error), sequence []step, found *mismatch) ([]step, *mismatch, error) {
	if found.at < len(sequence) {
		sequence = sequence[:found.at+1]
	}
	for size := max(len(sequence)/2, 1); ; {
		smaller := false
		for from := 0; from < len(sequence); {
			to := min(from+size, len(sequence))
			try := slices.Concat(sequence[:from], sequence[to:])
			m, err := compare(try)
			if err != nil {
				return nil, nil, err
			}
			if m != nil && m.signature == found.signature {
				sequence, found, smaller = try, m, true
				if m.at < len(sequence) {
					sequence = sequence[:m.at+1]
				}
				continue
			}
			from = to
		}
		switch {
		case size > 1:
			size /= 2
		case !smaller:
			return sequence, found, nil
		}
	}
}

func show(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if i > 24 {
			fmt.Fprintf(&b, "… (%d arguments)", len(args))
			break
		}
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
			fmt.Fprintf(&b, "%q", a)
		} else {
			b.WriteString(a)
		}
	}
	return b.String()
}

func describe(sequence []step, m *mismatch, seed uint64, proto int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, RESP%d\n", seed, proto)
	for i, s := range sequence {
		if i == m.at {
			break
		}
		fmt.Fprintf(&b, "  %d> %s\n", s.conn, show(s.args))
	}
	fmt.Fprintf(&b, "  %d> %s\n    want %s\n    got  %s\n", m.conn, show(m.args), m.want, m.got)
	return b.String()
}
