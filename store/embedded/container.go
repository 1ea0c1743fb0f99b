package embedded

import (
	"math"
	"math/rand/v2"
	"strconv"

	"respmesh/resp/frame"
)

// What the commands of hashes, lists, sets and sorted sets share.

// seed is for the dicts of big values.
func (x *call) seed() uint64 { return x.e.opts.HashSeed }

// value replies a packed value as a bulk string.
func (x *call) value(v lpValue) {
	if v.s != nil {
		x.bulk(v.s)
		return
	}
	var scratch [24]byte
	x.bulk(strconv.AppendInt(scratch[:0], v.n, 10))
}

// saved finishes a change of a container that isn't empty: o is its object, nil when p is new under the key.
func (x *call) saved(key []byte, o *object, p payload, event string) {
	if o == nil {
		x.add(key, p)
	} else {
		x.touch(key, o)
	}
	x.notify(p.kind.class(), event, key)
}

// shrunk finishes a change that took something out of a container: an empty one is deleted.
func (x *call) shrunk(key []byte, o *object, event string) {
	x.changed(o, event, key)
	if o.container().len() == 0 {
		x.remove(key)
		x.notify(eventGeneric, "del", key)
	} else {
		x.touch(key, o)
	}
}

// argRange reads an integer between lo and hi. text is the error when it is out of range; "" gives Redis's usual one.
func (x *call) argRange(b []byte, lo, hi int64, text string) (n int64, ok bool) {
	n, ok = frame.ParseInt(b)
	switch {
	case !ok && text == "":
		x.err(errNotInt)
	case !ok:
		x.err(text)
	case n >= lo && n <= hi:
		return n, true
	case text == "":
		x.errf("ERR value is out of range, value must between %d and %d", lo, hi)
	default:
		x.err(text)
	}
	return 0, false
}

// sampler chooses k of n things that come one after the other, each set of k with the same probability.
type sampler struct{ k, n int }

func (s *sampler) next() bool {
	take := rand.IntN(s.n) < s.k
	s.n--
	if take {
		s.k--
	}
	return take
}

// sparse tells whether k of n things are better drawn one by one, with repetitions thrown away, than by looking at
// all of them.
func sparse(k, n int) bool { return n > 256 && k < n/8 }

// scanContainer runs HSCAN, SSCAN or ZSCAN: step visits one cursor position of the container, calling emit with the
// element that MATCH looks at and what it has besides (nil if nothing).
func (x *call) scanContainer(k kind, step func(o *object, cursor uint64, emit func(name, with []byte)) uint64) {
	if _, ok := x.scanCursor(x.args[2]); !ok {
		return
	}
	o, ok := x.readKind(x.args[1], k)
	if !ok {
		return
	}
	if o == nil {
		x.scanHeader(0, 0)
		return
	}
	opts, ok := x.scanOptions(x.args[2:])
	if !ok {
		return
	}
	var found []byte
	n, met := 0, 0
	cursor := opts.cursor
	for left := opts.count * scanEffort; ; {
		cursor = step(o, cursor, func(name, with []byte) {
			met++
			if !opts.matches(name) {
				return
			}
			found = frame.AppendBulk(found, name)
			n++
			if with != nil {
				found = frame.AppendBulk(found, with)
				n++
			}
		})
		if left--; cursor == 0 || left <= 0 || met >= opts.count {
			break
		}
	}
	x.scanHeader(cursor, n)
	x.out = append(x.out, found...)
}

// randomArgs reads "count [word]" of HRANDFIELD and ZRANDMEMBER.
func (x *call) randomArgs(word string) (count int64, with, ok bool) {
	count, ok = x.argRange(x.args[2], -math.MaxInt64, math.MaxInt64, "")
	if !ok {
		return 0, false, false
	}
	if len(x.args) > 4 || len(x.args) == 4 && !is(x.args[3], word) {
		x.syntax()
		return 0, false, false
	}
	with = len(x.args) == 4
	if with && (count < -math.MaxInt64/2 || count > math.MaxInt64/2) {
		x.err("ERR value is out of range")
		return 0, false, false
	}
	return count, with, true
}

const (
	// maxDraws and maxDrawn bound the reply to a negative count, for which one element may come as often as one likes.
	maxDraws = 1 << 20
	maxDrawn = 64 << 20
)

// draw replies n elements (n may be huge), each by emit; header opens the reply.
func (x *call) draw(n int64, header func(n int), emit func()) {
	start := len(x.out)
	if n <= maxDraws {
		header(int(n))
		for ; n > 0 && len(x.out)-start <= maxDrawn; n-- {
			emit()
		}
	}
	if n > 0 {
		x.out = x.out[:start]
		x.err("ERR value is out of range, the reply would be too big")
	}
}

// randomHeader opens the reply of n elements: flat in RESP2 when they have something with them.
func (x *call) randomHeader(n int, with bool) {
	if with && x.proto < 3 {
		n *= 2
	}
	x.array(n)
}

// intArg formats a number for propagate.
func intArg(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

// store puts the result of a …STORE command, of n elements, in the place of whatever is there. Nothing is stored as
// the absence of the key. It replies n, or that there is no memory for it.
func (x *call) store(dst []byte, p payload, n int, event string) {
	if n > 0 {
		if c := p.container(); c != nil && !x.room(int64(c.memory())) {
			return
		}
		x.replace(dst, p, false)
		x.notify(p.kind.class(), event, dst)
		x.dirty++
	} else if x.remove(dst) {
		x.notify(eventGeneric, "del", dst)
		x.dirty++
	}
	x.int(int64(n))
}

// argKeys reads "numkeys key…" at args[at] and returns the keys and what follows them.
func (x *call) argKeys(at int) (keys, rest [][]byte, ok bool) {
	n, ok := x.argRange(x.args[at], 1, math.MaxInt64, "ERR numkeys should be greater than 0")
	if !ok {
		return nil, nil, false
	}
	if n > int64(len(x.args)-at-1) {
		x.err("ERR Number of keys can't be greater than number of args")
		return nil, nil, false
	}
	end := at + 1 + int(n)
	return x.args[at+1 : end], x.args[end:], true
}

// argLimit reads "[LIMIT n]" of SINTERCARD and ZINTERCARD; 0 is no limit.
func (x *call) argLimit(rest [][]byte) (limit int64, ok bool) {
	for ; len(rest) > 0; rest = rest[2:] {
		if !is(rest[0], "LIMIT") || len(rest) < 2 {
			x.syntax()
			return 0, false
		}
		if limit, ok = x.argRange(rest[1], 0, math.MaxInt64, "ERR LIMIT can't be negative"); !ok {
			return 0, false
		}
	}
	return limit, true
}
