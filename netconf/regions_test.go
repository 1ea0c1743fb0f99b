package netconf

import (
	"errors"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestRegionTable(t *testing.T) {
	codes, indexes := map[string]bool{}, map[uint16]string{}
	valid := regexp.MustCompile(`^([a-z]{3}|[a-z]{2}-[a-z]+-[0-9])$`)
	for _, r := range regions {
		if codes[r.Code] || !valid.MatchString(r.Code) {
			t.Errorf("code %q is wrong or there twice", r.Code)
		}
		codes[r.Code] = true
		if other, taken := indexes[r.Index]; taken || r.Index == 0 || r.Index > math.MaxUint16-groupPeers {
			t.Errorf("%s: index %d is wrong or that of %q", r.Code, r.Index, other)
		}
		indexes[r.Index] = r.Code
		if r.City == "" || math.Abs(r.Lat) > 60 || math.Abs(r.Lon) > 180 || r.Lat == 0 {
			t.Errorf("%+v: no such place", r)
		}
		// Names that the resolver gives a meaning beside regions.
		if slices.Contains([]string{"primary", "nearest", "of", "global", "regions"}, r.Code) {
			t.Errorf("%s is a name of the resolver", r.Code)
		}
	}
	for _, code := range strings.Fields(`us-east-1 us-east-2 us-west-1 us-west-2 ca-central-1 eu-west-1 eu-west-2 eu-central-1
		eu-south-2 ap-south-1 ap-southeast-1 ap-southeast-2 ap-northeast-1 sa-east-1 af-south-1
		ams arn bog bom cdg den dfw ewr fra gru hkg iad jnb lax lhr mad nrt ord otp qro scl sea sin sjc syd waw yul yyz`) {
		if !codes[code] {
			t.Errorf("%s is missing", code)
		}
	}
	if all := Regions(); len(all) != len(regions) || !slices.IsSortedFunc(all, func(a, b Region) int { return strings.Compare(a.Code, b.Code) }) {
		t.Error("Regions isn't the whole table by code")
	}
}

// Indexes are in peers' addresses: a few, so that a changed table can't renumber them unnoticed.
func TestRegionIndexesStay(t *testing.T) {
	for code, index := range map[string]uint16{"ams": 1, "iad": 17, "mad": 21, "nrt": 23, "yyz": 35, "af-south-1": 64, "us-west-2": 96} {
		if r, _ := LookupRegion(code); r.Index != index {
			t.Errorf("%s has index %d, it was %d", code, r.Index, index)
		}
	}
}

func TestNearMatches(t *testing.T) {
	for _, c := range []struct {
		code string
		want []string
	}{
		{"madd", []string{"mad"}},
		{"MAD", []string{"mad"}},
		{"amz", []string{"ams"}},
		{"amsterdam", []string{"ams"}},
		{"Madrid", []string{"mad"}},
		{"madrit", []string{"mad"}},
		{"sao paulo", []string{"gru", "sa-east-1"}},
		{"São Paulo", []string{"gru", "sa-east-1"}},
		{"Tokyo", []string{"nrt", "ap-northeast-1"}},
		{"us-east1", []string{"us-east-1", "us-east-2"}},
		{"us_east_1", []string{"us-east-1", "us-east-2"}},
		{"eu-souht-2", []string{"eu-south-2", "eu-south-1"}},
		{"eu-north", []string{"eu-north-1"}},
		{"frankfurt", []string{"fra", "eu-central-1"}},
		{"xxx", nil},
		{"", nil},
		{"moon-base-1", nil},
		{strings.Repeat("a", 10_000), nil},
		{"\xff\x00", nil},
	} {
		got := NearMatches(c.code)
		if c.want == nil && len(got) == 0 {
			continue
		}
		// The likeliest come first; what follows them doesn't matter much.
		if len(got) < len(c.want) || !slices.Equal(got[:min(len(got), len(c.want))], c.want) {
			t.Errorf("NearMatches(%.20q) = %v, want %v", c.code, got, c.want)
		}
	}
}

func TestCheckRegion(t *testing.T) {
	_, err := CheckRegion("toyk")
	var unknown *UnknownRegionError
	if !errors.As(err, &unknown) || !errors.Is(err, ErrInvalid) {
		t.Fatalf("%v isn't an UnknownRegionError", err)
	}
	for code, text := range map[string]string{
		"madd":  `unknown region "madd"; did you mean mad (Madrid)?`,
		"tokyo": `unknown region "tokyo"; did you mean nrt (Tokyo) or ap-northeast-1 (Tokyo)?`,
		"xxx":   `unknown region "xxx"`,
	} {
		if _, err := CheckRegion(code); err == nil || err.Error() != text {
			t.Errorf("%s: %v, want %s", code, err, text)
		}
	}
	if r, err := CheckRegion("mad"); err != nil || r.City != "Madrid" {
		t.Errorf("%v, %v", r, err)
	}
}

func TestDistance(t *testing.T) {
	region := func(code string) Region { r, _ := LookupRegion(code); return r }
	for _, c := range []struct {
		a, b string
		km   float64
	}{{"mad", "ams", 1480}, {"mad", "nrt", 10770}, {"mad", "mad", 0}, {"sjc", "iad", 3850}, {"syd", "scl", 11340}} {
		got, back := region(c.a).Distance(region(c.b)), region(c.b).Distance(region(c.a))
		if math.Abs(got-c.km) > c.km/50+1 || math.Abs(got-back) > 1e-6 {
			t.Errorf("%s–%s: %.0f km and back %.0f, want about %.0f", c.a, c.b, got, back, c.km)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"mad", "mad", 0}, {"mda", "mad", 1}, {"madd", "mad", 1}, {"kitten", "sitting", 3}, {"abcd", "badc", 2}} {
		if got := editDistance(c.a, c.b); got != c.want || editDistance(c.b, c.a) != c.want {
			t.Errorf("%q %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if !reflect.DeepEqual(fold(" São_Paulo "), "sao-paulo") {
		t.Error(fold(" São_Paulo "))
	}
}
