package conformance

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

type line struct {
	weight int
	words  []string
}

func parseGrammar(text string) []line {
	var out []line
	for l := range strings.Lines(text) {
		words := strings.Fields(l)
		if len(words) < 2 {
			continue
		}
		w, err := strconv.Atoi(words[0])
		if err != nil {
			panic("grammar: " + l)
		}
		out = append(out, line{w, words[1:]})
	}
	return out
}

var (
	values = []string{"a", "b", "c", "hello", "1", "2", "10", "-7", "3.5", "", "x y", "bin\x00\r\n\xff", "a", "b",
		"9223372036854775807", "123456789012345678901234567890", strings.Repeat("long", 40), "007", " 5", "1e3"}
	integers = []string{"0", "1", "2", "-1", "-2", "3", "5", "100", "-100", "0", "1", "-1",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "abc", "", "1.5", "+1", "01", " 1"}
	floats  = []string{"0", "1", "1.5", "-2.25", "0.1", "3", "1e3", "1e17", "-1", "2", "0.3", "10.5e-3", "inf", "-inf", "nan", "abc", "", "1e400", "0x10", " 1", "5e-324", "1.7976931348623157e308"}
	scores  = []string{"0", "1", "2", "3", "-1", "1.5", "0.1", "10", "1e10", "-0", "3.0000000000000004", "1e-7", "123456789012", "inf", "-inf", "+inf", "nan", "abc", ""}
	bounds  = []string{"-inf", "+inf", "inf", "0", "1", "2", "(1", "(0", "(inf", "(-inf", "1.5", "(1.5", "10", "abc", "(", "", "nan", "(a"}
	lexes   = []string{"-", "+", "[a", "(a", "[b", "(c", "[f2", "[", "(", "a", "", "[zz", "-", "+"}
	fields  = []string{"f1", "f2", "f3", "f4", "num", "", "bin\x00", "f1"}
	members = []string{"a", "b", "c", "d", "f1", "1", "2", "3", "", "bin\x00\r\n", "a", "b", "10", "-5"}
	hostile = []string{"", "abc", "-1", "nan", "9223372036854775808", "\x00", "*1\r\n", "NX", "GET", "WITHSCORES", "COUNT", "LIMIT", "EX", "999999999999999999999"}
	ttls    = []string{"1000", "5000", "100000", "20000", "1000000", "0", "-1", "abc", "9223372036854775807", "-9223372036854775808", "1.5", "", "9223372036854775"}
	times   = []string{"4102444800", "4102444801", "5000000000", "1", "0", "-1", "abc", "9223372036854775807", "9223372036854775", "9223372036854776"}
	timesMS = []string{"4102444800000", "4102444801500", "5000000000000", "1", "0", "-1", "abc", "9223372036854775807"}
	offsets = []string{"0", "1", "5", "7", "8", "100", "#1", "-1", "abc", "4294967296", "9223372036854775807", ""}
	// Numbers of 64 bits and more aren't among them: what redis-server answers to a later SORT or XADD is by chance (errno).
	ids  = []string{"1", "2-*", "3-0", "5", "8-1", "12", "20", "33", "50", "0", "0-1", "-", "+", "$", ">", "(5", "(3-1", "abc", "", "5-", "18446744073709551615", "1-99999999999", "+7", " 9-1"}
	fews = []string{"0", "1", "2", "3", "5", "-1", "-2", "10", "abc", ""}
)

// keysOf lists the keys of each pool; the letters are those of the grammar.
var keysOf = map[string][]string{
	"s": {"s1", "s2", "s3", "{s}\x00\xff"}, "n": {"n1", "n2"}, "h": {"h1", "h2"}, "l": {"l1", "l2", "l3"},
	"t": {"t1", "t2", "t3"}, "z": {"z1", "z2", "z3"},
	"x":  {"x1", "x2"}, // all scores are 0: a range by name means nothing otherwise
	"lz": {"l1", "l2", "z1", "z2"}, "lt": {"l1", "l2", "t1", "t2", "z1"}, "zt": {"z1", "z2", "t1", "t2"},
	"g": {"g1", "g2"}, "p": {"p1", "p2", "p3"}, "e": {"e1", "e1", "e2"},
	"k": {"s1", "s2", "n1", "h1", "h2", "l1", "l2", "t1", "t2", "z1", "z2", "e1", "e2", "g1", "missing", ""},
}

type generator struct {
	*rand.Rand
	total  int
	lastID int // of stream entries
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7))}
	for _, l := range grammar {
		g.total += l.weight
	}
	return g
}

func (g *generator) pick(from []string) string { return from[g.IntN(len(from))] }

