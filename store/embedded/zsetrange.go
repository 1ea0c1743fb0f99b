package embedded

import (
	"bytes"
	"errors"
	"strconv"
)

// zrangeKind says what the bounds of a range are.
type zrangeKind uint8

const (
	zrangeByRank zrangeKind = iota
	zrangeByScore
	zrangeByLex
)

// scoreBound is one end of a range of scores.
type scoreBound struct {
	score float64
	open  bool // the score itself is outside
}

// parseScoreBound reads "1.5", "(1.5", "-inf"….
func parseScoreBound(b []byte) (s scoreBound, ok bool) {
	if len(b) > 0 && b[0] == '(' {
		s.open = true
		b = b[1:]
	}
	s.score, _, ok = strtod(b)
	return s, ok
}

// strtod reads a number as C's function of this name does where Redis doesn't look closer: an empty string is 0, spaces
// in front are skipped, the text ends at a zero byte. exact is false when the number is too large or too small for
// a double.
func strtod(b []byte) (f float64, exact, ok bool) {
	b, _, _ = bytes.Cut(b, []byte{0})
	if b = bytes.TrimLeft(b, " \t\n\v\f\r"); len(b) == 0 {
		return 0, true, true
	}
	if f, ok = parseFloat(b); ok {
		return f, true, true
	}
	f, err := strconv.ParseFloat(string(b), 64)
	return f, false, errors.Is(err, strconv.ErrRange)
}

// lexBound is one end of a range of members: before all, after all, or at a member.
type lexBound struct {
	infinite int // -1, +1 or 0
	member   []byte
	open     bool
}

func parseLexBound(b []byte) (l lexBound, ok bool) {
	switch {
	case string(b) == "-":
		return lexBound{infinite: -1}, true
	case string(b) == "+":
		return lexBound{infinite: 1}, true
	case len(b) > 0 && (b[0] == '(' || b[0] == '['):
		return lexBound{member: b[1:], open: b[0] == '('}, true
	}
	return l, false
}

func (l *lexBound) compare(member []byte) int {
	if l.infinite != 0 {
		return l.infinite
	}
	return bytes.Compare(l.member, member)
}

// zrangeSpec is a parsed range.
type zrangeSpec struct {
	kind       zrangeKind
	start, end int64 // by rank
	min, max   scoreBound
	lmin, lmax lexBound
}

// argZRange reads the bounds; ok=false has replied the error.
func (x *call) argZRange(kind zrangeKind, lo, hi []byte) (r zrangeSpec, ok bool) {
	r.kind = kind
	var ok2 bool
	switch kind {
	case zrangeByRank:
		r.start, r.end, ok = x.argPair(lo, hi)
		return r, ok
	case zrangeByScore:
		r.min, ok = parseScoreBound(lo)
		r.max, ok2 = parseScoreBound(hi)
		if !ok || !ok2 {
			x.err("ERR min or max is not a float")
			return r, false
		}
	case zrangeByLex:
		r.lmin, ok = parseLexBound(lo)
		r.lmax, ok2 = parseLexBound(hi)
		if !ok || !ok2 {
			x.err("ERR min or max not valid string range item")
			return r, false
		}
	}
	return r, true
}

// aboveMin and belowMax tell on which side of the bounds a member is.
func (r *zrangeSpec) aboveMin(m []byte, score float64) bool {
	if r.kind == zrangeByScore {
		return score > r.min.score || !r.min.open && score == r.min.score
	}
	c := r.lmin.compare(m)
	return c < 0 || c == 0 && !r.lmin.open
}

func (r *zrangeSpec) belowMax(m []byte, score float64) bool {
	if r.kind == zrangeByScore {
		return score < r.max.score || !r.max.open && score == r.max.score
	}
	c := r.lmax.compare(m)
	return c > 0 || c == 0 && !r.lmax.open
}

// of returns the ranks [from, from+n) that the range has in z, counted from the start. A range by lex means nothing
// when the scores differ; then reverse matters: as in Redis, the search begins at that end.
func (r *zrangeSpec) of(z *zset, reverse bool) (from, n int) {
	if r.kind == zrangeByRank {
		return clampRange(r.start, r.end, z.len())
	}
	if r.kind == zrangeByLex && !r.touches(z) {
		return 0, 0
	}
	if z.big != nil {
		from = z.countBefore(func(m []byte, s float64) bool { return !r.aboveMin(m, s) })
		n = z.countBefore(r.belowMax) - from
		return from, max(n, 0)
	}
	return r.ofPack(z, reverse)
}

// touches tells whether the last member isn't below the range, nor the first above it, nor the range empty.
func (r *zrangeSpec) touches(z *zset) bool {
	switch {
	case r.lmin.infinite > 0 || r.lmax.infinite < 0:
		return false
	case r.lmin.infinite == 0 && r.lmax.infinite == 0:
		c := bytes.Compare(r.lmin.member, r.lmax.member)
		if c > 0 || c == 0 && (r.lmin.open || r.lmax.open) {
			return false
		}
	}
	ok := true
	var scratch [24]byte
	z.walk(z.len()-1, 1, true, func(m lpValue, s float64) bool { ok = r.aboveMin(m.bytes(&scratch), s); return false })
	z.walk(0, 1, false, func(m lpValue, s float64) bool { ok = ok && r.belowMax(m.bytes(&scratch), s); return false })
	return ok
}

