package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the gateways' metrics. Several gateways share one: each adds its own labels.
type Metrics struct {
	commands     *prometheus.CounterVec
	latency      *latencyCollector
	sessions     *prometheus.GaugeVec
	sessionsAll  *prometheus.CounterVec
	cut          *prometheus.CounterVec
	links        *prometheus.GaugeVec
	linkFailures *prometheus.CounterVec
	retries      *prometheus.CounterVec
	hedges       *prometheus.CounterVec
	errors       *prometheus.CounterVec
	bytes        *prometheus.CounterVec
	auth         *prometheus.CounterVec
	throttled    *prometheus.CounterVec
	bigValues    *prometheus.CounterVec
	waits        *prometheus.CounterVec
	waitSeconds  *prometheus.HistogramVec
	pending      *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	base := []string{"database", "region"}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "respmesh", Name: name, Help: help}, with(labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "respmesh", Name: name, Help: help}, with(labels...))
	}
	m := &Metrics{
		commands:     counter("commands_total", "Commands by class and by the route they took.", "class", "route"),
		latency:      newLatencyCollector(),
		sessions:     gauge("sessions", "Client connections open now."),
		sessionsAll:  counter("sessions_opened_total", "Client connections accepted."),
		cut:          counter("sessions_cut_total", "Client connections that were closed by the node.", "reason"),
		links:        gauge("links", "Connections to other nodes open now.", "kind"),
		linkFailures: counter("link_failures_total", "Connections to other nodes that were lost or couldn't be made."),
		retries:      counter("read_retries_total", "Reads that were tried again on another node."),
		hedges:       counter("hedged_reads_total", "Reads that another copy was asked for as well, since the chosen one was late, and of them those that it answered first.", "outcome"),
		errors:       counter("errors_total", "Errors made by the node itself.", "kind"),
		bytes:        counter("client_bytes_total", "Bytes exchanged with clients.", "direction"),
		bigValues:    counter("big_values_total", "Requests and replies that are so long that others wait for them."),
		throttled:    counter("commands_throttled_total", "Commands that waited because of the database's rate limit."),
		auth:         counter("auth_failures_total", "Wrong user names or passwords."),
		waits:        counter("ryw_waits_total", "Reads of a key written through this node that the local copy hadn't applied yet.", "outcome"),
		waitSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "respmesh", Name: "ryw_wait_seconds", Help: "How long such reads waited.",
			Buckets: prometheus.ExponentialBuckets(16e-6, 2, 18),
		}, base),
		pending: gauge("ryw_pending_keys", "Keys remembered for read-your-writes."),
	}
	var err error
	for _, c := range []prometheus.Collector{m.commands, m.latency, m.bigValues, m.sessions, m.sessionsAll, m.cut, m.links,
		m.linkFailures, m.retries, m.hedges, m.errors, m.bytes, m.auth, m.throttled, m.waits, m.waitSeconds, m.pending} {
		err = errors.Join(err, reg.Register(c))
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// meters are the metrics of one gateway with the labels resolved, so that the hot path only adds.
type meters struct {
	cells        [classCount][routeCount]atomic.Pointer[cell] // made when the first command takes the route
	commands     *prometheus.CounterVec
	metrics      *Metrics
	latency      *latencies
	bigValues    prometheus.Counter
	sessions     prometheus.Gauge
	sessionsAll  prometheus.Counter
	cutSlow      prometheus.Counter
	cutProtocol  prometheus.Counter
	cutKilled    prometheus.Counter
	cutFull      prometheus.Counter
	cutForeign   prometheus.Counter
	cutIdle      prometheus.Counter
	cutMemory    prometheus.Counter
	overQuota    prometheus.Counter
	throttled    prometheus.Counter
	cutLink      prometheus.Counter
	linksShared  prometheus.Gauge
	linksPinned  prometheus.Gauge
	linkFailures prometheus.Counter
	retries      prometheus.Counter
	hedgesSent   prometheus.Counter
	hedgesWon    prometheus.Counter
	masterdown   prometheus.Counter
	unknown      prometheus.Counter
	bytesIn      prometheus.Counter
	authFailures prometheus.Counter
	bytesOut     prometheus.Counter
	waitLocal    prometheus.Counter
	waitPrimary  prometheus.Counter
	waitStale    prometheus.Counter
	waitSeconds  prometheus.Observer
	pending      prometheus.Gauge

	total atomic.Uint64 // commands, for Status
}

func (m *Metrics) resolve(database, region string) *meters {
	if m == nil {
		m, _ = NewMetrics(prometheus.NewRegistry()) // a fresh registry has no duplicates
	}
	base := prometheus.Labels{"database": database, "region": region}
	v := &meters{
		sessions:     m.sessions.With(base),
		sessionsAll:  m.sessionsAll.With(base),
		linkFailures: m.linkFailures.With(base),
		retries:      m.retries.With(base),
		bigValues:    m.bigValues.With(base),
		throttled:    m.throttled.With(base),
		authFailures: m.auth.With(base),
		waitSeconds:  m.waitSeconds.With(base),
		pending:      m.pending.With(base),
	}
	v.commands = m.commands.MustCurryWith(base)
	v.metrics, v.latency = m, &latencies{database: database, region: region}
	m.latency.add(v.latency)
	cut, links := m.cut.MustCurryWith(base), m.links.MustCurryWith(base)
	v.cutSlow, v.cutProtocol, v.cutKilled = cut.WithLabelValues("slow"), cut.WithLabelValues("protocol"), cut.WithLabelValues("killed")
	v.cutIdle, v.cutMemory = cut.WithLabelValues("idle"), cut.WithLabelValues("memory")
	v.cutForeign = cut.WithLabelValues("foreign")
	v.cutFull, v.cutLink = cut.WithLabelValues("limit"), cut.WithLabelValues("link")
	v.linksShared, v.linksPinned = links.WithLabelValues("shared"), links.WithLabelValues("pinned")
	errs, bytes, waits := m.errors.MustCurryWith(base), m.bytes.MustCurryWith(base), m.waits.MustCurryWith(base)
	v.overQuota = errs.WithLabelValues("daily_limit")
	v.masterdown, v.unknown = errs.WithLabelValues("masterdown"), errs.WithLabelValues("unknownoutcome")
	hedges := m.hedges.MustCurryWith(base)
	v.hedgesSent, v.hedgesWon = hedges.WithLabelValues("sent"), hedges.WithLabelValues("won")
	v.bytesIn, v.bytesOut = bytes.WithLabelValues("in"), bytes.WithLabelValues("out")
	v.waitLocal, v.waitPrimary, v.waitStale = waits.WithLabelValues("local"), waits.WithLabelValues("primary"), waits.WithLabelValues("stale")
	return v
}

// cell is where the commands of one class and route are counted.
type cell struct {
	count prometheus.Counter
}

func (m *meters) cell(c class, r routeKind) *cell {
	if p := m.cells[c][r].Load(); p != nil {
		return p
	}
	p := &cell{m.commands.WithLabelValues(classNames[c], routeNames[r])}
	m.cells[c][r].Store(p)
	return p
}

// tally counts the commands of one batch without touching shared memory.
type tally struct {
	n    [classCount][routeCount]uint32
	any  bool
	cmds []tallied // of what is answered here
	at   int       // the one used last
}

type tallied struct {
	id int
	r  routeKind
	n  int
}

func (t *tally) add(c class, r routeKind, id int) {
	t.n[c][r]++
	t.any = true
	if r != routeStore && r != routeSelf {
		return // its link sees when it is answered
	}
	if t.at < len(t.cmds) && t.cmds[t.at].id == id && t.cmds[t.at].r == r {
		t.cmds[t.at].n++
		return
	}
	for i := range t.cmds {
		if t.cmds[i].id == id && t.cmds[i].r == r {
			t.cmds[i].n++
			t.at = i
			return
		}
	}
	t.at = len(t.cmds)
	t.cmds = append(t.cmds, tallied{id, r, 1})
}

// flush adds the counts, and the latency of what was answered from here.
func (t *tally) flush(m *meters, took time.Duration) {
	if !t.any {
		return
	}
	for c := range t.n {
		for r, n := range t.n[c] {
			if n == 0 {
				continue
			}
			p := m.cell(class(c), routeKind(r))
			p.count.Add(float64(n))
			m.total.Add(uint64(n))
			t.n[c][r] = 0
		}
	}
	for _, c := range t.cmds {
		m.latency.of(c.id, c.r).observe(took, c.n)
	}
	t.any, t.cmds, t.at = false, t.cmds[:0], 0
}
