package embedded

import (
	"fmt"
	"math"
	"strconv"
	"strings"
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
