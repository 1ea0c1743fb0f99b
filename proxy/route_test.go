package proxy

import (
	"testing"
	"time"

	"respmesh/resp/command"
)

func TestRoute(t *testing.T) {
	remoteNear := []candidate{{node: "c", rtt: time.Millisecond}}
	views := map[string]*view{
		"primary":    {self: "b", primary: "b", hasStore: true, localPrimary: true, localUsable: true, localAny: true, primaryReachable: true},
		"replica":    {self: "b", primary: "a", hasStore: true, localUsable: true, localAny: true, primaryReachable: true},
		"cut":        {self: "b", primary: "a", hasStore: true, localUsable: true, localAny: true},
		"stale":      {self: "b", primary: "a", hasStore: true, localAny: true, primaryReachable: true},
		"stale near": {self: "b", primary: "a", hasStore: true, localAny: true, primaryReachable: true, reads: remoteNear},
		"near":       {self: "b", primary: "a", primaryReachable: true, reads: remoteNear},
		"bare":       {self: "b", primary: "a", primaryReachable: true},
		"lost":       {self: "b", primary: "a"},
	}
	plain := sessionView{}
	for _, tt := range []struct {
		view, command string
		s             sessionView
		want          string
	}{
		{"primary", "GET k", plain, "local b"},
		{"primary", "SET k v", plain, "local b"},
		{"primary", "MULTI", plain, "local b"},
		{"primary", "BLPOP k 0", plain, "local b"},
		{"primary", "PUBLISH c m", plain, "local b"},
		{"primary", "GET k", sessionView{mode: readPrimary}, "local b"},
		{"replica", "GET k", plain, "local b"},
		{"replica", "SCAN 0", plain, "local b"},
		{"replica", "INFO", plain, "local b"},
		{"replica", "SORT_RO k", plain, "local b"},
		{"replica", "SORT k", plain, "primary a"},
		{"replica", "PFCOUNT k", plain, "primary a"},
		{"replica", "TOUCH k", plain, "primary a"},
		{"replica", "GETEX k", plain, "primary a"},
		{"replica", "BITFIELD k", plain, "primary a"},
		{"replica", "EVAL x 0", plain, "primary a"},
		{"replica", "EVAL_RO x 0", plain, "local b"},
		{"replica", "PUBLISH c m", plain, "primary a"},
		{"replica", "NOSUCH x", plain, "primary a"},
		{"replica", "SUBSCRIBE c", plain, "local b"},
		{"replica", "PUBSUB CHANNELS", plain, "local b"},
		{"replica", "MONITOR", plain, "self b"},
		{"replica", "MULTI", plain, "pinned a"},
		{"replica", "WATCH k", plain, "pinned a"},
		{"replica", "BLPOP k 0", plain, "pinned a"},
		{"replica", "XREAD BLOCK 0 STREAMS k 0", plain, "local b"},
		{"replica", "XREADGROUP GROUP g c BLOCK 0 STREAMS k 0", plain, "pinned a"},
		{"replica", "XREAD STREAMS k 0", plain, "local b"},
		{"replica", "WAIT 1 0", plain, "pinned a"},
		{"replica", "GET k", sessionView{mode: readPrimary}, "primary a"},
		{"replica", "GET k", sessionView{unanswered: true}, "primary a"},
		{"replica", "GET k", sessionView{pinned: true}, "pinned a"},
		{"replica", "PING", sessionView{pinned: true}, "self b"},
		{"replica", "PING", plain, "self b"},
		{"replica", "CONFIG SET a b", plain, "none "},
		{"replica", "REPLICAOF a 1", plain, "none "},
		{"replica", "CONFIG GET a", plain, "primary a"},
		{"cut", "GET k", plain, "local b"},
		{"cut", "GET k", sessionView{unanswered: true}, "local b"},
		{"cut", "SET k v", plain, "none a"},
		{"cut", "BLPOP k 0", plain, "none a"},
		{"cut", "GET k", sessionView{mode: readPrimary}, "none a"},
		{"stale", "GET k", plain, "primary a"},
		{"stale", "GET k", sessionView{mode: readAny}, "local b"},
		{"stale", "XREAD BLOCK 0 STREAMS k 0", plain, "pinned a"},
		{"stale near", "GET k", plain, "replica c"},
		{"near", "GET k", plain, "replica c"},
		{"near", "GET k", sessionView{mode: readPrimary}, "primary a"},
		{"near", "GET k", sessionView{unanswered: true}, "primary a"},
		{"near", "SUBSCRIBE c", plain, "pinned c"},
		{"bare", "GET k", plain, "primary a"},
		{"bare", "SUBSCRIBE c", plain, "pinned a"},
		{"lost", "GET k", plain, "none a"},
		{"lost", "PING", plain, "self b"},
	} {
		req := request(words(tt.command)...)
		e := newTable().of(req.Spec)
		tr := e.traits
		if tr&traitBlockOption != 0 && command.HasBlock(req.Args) {
			tr |= traitBlocking
		}
		views[tt.view].whyPrimary = "no replica is near"
		d := route(e.class, tr, e.self != nil, tt.s, views[tt.view])
		if got := routeNames[d.kind] + " " + d.node; got != tt.want {
			t.Errorf("%s: %s %+v: %s, want %s (%s)", tt.view, tt.command, tt.s, got, tt.want, d.reason)
		}
		if d.reason == "" {
			t.Errorf("%s: %s: no reason", tt.view, tt.command)
		}
	}
}

