package figures

import "testing"

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		runs []float64
		want string
	}{
		{[]float64{3}, "3.0 (3.0 – 3.0)"},
		{[]float64{3, 1, 2}, "2.0 (1.0 – 3.0)"},
		{[]float64{4, 1, 3, 2}, "2.5 (1.0 – 4.0)"},
	} {
		if got := Spread(tc.runs, Format("%.1f")); got != tc.want {
			t.Errorf("%v: %q, not %q", tc.runs, got, tc.want)
		}
	}
	if got := Median(nil); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
