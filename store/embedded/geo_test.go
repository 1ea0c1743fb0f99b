package embedded

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestGeo(t *testing.T) {
	vectors(t,
		"geoadd sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", "geoadd sicily ch xx 13.361389 38.2 Palermo 1 1 x",
		"geoadd sicily nx 13.361389 38.3 Palermo 2.5 -3 y", "geoadd sicily nx xx 1 1 a", "geoadd sicily 1 1", "geoadd sicily ch ch ch", "geoadd sicily 181 1 a",
		"geoadd sicily 1 86 a", "geoadd sicily -180 -85.05112878 corner 180 85.05112878 other 0 0 zero -0.0000001 0.0000001 near",
		"geoadd sicily a 1 b", "geoadd sicily 1 nan b", "zrange sicily 0 -1 withscores",
		"geodist sicily Palermo Catania", "geodist sicily Palermo Catania km", "geodist sicily Palermo Catania MI", "geodist sicily Palermo Catania ft", "geodist sicily Palermo Catania xx",
		"geodist sicily Palermo Catania km km", "geodist sicily Palermo nobody", "geodist missing a b", "geodist sicily zero near", "geodist sicily corner other", "geodist sicily zero zero", "geodist missing a b xx",
		"geohash sicily Palermo Catania nobody corner other zero", "geohash missing a b", "geopos sicily Palermo Catania nobody corner other zero near", "geopos missing a",
		"georadius sicily 15 37 200 km", "georadius sicily 15 37 200 km withdist", "georadius sicily 15 37 200 km withcoord withhash withdist", "georadius sicily 15 37 200 km count 1 desc", "georadius sicily 15 37 200 km count 1 any",
		"georadius sicily 15 37 200 km any", "georadius sicily 15 37 -1 km", "georadius sicily 15 37 x km", "georadius sicily 15 37 1 x", "georadius sicily 15 37 200 km count 0", "georadius sicily 15 37 200 km count", "georadius sicily 15 37 200 km bogus",
		"georadius sicily 0 0 30000 km asc", "georadius sicily 0 0 30000 km desc withdist", "georadius sicily 15 37 200 km store d", "zrange d 0 -1 withscores", "georadius sicily 15 37 200 km storedist d desc", "zrange d 0 -1 withscores",
		"georadius sicily 15 37 200 km store d withdist", "georadius sicily 100 37 2 km store d", "exists d", "georadius_ro sicily 15 37 200 km asc", "georadius_ro sicily 15 37 200 km store d",
		"georadiusbymember sicily Palermo 300 km asc", "georadiusbymember sicily nobody 300 km", "georadiusbymember missing nobody x y", "georadiusbymember missing nobody x y store d", "georadiusbymember_ro sicily Catania 300 mi withdist asc",
		"georadiusbymember sicily Palermo 300 km storedist d count 1", "zrange d 0 -1 withscores",
		"geosearch sicily frommember Palermo byradius 300 km asc", "geosearch sicily fromlonlat 15 37 bybox 400 400 km asc withcoord withdist withhash", "geosearch sicily fromlonlat 15 37 bybox 400 0 km", "geosearch sicily fromlonlat 15 37 bybox -1 0 km",
		"geosearch sicily fromlonlat 15 37 bybox x 0 km", "geosearch sicily fromlonlat 15 37 bybox 1 x km", "GeoSearch sicily fromlonlat 15 37 asc", "geosearch sicily asc desc byradius 1 m", "geosearch sicily frommember Palermo fromlonlat 1 1 byradius 1 m", "geosearch sicily frommember Palermo bybox 1 1 m byradius 1 m",
		"geosearch missing frommember x byradius 1 m", "geosearch missing frommember x", "geosearch missing frommember x byradius 1 m any", "geosearchstore d sicily frommember Palermo byradius 300 km storedist", "zrange d 0 -1 withscores",
		"geosearchstore d sicily frommember Palermo byradius 300 km withdist", "geosearchstore d sicily frommember Palermo bybox 300 300 km", "zrange d 0 -1 withscores", "geosearchstore d missing frommember Palermo bybox 300 300 km", "exists d", "geosearchstore d missing frommember Palermo bybox 300 300 km",
		"geosearch sicily frommember Palermo byradius 300 km store x", "geosearch sicily frommember Palermo byradius 300 km storedist",
		"set s v", "geoadd s 1 1 a", "geodist s a b", "geohash s a", "geopos s a", "georadius s x y z u", "geosearch s x y z u x", "geosearchstore s sicily fromlonlat 15 37 byradius 200 km", "type s",
		"zadd odd -1 a 1e300 b 0.5 c 9223372036854775807 d 18446744073709551615 e inf f -inf g 4503599627370496 h", "geopos odd a b c d e f g h", "geohash odd a b c d e f g h", "geodist odd a b", "geodist odd c d", "georadius odd 0 0 50000 km asc withhash",
	)
}

// Random points and searches. Stored distances are compared by their order only: in one case of thousands the C library
// rounds the last digit of a sine wrongly.
func TestGeoRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	pos := func() string {
		lon, lat := rng.Float64()*360-180, rng.Float64()*170-85
		if rng.IntN(2) == 0 {
			lon, lat = 15+rng.Float64(), 37+rng.Float64()
		}
		return fmt.Sprintf("%v %v", lon, lat)
	}
	var lines []string
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("geoadd g %s m%d", pos(), i))
	}
	units := []string{"m", "km", "ft", "mi"}
	for range 200 {
		size := func() string { return fmt.Sprint(rng.ExpFloat64() * []float64{100, 5e4, 1e6, 2e7}[rng.IntN(4)]) }
		unit := units[rng.IntN(4)]
		by := fmt.Sprintf("byradius %s %s", size(), unit)
		if rng.IntN(2) == 0 {
			by = fmt.Sprintf("bybox %s %s %s", size(), size(), unit)
		}
		lines = append(lines, fmt.Sprintf("geosearchstore d g fromlonlat %s %s storedist", pos(), by), "zrange d 0 -1",
			fmt.Sprintf("geosearch g fromlonlat %s %s withdist", pos(), by), fmt.Sprintf("geosearch g frommember m%d %s withdist asc count 5", rng.IntN(400), by),
			fmt.Sprintf("geosearch g fromlonlat %s %s count 3 any", pos(), by), fmt.Sprintf("geodist g m%d m%d %s", rng.IntN(400), rng.IntN(400), unit), fmt.Sprintf("geopos g m%d", rng.IntN(400)))
	}
	vectors(t, lines...)
}

func TestGeoPropagation(t *testing.T) {
	stream(t, "geoadd k ch 1 1 a 2 2 b", "geoadd k 1 1 a", "georadius k 1 1 500 km store d", "georadius k 1 1 500 km", "geosearchstore d k frommember a bybox 1 1 km storedist", "geosearchstore d k fromlonlat 60 60 bybox 1 1 km", "geosearchstore d k fromlonlat 60 60 bybox 1 1 km", "georadiusbymember nokey a 1 km store d")
}
