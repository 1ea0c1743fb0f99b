package embedded

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stays are how long somebody was held up, each time. Beside the time there is this thread's processor time, which other work on
// the machine doesn't change.
type stays struct{ wall, cpu []time.Duration }

func (s *stays) measure(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, cpu := time.Now(), threadTime()
	f()
	s.wall, s.cpu = append(s.wall, time.Since(start)), append(s.cpu, threadTime()-cpu)
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

func quantile(d []time.Duration, share float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(share*float64(len(d))), len(d)-1)]
}

// report tells the median, the 99.9th percentile and the longest, in milliseconds.
func (s *stays) report(b *testing.B) {
	for _, m := range []struct {
		d    []time.Duration
		unit string
	}{{s.wall, "ms"}, {s.cpu, "cpu-ms"}} {
		b.ReportMetric(quantile(m.d, 0.5).Seconds()*1000, m.unit+"-p50")
		b.ReportMetric(quantile(m.d, 0.999).Seconds()*1000, m.unit+"-p99.9")
		b.ReportMetric(quantile(m.d, 1).Seconds()*1000, m.unit+"-most")
	}
}
