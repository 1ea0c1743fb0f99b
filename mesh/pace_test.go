package mesh

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPaceKeepsSmallWritesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gap = 300 * time.Microsecond
		begin := time.Now()
		p := pace{gap: gap, checked: begin, last: begin.Add(-time.Hour)}
		for i, want := range []time.Duration{0, gap, 2 * gap} {
			if p.wait(nil); time.Since(begin) != want {
				t.Errorf("write %d leaves after %v, want %v", i, time.Since(begin), want)
			}
		}
		time.Sleep(10 * gap) // of the bubble's clock: the connection was idle
		idle := time.Now()
		if p.wait(nil); time.Since(idle) != 0 {
			t.Errorf("the first write after a pause waits for %v", time.Since(idle))
		}
	})
}

func TestPaceLeavesShortPathsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := pace{checked: begin}
		for range 100 {
			p.wait(nil)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("100 writes took %v", took)
		}
	})
}
