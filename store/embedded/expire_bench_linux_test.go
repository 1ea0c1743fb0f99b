package embedded

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkExpire deletes a million keys that are all over, and tells how long the lock was held at most.
func BenchmarkExpire(b *testing.B) {
	const keys = 1 << 20
	var s stays
	for range b.N {
		b.StopTimer()
		clk := newClock()
		e := New(Options{Now: clk.now})
		e.mu.Lock()
		ks := e.dbs[0]
		for i := range keys {
			ks.setExpire(ks.add(fmt.Appendf(nil, "key:%d", i), stringPayload([]byte("some value")), 0), clk.now().UnixMilli()+int64(i%1000))
		}
		e.mu.Unlock()
		clk.advance(time.Hour)
		b.StartTimer()
		for more := true; more; {

			s.measure(func() { more = e.housekeep() })
		}
		_ = e.Close()
	}
	s.report(b)
}
