package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestSlowlog(t *testing.T) {
	h := newHouse(t, "a", "b")
	for _, node := range []string{"a", "b"} {
		_, addr := h.gateway(node, h.mesh(node), func(o *Options) { o.SlowerThan = time.Millisecond })
		c, slow := connect(t, addr), connect(t, addr)
		slow.want("CLIENT SETNAME me", "OK")
		c.want("SLOWLOG LEN", "0")
		open := h.stores["a"].gate(t, "set")
		slow.send("SET k " + strings.Repeat("x", 200))
		<-time.After(50 * time.Millisecond) // beyond the round trip that the mesh tells
		open()
		slow.wants("OK")
		eventually(t, "it is in the log", func() bool { return c.do("SLOWLOG LEN") != "0" })
		got := c.do("SLOWLOG GET 1")
		if !strings.HasPrefix(got, "[[") || !strings.Contains(got, "[SET k xxx") || !strings.Contains(got, "... (72 more bytes)") {
			t.Errorf("via %s: %s", node, got)
		}
		c.want("SLOWLOG RESET", "OK")
		c.want("SLOWLOG GET", "[]")
		c.want("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1")
	}
	var l slowlog
	for i := range 3 * slowKeep {
		l.add(slowEntry{took: time.Duration(i)})
	}
	if all := l.latest(1000); len(all) != slowKeep || all[0].took != 3*slowKeep-1 || all[slowKeep-1].id != 2*slowKeep {
		t.Error(len(all), all[0], all[len(all)-1])
	}
}

func TestHotkeys(t *testing.T) {
	var hot hotkeys
	now := time.Now()
	for i := range 100_000 {
		key := fmt.Sprint("cold:", i)
		if i%10 == 0 {
			key = "hot"
		}
		hot.use([]byte(key), now)
	}
	if len(hot.all) > hotKeep || len(hot.at) != len(hot.all) {
		t.Error(len(hot.all), "keys are kept")
	}
	top := hot.top(1, now)
	if top[0].name != "hot" || top[0].count < 10_000*sampleEvery {
		t.Error(top)
	}
	if n := hot.top(1, now.Add(2*time.Minute))[0].count; n > top[0].count/4 {
		t.Error("after two minutes", n)
	}
	if all := hot.top(9, now.Add(time.Hour)); len(all) != 0 {
		t.Error("after an hour", all)
	}

	h := newHouse(t, "a")
	h.topo.Settings.Users = []User{{Name: "u", PasswordHash: HashPassword("u"), Rules: "~a* +@all"}}
	_, addr := h.gateway("a", h.mesh("a"), nil)
	c := connect(t, addr)
	for range 10 * sampleEvery {
		c.do("GET popular")
	}
	if got := c.do("RESPMESH HOTKEYS 1"); !strings.HasPrefix(got, "[[popular ") {
		t.Error(got)
	}
	c.want("AUTH u u", "OK")
	c.want("RESPMESH HOTKEYS", "-NOPERM this user may not see all keys")
	if got := c.do("RESPMESH NOPE"); !strings.HasPrefix(got, "-ERR expected RESPMESH EXPLAIN") {
		t.Error(got)
	}
}

func TestLatencies(t *testing.T) {
	var hist histogram
	for _, d := range []time.Duration{0, time.Microsecond, 16 * time.Microsecond, 17 * time.Microsecond, 32 * time.Microsecond, 33 * time.Microsecond, time.Hour} {
		hist.observe(d, 1)
	}
	for i, want := range map[int]uint64{0: 3, 1: 2, 2: 1, buckets: 1} {
		if got := hist.counts[i].Load(); got != want {
			t.Errorf("bucket %d has %d, want %d", i, got, want)
		}
	}
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.Metrics = m })
	c := connect(t, addr)
	c.want("SET k v", "OK")
	c.want("GET k", "v")
	c.want("GET k", "v")
	want := map[string]uint64{"set primary": 1, "get local": 2}
	eventually(t, "all are counted", func() bool {
		seen := map[string]uint64{}
		for _, f := range must(reg.Gather()) {
			for _, x := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range x.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				if f.GetName() == "respmesh_command_seconds" {
					seen[labels["command"]+" "+labels["route"]] = x.GetHistogram().GetSampleCount()
				}
			}
		}
		return seen["set primary"] == want["set primary"] && seen["get local"] == want["get local"]
	})
}
