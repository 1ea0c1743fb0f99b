package wan

import (
	"math"
	"testing"
	"time"
)

// published are averages between cloud regions as Azure ("network round-trip latency
// statistics") and AWS (Network Manager) publish them. They are from memory, rounded:
// a yardstick for the formula, no copy of a table of a certain month.
var published = []struct {
	name                   string
	latA, lonA, latB, lonB float64
	ms                     float64
}{
	{"Virginia-London", 38.9, -77.4, 51.5, -0.1, 76},
	{"Virginia-Tokyo", 38.9, -77.4, 35.6, 139.8, 158},
	{"Frankfurt-Singapore", 50.1, 8.7, 1.35, 103.9, 160},
	{"Madrid-Amsterdam", 40.4, -3.7, 52.4, 4.9, 27},
	{"Sydney-Singapore", -33.9, 151.2, 1.35, 103.9, 92},
	{"Sao Paulo-Virginia", -23.5, -46.6, 38.9, -77.4, 115},
	{"Virginia-Oregon", 38.9, -77.4, 45.8, -119.7, 60},
	{"Virginia-Frankfurt", 38.9, -77.4, 50.1, 8.7, 91},
	{"Tokyo-Singapore", 35.6, 139.8, 1.35, 103.9, 70},
	{"Sydney-Tokyo", -33.9, 151.2, 35.6, 139.8, 108},
	{"Ireland-Virginia", 53.3, -6.3, 38.9, -77.4, 68},
	{"Sydney-Virginia", -33.9, 151.2, 38.9, -77.4, 199},
	{"California-Tokyo", 37.4, -121.9, 35.6, 139.8, 107},
}

func TestRTTAgainstPublishedFigures(t *testing.T) {
	var sum, worst float64
	for _, p := range published {
		got := float64(RTT(p.latA, p.lonA, p.latB, p.lonB)) / float64(time.Millisecond)
		err := got/p.ms - 1
		t.Logf("%-20s %6.0f km: published %3.0f ms, estimated %5.1f ms, %+.0f %%", p.name, Distance(p.latA, p.lonA, p.latB, p.lonB), p.ms, got, 100*err)
		sum += math.Abs(err)
		worst = max(worst, math.Abs(err))
	}
	mean := sum / float64(len(published))
	t.Logf("mean error %.1f %%, worst %.1f %%", 100*mean, 100*worst)
	if mean > 0.10 || worst > 0.20 {
		t.Errorf("mean error %.3f, worst %.3f: want at most 0.10 and 0.20", mean, worst)
	}
}

func TestRTTOfOneRegion(t *testing.T) {
	if got := RTT(52.4, 4.9, 52.3, 4.8); got != sameRegion {
		t.Errorf("one region: %s", got)
	}
	if d := Distance(0, 0, 0, 180); math.Abs(d-math.Pi*earthRadius) > 1 {
		t.Errorf("antipodes are %f km apart", d)
	}
}