// ofPack looks for the range from one end of a small set to the other.
func (r *zrangeSpec) ofPack(z *zset, reverse bool) (from, n int) {
	enter, stay := r.aboveMin, r.belowMax
	first, step := 0, 1
	if reverse {
		enter, stay = stay, enter
		first, step = z.len()-1, -1
	}
	var scratch [24]byte
	at := first
	z.walk(first, z.len(), reverse, func(v lpValue, s float64) bool {
		m := v.bytes(&scratch)
		if n == 0 && !enter(m, s) {
			at += step
			return true
		}
		if !stay(m, s) {
			return false
		}
		n++
		return true
	})
	if reverse {
		at -= n - 1
	}
	return at, n
}

func zcountGeneric(x *call, kind zrangeKind) {
	r, ok := x.argZRange(kind, x.args[2], x.args[3])
	if !ok {
		return
	}
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	n := 0
	if z != nil {
		_, n = r.of(z, false)
	}
	x.int(int64(n))
}

func zremrangeGeneric(x *call, kind zrangeKind) {
	r, ok := x.argZRange(kind, x.args[2], x.args[3])
	if !ok {
		return
	}
	key := x.args[1]
	o, ok := x.writeKind(key, kindZSet)
	if !ok {
		return
	}
	n := 0
	if o != nil {
		var from int
		if from, n = r.of(o.zset(), false); n > 0 {
			o.zset().removeRange(from, n)
			x.shrunk(key, o, x.spec.Name)
			x.dirty += n
		}
	}
	x.int(int64(n))
}

// zrangeForm is which of the range commands it is.
type zrangeForm struct {
	kind    zrangeKind
	reverse bool
	legacy  bool // kind and direction are in the name; otherwise BYSCORE, BYLEX and REV say them
	store   bool
}

// zrangeOptions are what stands behind the bounds.
type zrangeOptions struct {
	offset, limit int64
	withScores    bool
}

func (x *call) zrangeOptions(args [][]byte, f *zrangeForm) (o zrangeOptions, ok bool) {
	o.limit = -1
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case !f.store && is(a, "WITHSCORES"):
			o.withScores = true
		case is(a, "LIMIT") && len(args)-i > 2:
			if o.offset, o.limit, ok = x.argPair(args[i+1], args[i+2]); !ok {
				return o, false
			}
			i += 2
		case !f.legacy && is(a, "REV"):
			f.reverse = true
		case !f.legacy && is(a, "BYLEX"):
			f.kind = zrangeByLex
		case !f.legacy && is(a, "BYSCORE"):
			f.kind = zrangeByScore
		default:
			x.syntax()
			return o, false
		}
	}
	switch {
	case o.limit != -1 && f.kind == zrangeByRank:
		x.err("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
		return o, false
	case o.withScores && f.kind == zrangeByLex:
		x.err("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
		return o, false
	}
	return o, true
}

func zrangeGeneric(x *call, f zrangeForm) {
	args := x.args[1:]
	if f.store {
		args = args[1:]
	}
	opts, ok := x.zrangeOptions(args[3:], &f)
	if !ok {
		return
	}
	lo, hi := args[1], args[2]
	if f.reverse && f.kind != zrangeByRank {
		lo, hi = hi, lo
	}
	r, ok := x.argZRange(f.kind, lo, hi)
	if !ok {
		return
	}
	var o *object
	if f.store {
		o, ok = x.readKindForWrite(args[0], kindZSet)
	} else {
		o, ok = x.readKind(args[0], kindZSet)
	}
	if !ok {
		return
	}
	var z *zset
	first, n := 0, 0
	if o != nil {
		z = o.zset()
		first, n = f.ranks(&r, z, opts)
	}
	if f.store {
		zrangestore(x, z, first, n, f.reverse)
		return
	}
	x.randomHeader(n, opts.withScores)
	if n > 0 {
		z.walk(first, n, f.reverse, x.scoreEmitter(opts.withScores, x.proto >= 3))
	}
}

// ranks returns the rank of the first member to visit and their number, after LIMIT.
func (f *zrangeForm) ranks(r *zrangeSpec, z *zset, opts zrangeOptions) (first, n int) {
	if f.kind == zrangeByRank {
		first, n = clampRange(r.start, r.end, z.len())
		if f.reverse {
			first = z.len() - 1 - first // ranks count from the end
		}
		return first, n
	}
	from, n := r.of(z, f.reverse)
	first = from
	if f.reverse {
		first = from + n - 1
	}
	if opts.offset < 0 || opts.offset >= int64(n) {
		return 0, 0
	}
	n -= int(opts.offset)
	if opts.limit >= 0 {
		n = int(min(int64(n), opts.limit))
	}
	if f.reverse {
		return first - int(opts.offset), n
	}
	return first + int(opts.offset), n
}

func zrangestore(x *call, z *zset, first, n int, reverse bool) {
	result := newZSet()
	if n > 0 {
		var scratch [24]byte
		z.walk(first, n, reverse, func(m lpValue, score float64) bool {
			result.set(m.bytes(&scratch), score, x.seed())
			return true
		})
	}
	x.store(x.args[1], zsetPayload(result), n, "zrangestore")
}