func (g *generator) draw(pool string) string {
	if keys, ok := keysOf[pool]; ok {
		if g.IntN(12) == 0 && pool != "x" {
			keys = keysOf["k"]
		}
		return g.pick(keys)
	}
	switch pool {
	case "v":
		return g.pick(values)
	case "i":
		if g.IntN(3) > 0 { // mostly sane, or the errors drown the rest
			return g.pick(integers[:12])
		}
		return g.pick(integers)
	case "f":
		if g.IntN(3) > 0 {
			return g.pick(floats[:12])
		}
		return g.pick(floats)
	case "sc":
		if g.IntN(3) > 0 {
			return g.pick(scores[:13])
		}
		return g.pick(scores)
	case "bound":
		return g.pick(bounds)
	case "lex":
		return g.pick(lexes)
	case "field":
		return g.pick(fields)
	case "manyfield":
		return "f" + strconv.Itoa(g.IntN(300))
	case "m":
		return g.pick(members)
	case "manyint":
		return strconv.Itoa(g.IntN(100000))
	case "hostile":
		return g.pick(hostile)
	case "ttl":
		if g.IntN(2) > 0 {
			return g.pick(ttls[:5])
		}
		return g.pick(ttls)
	case "at":
		return g.pick(times)
	case "atms":
		return g.pick(timesMS)
	case "off":
		return g.pick(offsets)
	case "few":
		if g.IntN(3) > 0 {
			return g.pick(fews[:5])
		}
		return g.pick(fews)
	case "script":
		return g.pick(scripts)
	case "sha":
		return scriptSHA(g.pick(scripts))
	case "lib":
		return g.pick(libraries)
	case "fn":
		return g.pick(functionNames)
	case "setting":
		return g.pick(settings)
	case "big":
		return g.pick([]string{"99999", "99999", "0", "-1", "abc", ""})
	case "newid":
		g.lastID += g.IntN(2)
		return strconv.Itoa(g.lastID) + g.pick([]string{"-*", "-*", "-*", "-" + strconv.Itoa(g.IntN(4))})
	case "id":
		if n := g.lastID; n > 0 && g.IntN(2) == 0 {
			return strconv.Itoa(1+g.IntN(n)) + g.pick([]string{"", "-0", "-1", "-2"})
		}
		return g.pick(ids)
	case "grp":
		return g.pick([]string{"ga", "ga", "gb", ""})
	case "con":
		return g.pick([]string{"ca", "cb", "cc"})
	case "size":
		return g.pick([]string{"100", "5000", "200.5", "0", "30000", "1e7", "-1", "abc"})
	case "unit":
		return g.pick([]string{"km", "m", "mi", "FT", "KM", "km", "x"})
	case "cnt":
		return g.pick([]string{"1", "2", "2", "2", "3", "0", "-1", "abc"})
	case "db":
		return g.pick([]string{"0", "0", "0", "0", "1", "1", "2", "16", "-1", "abc"})
	}
	panic("grammar: no pool " + pool)
}

func (g *generator) expand(dst []string, word string) []string {
	if body, n, ok := cutRepeat(word); ok {
		for range 1 + g.IntN(n) {
			dst = g.expandAll(dst, body)
		}
		return dst
	}
	switch {
	case word[0] == '[' && word[len(word)-1] == ']' && len(word) > 2:
		if g.IntN(2) == 0 {
			return dst
		}
		return g.expandAll(dst, g.pick(alternatives(word[1:len(word)-1])))
	case word[0] == '(' && word[len(word)-1] == ')':
		return g.expandAll(dst, g.pick(alternatives(word[1:len(word)-1])))
	case word[0] == '$':
		return append(dst, g.draw(word[1:]))
	}
	return append(dst, word)
}

func (g *generator) expandAll(dst []string, body string) []string {
	for _, w := range split(body, '_') {
		if w == "" {
			continue
		}
		// The weights of SORT are called w_1, w_2…: a lone "w" takes the word behind it.
		if n := len(dst); n > 0 && dst[n-1] == "w" {
			dst[n-1] = "w_" + w
			continue
		}
		dst = g.expand(dst, w)
	}
	return dst
}

func alternatives(body string) []string { return split(body, '|') }

// split cuts at sep outside of brackets.
func split(s string, sep byte) []string {
	var out []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case sep:
			if depth == 0 {
				out = append(out, s[from:i])
				from = i + 1
			}
		}
	}
	return append(out, s[from:])
}

func cutRepeat(word string) (body string, n int, ok bool) {
	i := strings.LastIndexByte(word, '*')
	if i <= 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(word[i+1:])
	return word[:i], n, err == nil && n > 0
}

