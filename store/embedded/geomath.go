package embedded

import "math"

// What the geo commands calculate, in the order of operations of Redis's geohash_helper.c: scores and distances are
// visible to the last digit. Conversions to float64 around products keep the compiler from fusing them with sums,
// which some architectures would do.

const (
	geoLonMin, geoLonMax = -180.0, 180.0
	geoLatMin, geoLatMax = -85.05112878, 85.05112878
	geoStepMax           = 26 // bits of each coordinate in a score
	earthRadius          = 6372797.560856
	mercatorMax          = 20037726.37
)

func radians(deg float64) float64 { return deg * (math.Pi / 180) }
func degrees(rad float64) float64 { return rad / (math.Pi / 180) }

// latDistance is the distance of two parallels, in meters.
func latDistance(lat1, lat2 float64) float64 {
	return earthRadius * math.Abs(radians(lat2)-radians(lat1))
}

// geoDistance is the great-circle distance in meters, by the haversine formula.
func geoDistance(lon1, lat1, lon2, lat2 float64) float64 {
	return haversine(lon1, lat1, lon2, lat2, exactSin, exactCos, exactAsin)
}

// roughDistance is geoDistance but for the last digits, and quicker.
func roughDistance(lon1, lat1, lon2, lat2 float64) float64 {
	return haversine(lon1, lat1, lon2, lat2, math.Sin, math.Cos, math.Asin)
}

func haversine(lon1, lat1, lon2, lat2 float64, sin, cos, asin func(float64) float64) float64 {
	v := sin((radians(lon2) - radians(lon1)) / 2)
	if v == 0 {
		return latDistance(lat1, lat2)
	}
	r1, r2 := radians(lat1), radians(lat2)
	u := sin((r2 - r1) / 2)
	a := float64(u*u) + float64(float64(float64(cos(r1)*cos(r2))*v)*v)
	return 2 * earthRadius * asin(math.Sqrt(a))
}

// The C library's sin, cos and asin are correctly rounded but for one case in thousands; Go's aren't. These are
// calculated with twice the precision and then rounded.

// twofold is an unevaluated sum of two doubles, hi the nearest to it.
type twofold struct{ hi, lo float64 }

func sum2(a, b float64) twofold {
	s := a + b
	t := s - a
	return twofold{s, (a - (s - t)) + (b - t)}
}

func (a twofold) add(b twofold) twofold {
	s := sum2(a.hi, b.hi)
	return sum2(s.hi, s.lo+(a.lo+b.lo))
}

func (a twofold) mul(b twofold) twofold {
	p := float64(a.hi * b.hi)
	e := math.FMA(a.hi, b.hi, -p)
	return sum2(p, e+(float64(a.hi*b.lo)+float64(a.lo*b.hi)))
}

func (a twofold) div(b float64) twofold {
	q := a.hi / b
	return sum2(q, (math.FMA(-q, b, a.hi)+a.lo)/b)
}

// π/2 in three parts.
const (
	halfPiHi  = 1.5707963267948966
	halfPiMid = 6.123233995736766e-17
	halfPiLow = -1.4973849048591698e-33
)

// sinCos2 is the sine and cosine of a small multiple of π.
func sinCos2(x float64) (sin, cos twofold) {
	n := math.RoundToEven(x / halfPiHi)
	r := sum2(math.FMA(-n, halfPiHi, x), -n*halfPiMid) // the first is exact: the two are close
	r = r.add(twofold{-n * halfPiLow, 0})
	sq := r.mul(r)
	sq = twofold{-sq.hi, -sq.lo}
	one := twofold{1, 0}
	s, c := one, one
	for k := 27.0; k > 1; k -= 2 { // Taylor's series from its end
		s = one.add(sq.mul(s).div(k * (k - 1)))
		c = one.add(sq.mul(c).div((k - 1) * (k - 2)))
	}
	s = s.mul(r)
	neg := func(t twofold) twofold { return twofold{-t.hi, -t.lo} }
	switch int(n) & 3 {
	case 1:
		return c, neg(s)
	case 2:
		return neg(s), neg(c)
	case 3:
		return neg(c), s
	}
	return s, c
}

