package netconf

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Region is a place where a node can stand. Codes are AWS's region codes and Fly's (which are the airport's), so
// that users of either find theirs.
type Region struct {
	Code string
	City string
	// Lat and Lon are the metro's coordinates in degrees, to about a tenth: providers don't publish those of their
	// halls, and a tenth of a degree is less than 0.2 ms of fibre.
	Lat, Lon float64
	// Index is the region's number in the address plan. It is part of every peer's address: it never changes and
	// is never given to another region.
	Index uint16
}

// regions is the canonical table; new ones get the next free index. Codes: AWS "Regions and Availability Zones"
// and flyctl's `platform regions`. Cities: those that the providers name, or the largest metro of the area they
// name (us-west-2 is Boardman, eu-south-2 Zaragoza).
var regions = [...]Region{
	{"ams", "Amsterdam", 52.37, 4.90, 1},
	{"arn", "Stockholm", 59.33, 18.07, 2},
	{"atl", "Atlanta", 33.75, -84.39, 3},
	{"bog", "Bogotá", 4.71, -74.07, 4},
	{"bom", "Mumbai", 19.08, 72.88, 5},
	{"bos", "Boston", 42.36, -71.06, 6},
	{"cdg", "Paris", 48.86, 2.35, 7},
	{"den", "Denver", 39.74, -104.99, 8},
	{"dfw", "Dallas", 32.78, -96.80, 9},
	{"ewr", "Secaucus", 40.79, -74.06, 10},
	{"eze", "Buenos Aires", -34.60, -58.38, 11},
	{"fra", "Frankfurt", 50.11, 8.68, 12},
	{"gdl", "Guadalajara", 20.66, -103.35, 13},
	{"gig", "Rio de Janeiro", -22.91, -43.17, 14},
	{"gru", "São Paulo", -23.55, -46.63, 15},
	{"hkg", "Hong Kong", 22.32, 114.17, 16},
	{"iad", "Ashburn", 39.04, -77.49, 17},
	{"jnb", "Johannesburg", -26.20, 28.05, 18},
	{"lax", "Los Angeles", 34.05, -118.24, 19},
	{"lhr", "London", 51.51, -0.13, 20},
	{"mad", "Madrid", 40.42, -3.70, 21},
	{"mia", "Miami", 25.76, -80.19, 22},
	{"nrt", "Tokyo", 35.68, 139.69, 23},
	{"ord", "Chicago", 41.88, -87.63, 24},
	{"otp", "Bucharest", 44.43, 26.10, 25},
	{"phx", "Phoenix", 33.45, -112.07, 26},
	{"qro", "Querétaro", 20.59, -100.39, 27},
	{"scl", "Santiago", -33.45, -70.67, 28},
	{"sea", "Seattle", 47.61, -122.33, 29},
	{"sin", "Singapore", 1.35, 103.82, 30},
	{"sjc", "San Jose", 37.34, -121.89, 31},
	{"syd", "Sydney", -33.87, 151.21, 32},
	{"waw", "Warsaw", 52.23, 21.01, 33},
	{"yul", "Montreal", 45.50, -73.57, 34},
	{"yyz", "Toronto", 43.65, -79.38, 35},

	{"af-south-1", "Cape Town", -33.92, 18.42, 64},
	{"ap-east-1", "Hong Kong", 22.32, 114.17, 65},
	{"ap-east-2", "Taipei", 25.03, 121.57, 66},
	{"ap-northeast-1", "Tokyo", 35.68, 139.69, 67},
	{"ap-northeast-2", "Seoul", 37.57, 126.98, 68},
	{"ap-northeast-3", "Osaka", 34.69, 135.50, 69},
	{"ap-south-1", "Mumbai", 19.08, 72.88, 70},
	{"ap-south-2", "Hyderabad", 17.39, 78.49, 71},
	{"ap-southeast-1", "Singapore", 1.35, 103.82, 72},
	{"ap-southeast-2", "Sydney", -33.87, 151.21, 73},
	{"ap-southeast-3", "Jakarta", -6.21, 106.85, 74},
	{"ap-southeast-4", "Melbourne", -37.81, 144.96, 75},
	{"ap-southeast-5", "Kuala Lumpur", 3.14, 101.69, 76},
	{"ap-southeast-7", "Bangkok", 13.76, 100.50, 77},
	{"ca-central-1", "Montreal", 45.50, -73.57, 78},
	{"ca-west-1", "Calgary", 51.05, -114.07, 79},
	{"eu-central-1", "Frankfurt", 50.11, 8.68, 80},
	{"eu-central-2", "Zurich", 47.38, 8.54, 81},
	{"eu-north-1", "Stockholm", 59.33, 18.07, 82},
	{"eu-south-1", "Milan", 45.46, 9.19, 83},
	{"eu-south-2", "Zaragoza", 41.65, -0.89, 84},
	{"eu-west-1", "Dublin", 53.35, -6.26, 85},
	{"eu-west-2", "London", 51.51, -0.13, 86},
	{"eu-west-3", "Paris", 48.86, 2.35, 87},
	{"il-central-1", "Tel Aviv", 32.09, 34.78, 88},
	{"me-central-1", "Dubai", 25.20, 55.27, 89},
	{"me-south-1", "Manama", 26.23, 50.59, 90},
	{"mx-central-1", "Querétaro", 20.59, -100.39, 91},
	{"sa-east-1", "São Paulo", -23.55, -46.63, 92},
	{"us-east-1", "Ashburn", 39.04, -77.49, 93},
	{"us-east-2", "Columbus", 39.96, -83.00, 94},
	{"us-west-1", "San Jose", 37.34, -121.89, 95},
	{"us-west-2", "Boardman", 45.84, -119.70, 96},
}

// Regions lists all regions by code.
func Regions() []Region {
	all := slices.Clone(regions[:])
	slices.SortFunc(all, func(a, b Region) int { return strings.Compare(a.Code, b.Code) })
	return all
}

// LookupRegion finds a region by its code, which is lower case.
func LookupRegion(code string) (Region, bool) {
	for _, r := range &regions {
		if r.Code == code {
			return r, true
		}
	}
	return Region{}, false
}

// Distance is the great-circle distance to another region in kilometres (haversine, mean Earth radius 6371 km).
func (r Region) Distance(to Region) float64 {
	const rad = math.Pi / 180
	lat1, lat2 := r.Lat*rad, to.Lat*rad
	s1 := math.Sin((lat2 - lat1) / 2)
	s2 := math.Sin((to.Lon - r.Lon) * rad / 2)
	h := s1*s1 + math.Cos(lat1)*math.Cos(lat2)*s2*s2
	return 2 * 6371 * math.Asin(math.Sqrt(min(1, h)))
}

// UnknownRegionError says which code isn't one, and what may have been meant.
type UnknownRegionError struct {
	Code string
	Near []string
}

func (e *UnknownRegionError) Error() string {
	if len(e.Near) == 0 {
		return fmt.Sprintf("unknown region %q", e.Code)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "unknown region %q; did you mean ", e.Code)
	for i, code := range e.Near {
		switch {
		case i > 0 && i == len(e.Near)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		r, _ := LookupRegion(code)
		fmt.Fprintf(&b, "%s (%s)", code, r.City)
	}
	b.WriteString("?")
	return b.String()
}

// Is makes the error an ErrInvalid.
func (e *UnknownRegionError) Is(target error) bool { return target == ErrInvalid }

// CheckRegion is LookupRegion with an error that names the near matches.
func CheckRegion(code string) (Region, error) {
	if r, ok := LookupRegion(code); ok {
		return r, nil
	}
	return Region{}, &UnknownRegionError{Code: code, Near: NearMatches(code)}
}

// NearMatches lists at most four codes that may have been meant by a wrong one: codes that differ by a typing
// mistake, and regions whose city was written instead. The likeliest comes first.
func NearMatches(code string) []string {
	asked := fold(code)
	if asked == "" || len(asked) > 64 {
		return nil
	}
	type match struct {
		code string
		far  int
	}
	var found []match
	for _, r := range &regions {
		city := fold(r.City)
		far := editDistance(asked, r.Code)
		// A three-letter code has many neighbours at two changes: only one is a typing mistake.
		if far > 1 && (len(r.Code) <= 3 || len(asked) <= 4) {
			far = math.MaxInt
		}
		if c := editDistance(asked, city); c < far && c*4 <= len(city) {
			far = c
		}
		if len(asked) >= 3 && (strings.HasPrefix(city, asked) || len(asked) >= 4 && strings.HasPrefix(r.Code, asked)) {
			far = min(far, 1)
		}
		if far <= 2 {
			found = append(found, match{r.Code, far})
		}
	}
	slices.SortFunc(found, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(len(a.code), len(b.code)), strings.Compare(a.code, b.code))
	})
	codes := make([]string, 0, 4)
	for _, m := range found[:min(4, len(found))] {
		codes = append(codes, m.code)
	}
	return codes
}

// fold brings a code or a city to letters and digits in lower case, without the accents of the table's cities.
func fold(s string) string {
	s = strings.NewReplacer("á", "a", "ã", "a", "é", "e", "_", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(s)))
	return strings.TrimFunc(s, func(r rune) bool { return r == '-' })
}

// editDistance counts insertions, deletions, substitutions and swaps of neighbours between two short strings.
func editDistance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, row = prev, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := prev[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(prev[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
