package embedded

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func infoCommands() []registration {
	return []registration{{"info", infoCommand, lockShared}}
}

// section writes the lines of one part of INFO.
type section struct {
	name  string
	extra bool // only when asked for
	write func(x *call, b *strings.Builder)
}

func infoSections() []section {
	return []section{
		{"Server", false, infoServer},
		{"Clients", false, infoClients},
		{"Memory", false, infoMemory},
		{"Persistence", false, infoPersistence},
		{"Stats", false, infoStats},
		{"Replication", false, infoReplication},
		{"CPU", false, infoCPU},
		{"Modules", false, func(*call, *strings.Builder) {}},
		{"Commandstats", true, infoCommandStats},
		{"Errorstats", false, infoErrorStats},
		{"Latencystats", true, infoLatencyStats},
		{"Cluster", false, func(_ *call, b *strings.Builder) { b.WriteString("cluster_enabled:0\r\n") }},
		{"Keyspace", false, infoKeyspace},
	}
}

func infoCommand(x *call) {
	want, usual, all := map[string]bool{}, len(x.args) == 1, false
	for _, a := range x.args[1:] {
		switch s := strings.ToLower(string(a)); s {
		case "all", "everything":
			all = true
		case "default":
			usual = true
		default:
			want[s] = true
		}
	}
	var b strings.Builder
	for _, s := range infoSections() {
		if !all && !(usual && !s.extra) && !want[strings.ToLower(s.name)] {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		fmt.Fprintf(&b, "# %s\r\n", s.name)
		s.write(x, &b)
	}
	x.verbatim("txt", b.String())
}

func infoServer(x *call, b *strings.Builder) {
	e := x.e
	up := int64(e.opts.Now().Sub(e.started).Seconds())
	fmt.Fprintf(b, "redis_version:%s\r\nredis_mode:standalone\r\nos:%s %s\r\narch_bits:%d\r\ngo_version:%s\r\n"+
		"process_id:%d\r\nrun_id:%s\r\nserver_time_usec:%d\r\nuptime_in_seconds:%d\r\nuptime_in_days:%d\r\n",
		redisVersion, runtime.GOOS, runtime.GOARCH, 32<<(^uint(0)>>63), runtime.Version(),
		os.Getpid(), e.runID, e.opts.Now().UnixMicro(), up, up/86400)
	if e.opts.Version != "" {
		fmt.Fprintf(b, "respmesh_version:%s\r\n", e.opts.Version)
	}
}

func infoClients(x *call, b *strings.Builder) {
	fmt.Fprintf(b, "connected_clients:%d\r\nblocked_clients:%d\r\ntracking_clients:%d\r\npubsub_clients:%d\r\n",
		x.e.stats.conns.Load(), x.e.stats.blocked.Load(), x.e.tracking.sessions, x.e.pubsub.sessions())
}

// human writes bytes as Redis's INFO does.
func human(n int64) string {
	switch f := float64(n); {
	case n < 1<<10:
		return fmt.Sprintf("%dB", n)
	case n < 1<<20:
		return fmt.Sprintf("%.2fK", f/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.2fM", f/(1<<20))
	default:
		return fmt.Sprintf("%.2fG", f/(1<<30))
	}
}

func infoMemory(x *call, b *strings.Builder) {
	used, limit := x.e.memoryLocked(), x.e.limit.max
	peak, scripts := x.e.peakMemory(), int64(x.e.scripts.bytes)
	live, total := processMemory()
	tables := int64(0)
	for _, ks := range x.e.dbs {
		tables += ks.tables()
	}
	fmt.Fprintf(b, "used_memory:%d\r\nused_memory_human:%s\r\nused_memory_rss:%d\r\nused_memory_rss_human:%s\r\n"+
		"used_memory_peak:%d\r\nused_memory_peak_human:%s\r\nused_memory_overhead:%d\r\nused_memory_dataset:%d\r\n"+
		"allocator_allocated:%d\r\nused_memory_scripts_eval:%d\r\nnumber_of_cached_scripts:%d\r\n"+
		"used_memory_functions:%d\r\nnumber_of_libraries:%d\r\nnumber_of_functions:%d\r\n"+
		"maxmemory:%d\r\nmaxmemory_human:%s\r\nmaxmemory_policy:%s\r\nmem_allocator:go\r\n",
		used, human(used), total, human(total), peak, human(peak), tables+scripts, used-tables-scripts,
		live, scripts, len(x.e.scripts.cache), x.e.functions.bytes, len(x.e.functions.libs), len(x.e.functions.byName), limit, human(limit), x.e.limit.policy.shown())
}

func infoStats(x *call, b *strings.Builder) {
	s := &x.e.stats
	t, r := &x.e.tracking, x.e.opts.Replication()
	t.mu.Lock()
	keys, items := len(t.keys), t.items
	t.mu.Unlock()
	fmt.Fprintf(b, "total_connections_received:%d\r\ntotal_commands_processed:%d\r\nsync_full:%d\r\nsync_partial_ok:%d\r\n"+
		"sync_partial_err:%d\r\nexpired_keys:%d\r\nevicted_keys:%d\r\nkeyspace_hits:%d\r\nkeyspace_misses:%d\r\n"+
		"pubsub_channels:%d\r\npubsub_patterns:%d\r\npubsubshard_channels:%d\r\ntracking_total_keys:%d\r\n"+
		"tracking_total_items:%d\r\ntracking_total_prefixes:%d\r\ntotal_error_replies:%d\r\n",
		s.connected.Load(), s.commands.Load(), r.SyncFull, r.SyncPartialOK, r.SyncPartialErr,
		s.expired.Load(), s.evicted.Load(), s.hits.Load(), s.misses.Load(),
		len(x.e.pubsub.subs[subChannel]), len(x.e.pubsub.subs[subPattern]), len(x.e.pubsub.subs[subShard]),
		keys, items, len(t.prefixes), x.e.errors.count())
}

func infoReplication(x *call, b *strings.Builder) {
	r := x.e.opts.Replication()
	up, syncing, last := "down", 0, int64(-1)
	if r.LinkUp {
		up = "up"
		if !r.LastHeard.IsZero() {
			last = int64(x.e.opts.Now().Sub(r.LastHeard) / time.Second)
		}
	}
	if r.Syncing {
		syncing = 1
	}
	switch {
	case x.e.showsReplica():
		fmt.Fprintf(b, "role:slave\r\nmaster_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n"+
			"master_last_io_seconds_ago:%d\r\nmaster_sync_in_progress:%d\r\nslave_repl_offset:%d\r\nslave_read_only:1\r\n",
			r.PrimaryHost, r.PrimaryPort, up, last, syncing, r.Offset)
	case x.e.replica:
		fmt.Fprintf(b, "role:master\r\nrespmesh_copy:replica\r\nrespmesh_primary:%s\r\nrespmesh_link_status:%s\r\n"+
			"respmesh_last_io_seconds_ago:%d\r\nrespmesh_sync_in_progress:%d\r\n", r.PrimaryHost, up, last, syncing)
	case x.e.opts.Forwards:
		b.WriteString("role:master\r\nrespmesh_copy:primary\r\n")
	default:
		b.WriteString("role:master\r\n")
	}
	fmt.Fprintf(b, "connected_slaves:%d\r\n", len(r.Replicas))
	for i, rep := range r.Replicas {
		host, port := splitAddr(rep.Addr)
		fmt.Fprintf(b, "slave%d:ip=%s,port=%s,state=%s,offset=%d,lag=%d\r\n",
			i, host, port, rep.State, rep.Offset, int64(rep.Lag/time.Second))
	}
	second, from := r.Replid2, r.SecondOffset
	if second == "" {
		second, from = strings.Repeat("0", 40), -1
	}
	fmt.Fprintf(b, "master_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:%d\r\nsecond_repl_offset:%d\r\n",
		r.Replid, second, r.Offset, from)
}

func infoCPU(_ *call, b *strings.Builder) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return
	}
	fmt.Fprintf(b, "used_cpu_sys:%d.%06d\r\nused_cpu_user:%d.%06d\r\n",
		u.Stime.Sec, u.Stime.Usec, u.Utime.Sec, u.Utime.Usec)
}

func infoKeyspace(x *call, b *strings.Builder) {
	for i, ks := range x.e.dbs {
		if ks.len() > 0 {
			fmt.Fprintf(b, "db%d:keys=%d,expires=%d,avg_ttl=%d\r\n", i, ks.len(), ks.expires(), ks.averageTTL(x.now))
		}
	}
}

// ttlSample is how many keys the average TTL is taken from.
const ttlSample = 64

// averageTTL estimates the mean time that keys with a TTL have left, from keys spread over the heap.
func (ks *keyspace) averageTTL(now int64) int64 {
	n := ks.expires()
	if n == 0 {
		return 0
	}
	step := max(n/ttlSample, 1)
	var sum, count int64
	for i := 1; i <= n; i += step {
		sum += max(ks.volatile.at(i).at-now, 0)
		count++
	}
	return sum / count
}