func exactSin(x float64) float64 {
	s, _ := sinCos2(x)
	return s.hi
}

func exactCos(x float64) float64 {
	_, c := sinCos2(x)
	return c.hi
}

func exactAsin(y float64) float64 {
	a := math.Asin(y)
	for range 2 { // Newton's method: the first step mends what is wrong near 1
		s, c := sinCos2(a)
		a += ((y - s.hi) - s.lo) / c.hi
	}
	return a
}

// --- geohashes ---

// geoCell is a geohash: the bits of latitude and longitude interleaved, step of each. The zero cell is none.
type geoCell struct {
	bits uint64
	step uint
}

// geoArea is what a cell covers.
type geoArea struct{ lonMin, lonMax, latMin, latMax float64 }

// interleave puts x into the even bits and y into the odd ones.
func interleave(x, y uint32) uint64 { return spread(x) | spread(y)<<1 }

func spread(v uint32) uint64 {
	x := uint64(v)
	x = (x | x<<16) & 0x0000FFFF0000FFFF
	x = (x | x<<8) & 0x00FF00FF00FF00FF
	x = (x | x<<4) & 0x0F0F0F0F0F0F0F0F
	x = (x | x<<2) & 0x3333333333333333
	return (x | x<<1) & 0x5555555555555555
}

// gather is the even bits of x.
func gather(x uint64) uint32 {
	x &= 0x5555555555555555
	x = (x | x>>1) & 0x3333333333333333
	x = (x | x>>2) & 0x0F0F0F0F0F0F0F0F
	x = (x | x>>4) & 0x00FF00FF00FF00FF
	x = (x | x>>8) & 0x0000FFFF0000FFFF
	return uint32(x | x>>16)
}

func geoEncode(lon, lat float64, step uint) geoCell {
	return geoEncodeIn(lon, lat, step, geoLatMin, geoLatMax)
}

func geoEncodeIn(lon, lat float64, step uint, latMin, latMax float64) geoCell {
	scale := float64(uint64(1) << step)
	y := (lat - latMin) / (latMax - latMin) * scale
	x := (lon - geoLonMin) / (geoLonMax - geoLonMin) * scale
	return geoCell{interleave(uint32(y), uint32(x)), step}
}

func (c geoCell) area() geoArea {
	lat, lon := gather(c.bits), gather(c.bits>>1)
	scale := float64(uint64(1) << c.step)
	at := func(i uint32, lo, width float64) float64 { return lo + float64(float64(i)/scale*width) }
	const lats, lons = geoLatMax - geoLatMin, geoLonMax - geoLonMin
	return geoArea{
		lonMin: at(lon, geoLonMin, lons), lonMax: at(lon+1, geoLonMin, lons),
		latMin: at(lat, geoLatMin, lats), latMax: at(lat+1, geoLatMin, lats),
	}
}

// scores are the scores [from, to) of the points in the cell.
func (c geoCell) scores() (from, to float64) {
	shift := 2*geoStepMax - 2*c.step
	return float64(c.bits << shift), float64((c.bits + 1) << shift)
}

// moved is the cell dx to the east and dy to the north, around the world.
func (c geoCell) moved(dx, dy int) geoCell {
	mask := ^uint64(0) >> (64 - 2*c.step)
	lat, lon := uint64(0x5555555555555555)&mask, uint64(0xaaaaaaaaaaaaaaaa)&mask
	move := func(mine, other uint64, d int) uint64 {
		switch {
		case d > 0: // with the other coordinate's bits set, a carry passes them
			return (c.bits&mine | other) + 1
		case d < 0:
			return c.bits&mine - 1
		}
		return c.bits
	}
	return geoCell{move(lat, lon, dy)&lat | move(lon, lat, dx)&lon, c.step}
}

// geoPosition is where a score is.
func geoPosition(score float64) (lon, lat float64) {
	a := geoCell{cUint64(score), geoStepMax}.area()
	lon = min(max((a.lonMin+a.lonMax)/2, geoLonMin), geoLonMax)
	lat = min(max((a.latMin+a.latMax)/2, geoLatMin), geoLatMax)
	return lon, lat
}

