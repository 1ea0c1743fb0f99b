package embedded

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What LATENCY says to people, in Redis's own words.

// latencyGraph draws the spikes of an event, with how long ago they were.
func latencyGraph(x *call) {
	m := &x.e.latency
	m.mu.Lock()
	defer m.mu.Unlock()
	name := string(x.args[2])
	ev := m.events[name]
	if ev == nil {
		x.errf("ERR No samples available for event '%s'", name)
		return
	}
	const columns, rows = 80, 4
	var seq sparkline
	for _, s := range ev.samples {
		seq.values = append(seq.values, s.ms)
		seq.labels = append(seq.labels, ago(x.now/1000-s.at))
	}
	x.verbatim("txt", fmt.Sprintf("%s - high %d ms, low %d ms (all time high %d ms)\n%s\n%s", name,
		slices.Max(seq.values), slices.Min(seq.values), ev.max, strings.Repeat("-", columns), seq.render(columns, rows)))
}

func ago(seconds int64) string {
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%dm", seconds/60)
	case seconds < 24*3600:
		return fmt.Sprintf("%dh", seconds/3600)
	}
	return fmt.Sprintf("%dd", seconds/(24*3600))
}

// sparkline is a drawing by characters of values, each with a label that is written downwards below it.
type sparkline struct {
	values []int64
	labels []string
}

// render draws as Redis's sparkline.c does with SPARKLINE_FILL.
func (s *sparkline) render(columns, rows int) string {
	const charset = "_o#"
	low := slices.Min(s.values)
	span := max(slices.Max(s.values)-low, 1)
	steps := rows * len(charset)
	var b strings.Builder
	for from := 0; from < len(s.values); from += columns {
		if from > 0 {
			b.WriteByte('\n')
		}
		to := min(from+columns, len(s.values))
		values, labels := s.values[from:to], s.labels[from:to]
		line := make([]byte, len(values))
		for row := range rows {
			for i, v := range values {
				step := min(int((v-low)*int64(steps)/span), steps-1)
				switch at := step - (rows-row-1)*len(charset); {
				case at >= len(charset):
					line[i] = '|'
				case at >= 0:
					line[i] = charset[at]
				default:
					line[i] = ' '
				}
			}
			b.Write(line)
			b.WriteByte('\n')
		}
		b.WriteString(strings.Repeat(" ", len(values)) + "\n")
		for at, more := 0, true; more; at++ {
			more = false
			for i, label := range labels {
				if line[i] = ' '; at < len(label) {
					line[i], more = label[at], true
				}
			}
			if more {
				b.Write(line)
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

// latencyDoctor says what was slow, and what can be done about it. Of Redis's events there are those of commands.
func latencyDoctor(x *call) {
	e := x.e
	m := &e.latency
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.events) == 0 && m.threshold == 0 {
		x.verbatim("txt", "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \"CONFIG SET "+
			"latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep space mission I'd suggest to take a look "+
			"at https://redis.io/topics/latency-monitor.\n")
		return
	}
	if len(m.events) == 0 {
		x.verbatim("txt", "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest bit. I honestly think "+
			"you ought to sit down calmly, take a stress pill, and think things over.\n")
		return
	}
	var b strings.Builder
	b.WriteString("Dave, I have observed latency spikes in this Redis instance. You don't mind talking about it, do you Dave?\n\n")
	for i, name := range slices.Sorted(maps.Keys(m.events)) {
		ev := m.events[name]
		s := ev.summary(x.now / 1000)
		fmt.Fprintf(&b, "%d. %s: %d latency spikes (average %dms, mean deviation %dms, period %.2f sec). Worst all time event %dms.\n",
			i+1, name, s.count, s.average, s.deviation, float64(s.period)/float64(s.count), ev.max)
	}
	b.WriteString("\nI have a few advices for you:\n\n")
	if m.events["command"] != nil {
		switch slower := e.slow.threshold.Load(); {
		case slower < 0 || e.slow.limit() == 0:
			fmt.Fprintf(&b, "- There are latency issues with potentially slow commands you are using. Try to enable the Slow Log Redis feature using "+
				"the command 'CONFIG SET slowlog-log-slower-than %d'. If the Slow log is disabled Redis is not able to log slow commands execution "+
				"for you.\n", m.threshold*1000)
		case slower/1000 > m.threshold:
			fmt.Fprintf(&b, "- Your current Slow Log configuration only logs events that are slower than your configured latency monitor threshold. "+
				"Please use 'CONFIG SET slowlog-log-slower-than %d'.\n", m.threshold*1000)
		}
		b.WriteString("- Check your Slow Log to understand what are the commands you are running which are too slow to execute. Please check " +
			"https://redis.io/commands/slowlog for more information.\n")
	}
	if m.events["fast-command"] != nil {
		b.WriteString("- The system is slow to execute Redis code paths not containing system calls. This usually means the system does not provide " +
			"Redis CPU time to run for long periods. You should try to:\n" +
			"  1) Lower the system load.\n" +
			"  2) Use a computer / VM just for Redis if you are running other software in the same system.\n" +
			"  3) Check if you have a \"noisy neighbour\" problem.\n" +
			"  4) Check with 'redis-cli --intrinsic-latency 100' what is the intrinsic latency in your system.\n" +
			"  5) Check if the problem is allocator-related by recompiling Redis with MALLOC=libc, if you are using Jemalloc. However this may " +
			"create fragmentation problems.\n")
	}
	if m.events["command"] != nil {
		b.WriteString("- Deleting, expiring or evicting (because of maxmemory policy) large objects is a blocking operation. If you have very large " +
			"objects that are often deleted, expired, or evicted, try to fragment those objects into multiple smaller objects.\n")
	}
	x.verbatim("txt", b.String())
}

type latencySummary struct{ count, average, deviation, period int64 }

func (ev *latencyEvent) summary(now int64) (s latencySummary) {
	s.count = int64(len(ev.samples))
	var sum, off int64
	for _, x := range ev.samples {
		sum += x.ms
	}
	s.average = sum / s.count
	for _, x := range ev.samples {
		off += max(s.average-x.ms, x.ms-s.average)
	}
	s.deviation, s.period = off/s.count, max(now-ev.samples[0].at, 1)
	return s
}
