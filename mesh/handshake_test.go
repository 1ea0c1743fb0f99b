package mesh

import (
	"testing"
	"time"

	"respmesh/mesh/wan"
)

// TestCrossingHandshakes starts two nodes at the same time, some way apart, so
// that their initiations cross.
func TestCrossingHandshakes(t *testing.T) {
	for range 4 {
		start := time.Now()
		a, b, _ := far(t, wan.Conditions{Delay: 60 * time.Millisecond})
		connect(t, a, b)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("connected after %s", d)
		} else {
			t.Logf("connected after %s", d)
		}
	}
}