// cUint64 converts as C does on x86-64, also what is out of range: any score may be asked for its position.
func cUint64(f float64) uint64 {
	const top = 1 << 63
	if f < top {
		return uint64(cInt64(f))
	}
	return uint64(cInt64(f-top)) ^ top
}

func cInt64(f float64) int64 {
	if f >= -(1<<63) && f < 1<<63 {
		return int64(f)
	}
	return math.MinInt64
}

// --- areas to search ---

// geoShape is a circle or a box around a point.
type geoShape struct {
	lon, lat      float64
	unit          float64 // meters in the unit of the others
	box           bool
	radius        float64
	width, height float64
}

// distance is how far a point is from the center; ok tells whether it is inside.
func (s *geoShape) distance(lon, lat float64) (meters float64, ok bool) {
	if s.box {
		if latDistance(lat, s.lat) > float64(s.height*s.unit)/2 ||
			geoDistance(lon, lat, s.lon, lat) > float64(s.width*s.unit)/2 {
			return 0, false
		}
		return geoDistance(s.lon, s.lat, lon, lat), true
	}
	limit := s.radius * s.unit
	if roughDistance(s.lon, s.lat, lon, lat) > limit*(1+1e-9)+1e-3 {
		return 0, false
	}
	meters = geoDistance(s.lon, s.lat, lon, lat)
	return meters, !(meters > limit)
}

// bounds is a rectangle around the shape.
func (s *geoShape) bounds() geoArea {
	height, width := s.radius*s.unit, s.radius*s.unit
	if s.box {
		height, width = s.height/2*s.unit, s.width/2*s.unit
	}
	dLat := degrees(height / earthRadius)
	edge := s.lat + dLat
	if s.lat < 0 {
		edge = s.lat - dLat
	}
	dLon := degrees(width / earthRadius / math.Cos(radians(edge)))
	return geoArea{lonMin: s.lon - dLon, lonMax: s.lon + dLon, latMin: s.lat - dLat, latMax: s.lat + dLat}
}

// steps estimates how small cells may be so that nine of them cover the shape.
func (s *geoShape) steps() uint {
	meters := s.radius
	if s.box {
		w, h := s.width/2, s.height/2
		meters = math.Sqrt(float64(w*w) + float64(h*h))
	}
	meters *= s.unit
	if meters == 0 {
		return geoStepMax
	}
	step := 1
	for ; meters < mercatorMax; step++ {
		meters *= 2
	}
	step -= 2
	if lat := math.Abs(s.lat); lat > 80 {
		step -= 2
	} else if lat > 66 {
		step--
	}
	return uint(min(max(step, 1), geoStepMax))
}

// cells are the geohash cells to look through, in Redis's order: the center, north, south, east, west, then the corners.
// The order is that of replies without sorting.
func (s *geoShape) cells() [9]geoCell {
	around := [9][2]int{{0, 0}, {0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, 1}, {-1, 1}, {1, -1}, {-1, -1}}
	box := s.bounds()
	steps := s.steps()
	var cells [9]geoCell
	fill := func() {
		center := geoEncode(s.lon, s.lat, steps)
		for i, d := range around {
			cells[i] = center.moved(d[0], d[1])
		}
	}
	fill()
	if north, south, east, west := cells[1].area(), cells[2].area(), cells[3].area(), cells[4].area(); steps > 1 &&
		(north.latMax < box.latMax || south.latMin > box.latMin || east.lonMax < box.lonMax || west.lonMin > box.lonMin) {
		steps--
		fill()
	}
	if steps < 2 {
		return cells
	}
	center := cells[0].area()
	for i, d := range around {
		if d[1] < 0 && center.latMin < box.latMin || d[1] > 0 && center.latMax > box.latMax ||
			d[0] < 0 && center.lonMin < box.lonMin || d[0] > 0 && center.lonMax > box.lonMax {
			cells[i] = geoCell{}
		}
	}
	return cells
}
