package embedded

import (
	"slices"
	"strings"
	"sync"

	"respmesh/resp/command"
)

func latencyCommands() []registration {
	return []registration{
		{"latency|latest", latencyLatest, lockShared},
		{"latency|history", latencyHistory, lockShared},
		{"latency|reset", latencyReset, lockShared},
		{"latency|histogram", latencyHistogram, lockShared},
		{"latency|graph", latencyGraph, lockShared},
		{"latency|doctor", latencyDoctor, lockShared},
		{"latency|help", latencyHelp, lockShared},
	}
}

// latencySamples is how many spikes are kept of each event.
const latencySamples = 160

// latencyMonitor keeps when the engine was held up, by what and for how long.
type latencyMonitor struct {
	threshold int64 // ms, 0: off; under the engine's lock

	mu     sync.Mutex
	events map[string]*latencyEvent
}

type latencyEvent struct {
	max     int64
	samples []latencySample // the oldest first
}

type latencySample struct{ at, ms int64 }

// add notes a spike. Those of one second are one, the worst.
func (m *latencyMonitor) add(event string, at, ms int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.events == nil {
		m.events = map[string]*latencyEvent{}
	}
	ev := m.events[event]
	if ev == nil {
		ev = &latencyEvent{}
		m.events[event] = ev
	}
	ev.max = max(ev.max, ms)
	if n := len(ev.samples); n > 0 && ev.samples[n-1].at == at {
		ev.samples[n-1].ms = max(ev.samples[n-1].ms, ms)
		return
	}
	if len(ev.samples) == latencySamples {
		ev.samples = append(ev.samples[:0], ev.samples[1:]...)
	}
	ev.samples = append(ev.samples, latencySample{at, ms})
}

func latencyLatest(x *call) {
	m := &x.e.latency
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.events {
		names = append(names, name)
	}
	slices.Sort(names)
	x.array(len(names))
	for _, name := range names {
		ev := m.events[name]
		last := ev.samples[len(ev.samples)-1]
		x.array(4)
		x.bulkString(name)
		x.int(last.at)
		x.int(last.ms)
		x.int(ev.max)
	}
}

func latencyHistory(x *call) {
	m := &x.e.latency
	m.mu.Lock()
	defer m.mu.Unlock()
	ev := m.events[string(x.args[2])]
	if ev == nil {
		x.array(0)
		return
	}
	x.array(len(ev.samples))
	for _, s := range ev.samples {
		x.array(2)
		x.int(s.at)
		x.int(s.ms)
	}
}

func latencyReset(x *call) {
	m := &x.e.latency
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	if len(x.args) == 2 {
		n = len(m.events)
		clear(m.events)
	}
	for _, a := range x.args[2:] {
		if _, ok := m.events[string(a)]; ok {
			delete(m.events, string(a))
			n++
		}
	}
	x.int(int64(n))
}

// latencyHistogram replies, for each command that was called, how many calls took at most 1, 2, 4, 8… microseconds.
func latencyHistogram(x *call) {
	var specs []*command.Spec
	if len(x.args) == 2 {
		for spec := range command.All() {
			specs = append(specs, spec)
		}
	}
	for _, a := range x.args[2:] {
		spec := command.ByName(strings.ToLower(string(a)))
		if spec == nil {
			continue
		}
		specs = append(specs, spec)
		if spec.IsContainer() && !strings.Contains(spec.Name, "|") {
			for sub := range spec.Subcommands() {
				specs = append(specs, sub)
			}
		}
	}
	specs = slices.DeleteFunc(specs, func(s *command.Spec) bool { return x.e.commands[s.ID].latency.Load() == nil })
	x.mapHeader(len(specs))
	for _, spec := range specs {
		counts, total := x.e.commands[spec.ID].latency.Load().counts()
		var steps [][2]int64
		var sum, shown int64
		top := int64(1024) // nanoseconds: Redis's microseconds have 1,024 here
		for i, n := range counts {
			for histogramTop(i) > top {
				if sum != shown {
					steps, shown = append(steps, [2]int64{top / 1024, sum}), sum
				}
				top *= 2
			}
			sum += n
		}
		if sum != shown {
			steps = append(steps, [2]int64{top / 1024, sum})
		}
		x.bulkString(spec.Name)
		x.mapHeader(2)
		x.bulkString("calls")
		x.int(total)
		x.bulkString("histogram_usec")
		x.mapHeader(len(steps))
		for _, s := range steps {
			x.int(s[0])
			x.int(s[1])
		}
	}
}

func latencyHelp(x *call) {
	x.help(strings.Split(`LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DOCTOR
    Return a human readable latency analysis report.
GRAPH <event>
    Return an ASCII latency graph for the <event> class.
HISTORY <event>
    Return time-latency samples for the <event> class.
LATEST
    Return the latest latency samples for all events.
RESET [<event> ...]
    Reset latency data of one or more <event> classes.
    (default: reset all data for all event classes)
HISTOGRAM [COMMAND ...]
    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.
    If no commands are specified then all histograms are replied.
HELP
    Prints this help.`, "\n")...)
}