// next makes one command that is safe to run on both sides.
func (g *generator) next() []string {
	for {
		n := g.IntN(g.total)
		i := 0
		for n >= grammar[i].weight {
			n -= grammar[i].weight
			i++
		}
		var args []string
		for _, w := range grammar[i].words {
			args = g.expand(args, w)
		}
		if g.IntN(16) == 0 {
			args = g.mutate(args)
		}
		if safe(args) {
			return args
		}
	}
}

func (g *generator) mutate(args []string) []string {
	i := g.IntN(len(args))
	switch g.IntN(4) {
	case 0:
		if i > 0 {
			return append(args[:i:i], args[i+1:]...)
		}
	case 1:
		return append(args, g.pick(hostile))
	case 2:
		if i > 0 {
			args[i] = g.pick(hostile)
		}
	case 3:
		args[0] = strings.ToLower(args[0])
	}
	return args
}

// safe keeps away what would block for long, take gigabytes or expire while the two sides run.
func safe(args []string) bool {
	name := strings.ToLower(args[0])
	switch name {
	case "blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax":
		return args[len(args)-1] == "0.01" || !isNumber(args[len(args)-1])
	case "blmpop", "bzmpop":
		return len(args) > 1 && (args[1] == "0.01" || !isNumber(args[1]))
	case "sort", "sort_ro": // BY without a star is the order of the key itself, which a set hasn't; these two are never sets
		for i, a := range args {
			if i > 1 && strings.EqualFold(args[i-1], "by") && !strings.Contains(a, "*") && args[1] != "l3" && args[1] != "z3" {
				return false
			}
		}
	case "bgsave", "bgrewriteaof": // takes its time there
		return len(args) > 1 && !strings.EqualFold(args[1], "schedule")
	case "monitor": // what it pushes comes between replies
		return len(args) > 1
	case "client": // so do invalidations
		return len(args) < 3 || !strings.EqualFold(args[1], "tracking") || !strings.EqualFold(args[2], "on") || !turnsTrackingOn(args[3:])
	case "spop": // which elements go is random: all of them or an error
		return len(args) > 3 || len(args) == 3 && (args[2] == "1000" || !isNumber(args[2]))
	case "setrange", "setbit", "bitfield":
		for _, a := range args[1:] {
			a = strings.TrimPrefix(a, "#")
			if n, err := strconv.ParseInt(a, 10, 64); err == nil && n > 10000 && n < 4294967296 {
				return false
			}
		}
	case "srandmember", "hrandfield", "zrandmember":
		for _, a := range args[1:] {
			if n, err := strconv.ParseInt(a, 10, 64); err == nil && n < -1000 {
				return false
			}
		}
	case "setex", "psetex", "expire", "pexpire", "set", "getex":
		for i, a := range args {
			n, err := strconv.ParseInt(a, 10, 64)
			if err != nil || n <= 0 || n >= 1000 || i < 2 {
				continue
			}
			before := strings.ToLower(args[i-1])
			// A time in the past makes a key that is dead at once, and counted until somebody notices.
			if name == "set" && (before == "exat" || before == "pxat") {
				return false
			}
			if name != "set" && name != "getex" && i == 2 || before == "ex" || before == "px" {
				return false
			}
		}
	}
	return true
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// turnsTrackingOn tells whether CLIENT TRACKING ON with these options does, as the grammar's can after a mutation.
func turnsTrackingOn(options []string) bool {
	switch strings.ToUpper(strings.Join(options, " ")) {
	case "", "OPTIN", "OPTOUT", "BCAST":
		return true
	}
	if len(options)%2 == 0 || !strings.EqualFold(options[0], "bcast") {
		return false
	}
	var prefixes []string
	for o := range slices.Chunk(options[1:], 2) {
		if !strings.EqualFold(o[0], "prefix") || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(p, o[1]) || strings.HasPrefix(o[1], p) }) {
			return false
		}
		prefixes = append(prefixes, o[1])
	}
	return true
}

// sequence makes about n commands on two connections, most of them on the first. A MULTI is usually carried through.
func (g *generator) sequence(n int) []step {
	var out []step
	for len(out) < n {
		s := step{args: g.next()}
		if g.IntN(6) == 0 {
			s.conn = 1
		}
		out = append(out, s)
		if s.args[0] == "MULTI" && g.IntN(2) == 0 {
			for range g.IntN(6) {
				out = append(out, step{s.conn, g.next()})
			}
			out = append(out, step{s.conn, []string{"EXEC"}})
		}
	}
	return out
}
