package embedded

import (
	"cmp"
	"slices"

	"respmesh/resp/frame"
)

// geoForm is which of the search commands it is.
type geoForm struct {
	search   bool // GEOSEARCH, GEOSEARCHSTORE
	store    bool // GEOSEARCHSTORE
	byMember bool // GEORADIUSBYMEMBER
	readonly bool // …_RO
}

// geoQuery is a parsed search.
type geoQuery struct {
	shape                geoShape
	dst                  []byte // store here
	storing, storeDist   bool
	dist, hash, coord    bool
	any, asc, desc       bool
	count                int64
	fromMember, fromSpot bool
	byRadius             bool
}

func geoSearch(x *call, form geoForm) {
	var q geoQuery
	src, at := x.args[1], 0
	if form.store {
		src, q.dst, q.storing = x.args[2], x.args[1], true
	}
	z, ok := x.readZSet(src)
	if !ok {
		return
	}
	if at, ok = x.geoCenter(form, z, &q); !ok || !x.geoOptions(form, z, &q, x.args[at:]) {
		return
	}
	if z == nil {
		if !q.storing {
			x.array(0)
			return
		}
		x.store(q.dst, payload{}, 0, "")
		return
	}
	if q.count != 0 && !q.desc && !q.any {
		q.asc = true
	}
	found := q.find(z)
	n := len(found)
	if q.count > 0 {
		n = int(min(q.count, int64(n)))
	}
	if q.asc || q.desc {
		slices.SortStableFunc(found, func(a, b geoPoint) int {
			if q.desc {
				a, b = b, a
			}
			return cmp.Compare(a.dist, b.dist)
		})
	}
	found = found[:n]
	if q.storing {
		x.geoStore(&q, found)
	} else {
		x.geoReply(&q, found)
	}
}

// geoCenter reads what stands before the options and tells where these begin.
func (x *call) geoCenter(form geoForm, z *zset, q *geoQuery) (at int, ok bool) {
	switch {
	case form.store:
		return 3, true
	case form.search:
		return 2, true
	case !form.byMember:
		if q.shape.lon, q.shape.lat, ok = x.argPosition(x.args[2:]); !ok {
			return 0, false
		}
		return 6, x.argRadius(&q.shape, x.args[4:])
	case z == nil:
		return 5, true // as in Redis, the radius isn't looked at
	}
	return 5, x.geoMember(q, z, x.args[2]) && x.argRadius(&q.shape, x.args[3:])
}

// geoMember makes the position of a member the center.
func (x *call) geoMember(q *geoQuery, z *zset, member []byte) bool {
	score, ok := z.score(member)
	if !ok {
		x.err("ERR could not decode requested zset member")
		return false
	}
	q.shape.lon, q.shape.lat = geoPosition(score)
	return true
}

func (x *call) geoOptions(form geoForm, z *zset, q *geoQuery, args [][]byte) (ok bool) {
	for ; len(args) > 0; args = args[1:] {
		left := len(args) - 1
		take := 0
		switch a := args[0]; {
		case is(a, "WITHDIST"):
			q.dist = true
		case is(a, "WITHHASH"):
			q.hash = true
		case is(a, "WITHCOORD"):
			q.coord = true
		case is(a, "ANY"):
			q.any = true
		case is(a, "ASC"):
			q.asc, q.desc = true, false
		case is(a, "DESC"):
			q.asc, q.desc = false, true
		case is(a, "COUNT") && left >= 1:
			if q.count, ok = x.argInt(args[1]); !ok {
				return false
			}
			if q.count <= 0 {
				x.err("ERR COUNT must be > 0")
				return false
			}
			take = 1
		case (is(a, "STORE") || is(a, "STOREDIST")) && left >= 1 && !form.readonly && !form.search:
			q.dst, q.storing, q.storeDist = args[1], true, is(a, "STOREDIST")
			take = 1
		case is(a, "STOREDIST") && form.store:
			q.storeDist = true
		case is(a, "FROMMEMBER") && left >= 1 && form.search && !q.fromSpot:
			if z != nil && !x.geoMember(q, z, args[1]) {
				return false
			}
			q.fromMember, take = true, 1
		case is(a, "FROMLONLAT") && left >= 2 && form.search && !q.fromMember:
			if q.shape.lon, q.shape.lat, ok = x.argPosition(args[1:]); !ok {
				return false
			}
			q.fromSpot, take = true, 2
		case is(a, "BYRADIUS") && left >= 2 && form.search && !q.shape.box:
			if !x.argRadius(&q.shape, args[1:]) {
				return false
			}
			q.byRadius, take = true, 2
		case is(a, "BYBOX") && left >= 3 && form.search && !q.byRadius:
			if !x.argBox(&q.shape, args[1:]) {
				return false
			}
			take = 3
		default:
			x.syntax()
			return false
		}
		args = args[take:]
	}
	switch {
	case q.storing && (q.dist || q.hash || q.coord):
		name := "STORE option in GEORADIUS"
		if form.store {
			name = "GEOSEARCHSTORE"
		}
		x.err("ERR " + name + " is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
	case form.search && !q.fromMember && !q.fromSpot:
		x.errf("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %s", x.args[0])
	case form.search && !q.byRadius && !q.shape.box:
		x.errf("ERR exactly one of BYRADIUS and BYBOX can be specified for %s", x.args[0])
	case q.any && q.count == 0:
		x.err("ERR the ANY argument requires COUNT argument")
	default:
		return true
	}
	return false
}

// geoPoint is a member that was found; dist is in meters.
type geoPoint struct {
	member         []byte
	score          float64
	dist, lon, lat float64
}

// find returns the members inside the shape, cell by cell.
func (q *geoQuery) find(z *zset) []geoPoint {
	var found []geoPoint
	full := func() bool { return q.any && int64(len(found)) >= q.count }
	cells := q.shape.cells()
	last := 0
	for i, c := range cells {
		if c == (geoCell{}) || last != 0 && c == cells[last] { // of a huge area, neighbors may be the same
			continue
		}
		if full() {
			break
		}
		from, to := c.scores()
		first := z.countBefore(func(_ []byte, score float64) bool { return score < from })
		z.walk(first, z.len()-first, false, func(m lpValue, score float64) bool {
			if score >= to {
				return false
			}
			lon, lat := geoPosition(score)
			if d, ok := q.shape.distance(lon, lat); ok {
				found = append(found, geoPoint{m.appendTo(nil), score, d, lon, lat})
			}
			return !full()
		})
		last = i
	}
	return found
}

func (x *call) geoReply(q *geoQuery, found []geoPoint) {
	x.array(len(found))
	fields := 1
	for _, on := range []bool{q.dist, q.hash, q.coord} {
		if on {
			fields++
		}
	}
	for _, p := range found {
		if fields > 1 {
			x.array(fields)
		}
		x.bulk(p.member)
		if q.dist {
			x.distance(p.dist / q.shape.unit)
		}
		if q.hash {
			x.out = frame.AppendInt(x.out, cInt64(p.score))
		}
		if q.coord {
			x.position(p.lon, p.lat)
		}
	}
}

func (x *call) geoStore(q *geoQuery, found []geoPoint) {
	z := newZSet()
	for _, p := range found {
		score := p.score
		if q.storeDist {
			score = p.dist / q.shape.unit
		}
		z.set(p.member, score, x.seed())
	}
	event := "georadiusstore"
	if x.spec.Name == "geosearchstore" {
		event = "geosearchstore"
	}
	x.store(q.dst, zsetPayload(z), len(found), event)
}
