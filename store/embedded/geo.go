package embedded

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"respmesh/resp/frame"
)

// A geo set is a sorted set whose scores are the positions: 26 bits of latitude and longitude, interleaved.

func geoCommands() []registration {
	search := func(form geoForm) handler { return func(x *call) { geoSearch(x, form) } }
	return []registration{
		{name: "geoadd", handle: geoaddCommand},
		{name: "geodist", handle: geodistCommand},
		{name: "geohash", handle: geohashCommand},
		{name: "geopos", handle: geoposCommand},
		{name: "geosearch", handle: search(geoForm{search: true})},
		{name: "geosearchstore", handle: search(geoForm{search: true, store: true})},
		{name: "georadius", handle: search(geoForm{})},
		{name: "georadius_ro", handle: search(geoForm{readonly: true})},
		{name: "georadiusbymember", handle: search(geoForm{byMember: true})},
		{name: "georadiusbymember_ro", handle: search(geoForm{byMember: true, readonly: true})},
	}
}

func geoaddCommand(x *call) {
	at, nx, xx := 2, false, false
	for ; at < len(x.args); at++ {
		if is(x.args[at], "NX") {
			nx = true
		} else if is(x.args[at], "XX") {
			xx = true
		} else if !is(x.args[at], "CH") {
			break
		}
	}
	points := x.args[at:]
	if len(points)%3 != 0 || nx && xx {
		x.syntax()
		return
	}
	args := append([][]byte{[]byte("zadd")}, x.args[1:at]...)
	for ; len(points) > 0; points = points[3:] {
		lon, lat, ok := x.argPosition(points)
		if !ok {
			return
		}
		score := geoEncode(lon, lat, geoStepMax).bits
		args = append(args, strconv.AppendUint(nil, score, 10), points[2])
	}
	x.args = args
	if zaddGeneric(x, zaddFlags{}); x.dirty > 0 {
		x.propagate(args...)
	}
}

// argPosition reads longitude and latitude.
func (x *call) argPosition(args [][]byte) (lon, lat float64, ok bool) {
	if lon, ok = x.argFloat(args[0]); !ok {
		return 0, 0, false
	}
	if lat, ok = x.argFloat(args[1]); !ok {
		return 0, 0, false
	}
	if lon < geoLonMin || lon > geoLonMax || lat < geoLatMin || lat > geoLatMax {
		x.errf("ERR invalid longitude,latitude pair %s,%s", cFloat(lon), cFloat(lat))
		return 0, 0, false
	}
	return lon, lat, true
}

// cFloat formats as C's printf does with %f.
func cFloat(f float64) string {
	return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'f', 6, 64), "+"))
}

// argUnit reads a unit of length, as meters.
func (x *call) argUnit(b []byte) (meters float64, ok bool) {
	switch {
	case is(b, "M"):
		return 1, true
	case is(b, "KM"):
		return 1000, true
	case is(b, "FT"):
		return 0.3048, true
	case is(b, "MI"):
		return 1609.34, true
	}
	x.err("ERR unsupported unit provided. please use M, KM, FT, MI")
	return 0, false
}

// argLength reads a number that is the name of what it measures.
func (x *call) argLength(b []byte, name string) (f float64, ok bool) {
	if f, ok = parseFloat(b); !ok {
		x.err("ERR need numeric " + name)
	}
	return f, ok
}

// argRadius reads "radius unit".
func (x *call) argRadius(s *geoShape, args [][]byte) (ok bool) {
	if s.radius, ok = x.argLength(args[0], "radius"); !ok {
		return false
	}
	if s.radius < 0 {
		x.err("ERR radius cannot be negative")
		return false
	}
	s.unit, ok = x.argUnit(args[1])
	return ok
}

// argBox reads "width height unit".
func (x *call) argBox(s *geoShape, args [][]byte) (ok bool) {
	if s.width, ok = x.argLength(args[0], "width"); !ok {
		return false
	}
	if s.height, ok = x.argLength(args[1], "height"); !ok {
		return false
	}
	if s.width < 0 || s.height < 0 {
		x.err("ERR height or width cannot be negative")
		return false
	}
	s.box = true
	s.unit, ok = x.argUnit(args[2])
	return ok
}

// distance replies a distance with four digits after the point, in every protocol as a string.
func (x *call) distance(d float64) {
	n := math.RoundToEven(d * 10000)
	if n >= 1<<63 || n != n {
		n = math.MinInt64
	}
	var scratch [40]byte
	x.bulk(fmt.Appendf(scratch[:0], "%d.%04d", int64(n)/10000, int64(n)%10000))
}

// coordinate replies a coordinate with up to 17 digits after the point.
func (x *call) coordinate(f float64) {
	var scratch [64]byte
	text := trimZeros(strconv.AppendFloat(scratch[:0], f, 'f', 17, 64))
	if x.proto < 3 {
		x.bulk(text)
		return
	}
	x.out = append(append(append(x.out, ','), text...), "\r\n"...)
}

// trimZeros cuts the zeros at the end of a decimal fraction.
func trimZeros(b []byte) []byte {
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	if b[len(b)-1] == '.' {
		b = b[:len(b)-1]
	}
	if string(b) == "-0" {
		b = b[1:]
	}
	return b
}

func geodistCommand(x *call) {
	unit := 1.0
	switch {
	case len(x.args) > 5:
		x.syntax()
		return
	case len(x.args) == 5:
		var ok bool
		if unit, ok = x.argUnit(x.args[4]); !ok {
			return
		}
	}
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	if z != nil {
		a, ok1 := z.score(x.args[2])
		b, ok2 := z.score(x.args[3])
		if ok1 && ok2 {
			lon1, lat1 := geoPosition(a)
			lon2, lat2 := geoPosition(b)
			x.distance(geoDistance(lon1, lat1, lon2, lat2) / unit)
			return
		}
	}
	x.null()
}

func geohashCommand(x *call) {
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	x.array(len(x.args) - 2)
	for _, m := range x.args[2:] {
		score, ok := 0.0, false
		if z != nil {
			score, ok = z.score(m)
		}
		if !ok {
			x.null()
			continue
		}
		// The common geohash divides latitudes from -90 to 90, the score does not.
		lon, lat := geoPosition(score)
		bits := geoEncodeIn(lon, lat, geoStepMax, -90, 90).bits
		var text [11]byte
		for i := range 10 {
			text[i] = "0123456789bcdefghjkmnpqrstuvwxyz"[bits>>(47-5*i)&31]
		}
		text[10] = '0' // there are only 52 bits
		x.bulk(text[:])
	}
}

func geoposCommand(x *call) {
	z, ok := x.readZSet(x.args[1])
	if !ok {
		return
	}
	x.array(len(x.args) - 2)
	for _, m := range x.args[2:] {
		score, ok := 0.0, false
		if z != nil {
			score, ok = z.score(m)
		}
		if !ok {
			x.nullArray()
			continue
		}
		x.position(geoPosition(score))
	}
}

func (x *call) position(lon, lat float64) {
	x.array(2)
	x.coordinate(lon)
	x.coordinate(lat)
}

// --- searching ---

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
		x.store(q.dst, payload{}, 0)
		x.int(0)
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
	x.store(q.dst, zsetPayload(z), len(found))
	x.int(int64(len(found)))
}
