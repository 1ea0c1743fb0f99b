package embedded

import (
	"cmp"
	"math"
	"slices"
)

// zsource is an input of ZUNION and its kin: a sorted set, or a set whose members all have the score 1.
type zsource struct {
	z      *zset
	s      *setValue
	weight float64
}

func (s *zsource) len() int {
	switch {
	case s.z != nil:
		return s.z.len()
	case s.s != nil:
		return s.s.len()
	}
	return 0
}

func (s *zsource) score(member []byte) (float64, bool) {
	switch {
	case s.z != nil:
		return s.z.score(member)
	case s.s != nil && s.s.has(member):
		return 1, true
	}
	return 0, false
}

func (s *zsource) each(visit func(member []byte, score float64) bool) {
	var scratch [24]byte
	switch {
	case s.z != nil:
		s.z.each(func(m lpValue, score float64) bool { return visit(m.bytes(&scratch), score) })
	case s.s != nil:
		s.s.each(func(m lpValue) bool { return visit(m.bytes(&scratch), 1) })
	}
}

// numberOr0 is the score, or 0 instead of what is no number (∞ × 0, ∞ - ∞).
func numberOr0(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return f
}

type aggregate func(a, b float64) float64

func aggregateSum(a, b float64) float64 { return numberOr0(a + b) }

// min and max of Go treat NaN and -0 otherwise than Redis does.
func aggregateMin(a, b float64) float64 {
	if b < a {
		return b
	}
	return a
}

func aggregateMax(a, b float64) float64 {
	if b > a {
		return b
	}
	return a
}

// zoperation is what the arguments of ZUNION and its kin say.
type zoperation struct {
	sources    []zsource
	aggregate  aggregate
	withScores bool
	limit      int64
}

// argZOperation reads "numkeys key… options" from args[at].
func (x *call) argZOperation(at int, op setOp, store, cardOnly bool) (z zoperation, ok bool) {
	n, ok := x.argInt(x.args[at])
	if !ok {
		return z, false
	}
	if n < 1 {
		x.errf("ERR at least 1 input key is needed for '%s' command", x.spec.Name)
		return z, false
	}
	if n > int64(len(x.args)-at-1) {
		x.syntax()
		return z, false
	}
	z.aggregate = aggregateSum
	for _, key := range x.args[at+1 : at+1+int(n)] {
		var o *object
		if store {
			o = x.readForWrite(key)
		} else {
			o = x.read(key)
		}
		src := zsource{weight: 1}
		switch {
		case o == nil:
		case o.kind == kindZSet:
			src.z = o.zset()
		case o.kind == kindSet:
			src.s = o.set()
		default:
			x.wrongType()
			return z, false
		}
		z.sources = append(z.sources, src)
	}
	rest := x.args[at+1+int(n):]
	for len(rest) > 0 {
		switch {
		case op != setDifference && !cardOnly && len(rest) > int(n) && is(rest[0], "WEIGHTS"):
			for i := range z.sources {
				w, ok := parseFloat(rest[1+i])
				if !ok {
					x.err("ERR weight value is not a float")
					return z, false
				}
				z.sources[i].weight = w
			}
			rest = rest[1+n:]
		case op != setDifference && !cardOnly && len(rest) > 1 && is(rest[0], "AGGREGATE"):
			switch {
			case is(rest[1], "SUM"):
				z.aggregate = aggregateSum
			case is(rest[1], "MIN"):
				z.aggregate = aggregateMin
			case is(rest[1], "MAX"):
				z.aggregate = aggregateMax
			default:
				x.syntax()
				return z, false
			}
			rest = rest[2:]
		case !store && !cardOnly && is(rest[0], "WITHSCORES"):
			z.withScores = true
			rest = rest[1:]
		case cardOnly && len(rest) > 1 && is(rest[0], "LIMIT"):
			if z.limit, ok = x.argRange(rest[1], 0, math.MaxInt64, "ERR LIMIT can't be negative"); !ok {
				return z, false
			}
			rest = rest[2:]
		default:
			x.syntax()
			return z, false
		}
	}
	if op != setDifference {
		// As in Redis, the smallest first; it also decides the order in which scores are added up.
		slices.SortStableFunc(z.sources, func(a, b zsource) int { return cmp.Compare(a.len(), b.len()) })
	}
	return z, true
}

// intersect visits what is in all sources until visit returns false.
func (z *zoperation) intersect(visit func(member []byte, score float64) bool) {
	first := &z.sources[0]
	first.each(func(m []byte, score float64) bool {
		score = numberOr0(score * first.weight)
		for i := range z.sources[1:] {
			src := &z.sources[1+i]
			s, ok := src.score(m)
			if !ok {
				return true
			}
			score = z.aggregate(score, s*src.weight)
		}
		return visit(m, score)
	})
}

func (z *zoperation) union(visit func(member []byte, score float64)) {
	scores := map[string]float64{}
	for i := range z.sources {
		src := &z.sources[i]
		src.each(func(m []byte, score float64) bool {
			score = numberOr0(score * src.weight)
			if old, ok := scores[string(m)]; ok {
				score = z.aggregate(old, score)
			}
			scores[string(m)] = score
			return true
		})
	}
	for m, score := range scores {
		visit(bytesOf(m), score)
	}
}

func (z *zoperation) difference(visit func(member []byte, score float64)) {
	z.sources[0].each(func(m []byte, score float64) bool {
		for i := range z.sources[1:] {
			if _, ok := z.sources[1+i].score(m); ok {
				return true
			}
		}
		visit(m, score)
		return true
	})
}

// scored is a member of a result.
type scored struct {
	member string
	score  float64
}

// results are the members that an operation gives, in order.
func (z *zoperation) results(op setOp) (all []scored) {
	add := func(m []byte, score float64) { all = append(all, scored{string(m), score}) }
	switch op {
	case setUnion:
		z.union(add)
	case setIntersection:
		z.intersect(func(m []byte, score float64) bool { add(m, score); return true })
	case setDifference:
		z.difference(add)
	}
	slices.SortFunc(all, func(a, b scored) int {
		if c := cmp.Compare(a.score, b.score); c != 0 {
			return c
		}
		return cmp.Compare(a.member, b.member)
	})
	return all
}

func zsetOperation(x *call, op setOp, store bool) {
	at := 1
	if store {
		at = 2
	}
	z, ok := x.argZOperation(at, op, store, false)
	if !ok {
		return
	}
	all := z.results(op)
	if !store {
		x.randomHeader(len(all), z.withScores)
		emit := x.scoreEmitter(z.withScores, x.proto >= 3)
		for _, r := range all {
			emit(lpValue{s: memberBytes(r.member)}, r.score)
		}
		return
	}
	result := newZSet()
	for _, r := range all {
		result.set(bytesOf(r.member), r.score, x.seed())
	}
	x.store(x.args[1], zsetPayload(result), len(all), x.spec.Name)
}

func zintercardCommand(x *call) {
	z, ok := x.argZOperation(1, setIntersection, false, true)
	if !ok {
		return
	}
	var n int64
	z.intersect(func([]byte, float64) bool {
		n++
		return n != z.limit
	})
	x.int(n)
}