// Every entry of the command table has a route in every situation, and no write goes to a replica.
func TestEveryCommandHasARoute(t *testing.T) {
	table := newTable()
	v := &view{self: "b", primary: "a", hasStore: true, localUsable: true, primaryReachable: true}
	for s := range command.All() {
		e := table.of(s)
		d := route(e.class, e.traits, e.self != nil, sessionView{}, v)
		if s.Is(command.FlagWrite) && d.kind != routePrimary && d.kind != routePinned && d.kind != routeNone {
			t.Errorf("%s: a write goes to %s", s.Name, routeNames[d.kind])
		}
		if s.Class == command.Local && e.self == nil {
			t.Errorf("%s: nobody answers it", s.Name)
		}
	}
}

func TestView(t *testing.T) {
	now := time.Now()
	topo := &Topology{Revision: 7, Primary: "a", Members: []Member{
		{Node: "a", Region: "ra"}, {Node: "b", Region: "rb", Replica: true}, {Node: "c", Region: "rc", Replica: true}, {Node: "d", Region: "rd", Replica: true}}}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	remotes := map[string]*remote{"b": {}, "c": {}, "d": {}, "a": {}}
	for _, n := range []string{"c", "d"} {
		remotes[n].usable.Store(true)
		remotes[n].heard.Store(now.UnixMilli())
	}
	for _, tt := range []struct {
		name     string
		rtt      map[string]time.Duration
		change   func(*viewInput)
		previous string
		local    bool
		reads    string
	}{
		{"nearest first", map[string]time.Duration{"a": ms(50), "c": ms(20), "d": ms(10)}, nil, "", false, "dc"},
		{"further than the primary", map[string]time.Duration{"a": ms(15), "c": ms(20), "d": ms(10)}, nil, "", false, "d"},
		{"beyond near", map[string]time.Duration{"a": ms(50), "c": ms(20), "d": ms(10)}, func(in *viewInput) { in.topology.Settings.Near = ms(15) }, "", false, "d"},
		{"unreachable", map[string]time.Duration{"a": ms(50), "c": ms(20)}, nil, "", false, "c"},
		{"primary unreachable", map[string]time.Duration{"c": ms(200)}, nil, "", false, "c"},
		{"within the band the old one stays", map[string]time.Duration{"a": ms(50), "c": ms(11), "d": ms(10)}, nil, "c", false, "cd"},
		{"beyond the band it doesn't", map[string]time.Duration{"a": ms(50), "c": ms(13), "d": ms(10)}, nil, "c", false, "dc"},
		{"about as far as the primary: none comes", map[string]time.Duration{"a": ms(20), "c": ms(20), "d": ms(20) - 100*time.Microsecond}, nil, "", false, ""},
		{"about as far as the primary: the old one stays", map[string]time.Duration{"a": ms(20), "c": ms(20) + 100*time.Microsecond}, nil, "c", false, "c"},
		{"too old", map[string]time.Duration{"a": ms(50), "c": ms(20), "d": ms(10)}, func(in *viewInput) {
			in.topology.Settings.MaxLag = time.Second
			in.now = now.Add(2 * time.Second)
		}, "", false, ""},
		{"local usable", map[string]time.Duration{"a": ms(50)}, func(in *viewInput) {
			in.store, in.state = &ownStore{}, StoreState{Usable: true, LastHeard: now}
		}, "", true, ""},
		{"local too old", map[string]time.Duration{"a": ms(50)}, func(in *viewInput) {
			in.store, in.state, in.topology.Settings.MaxLag = &ownStore{}, StoreState{Usable: true, LastHeard: now.Add(-time.Minute)}, time.Second
		}, "", false, ""},
	} {
		topo := *topo
		in := viewInput{topology: &topo, self: "b", now: now, remotes: remotes,
			rtt: func(n string) (time.Duration, bool) { d, ok := tt.rtt[n]; return d, ok }}
		if tt.change != nil {
			tt.change(&in)
		}
		if tt.previous != "" {
			in.previous = &view{reads: []candidate{{node: tt.previous}}}
		}
		v := buildView(in)
		got := ""
		for _, c := range v.reads {
			got += c.node
		}
		if got != tt.reads || v.localUsable != tt.local {
			t.Errorf("%s: reads %q local %v", tt.name, got, v.localUsable)
		}
	}
}

func words(s string) (w []string) {
	start := -1
	for i := range len(s) + 1 {
		switch {
		case i < len(s) && s[i] != ' ':
			if start < 0 {
				start = i
			}
		case start >= 0:
			w = append(w, s[start:i])
			start = -1
		}
	}
	return w
}

func BenchmarkRoute(b *testing.B) {
	table := newTable()
	v := &view{self: "b", primary: "a", hasStore: true, localUsable: true, primaryReachable: true}
	args := request("GET", "k").Args
	b.ReportAllocs()
	for b.Loop() {
		s := command.Lookup(args)
		e := table.of(s)
		route(e.class, e.traits, e.self != nil, sessionView{}, v)
	}
}
