package proxy

import (
	"testing"
	"time"
)

func TestReadYourWrites(t *testing.T) {
	h := newHouse(t, "a", "b")
	g, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.WaitBoundMin, o.WaitBoundMax = 20*time.Millisecond, 20*time.Millisecond })
	writer, reader, other := connect(t, addr), connect(t, addr), connect(t, addr)
	a, b := h.stores["a"], h.stores["b"]
	writer.want("SET k 1", "OK")
	reader.want("GET k", "1")
	if a.count("get") != 0 {
		t.Fatal("a replica that is in sync wasn't used")
	}

	b.hold()
	writer.want("SET k 2", "OK")
	reader.want("GET k", "2") // not in time: the primary
	if a.count("get") != 1 {
		t.Error("the primary wasn't asked")
	}
	n := b.count("get")
	reader.want("GET unrelated", "nil")
	if b.count("get") != n+1 {
		t.Error("a read of another key left the node")
	}
	other.want("READONLY", "OK")
	other.want("GET k", "1")
	other.want("READWRITE", "OK")
	other.want("GET k", "2")
	writer.want("SELECT 1", "OK")
	writer.want("GET k", "nil") // the same name in another database is another key
	reader.want("DBSIZE", "1")
	if a.count("dbsize") != 1 {
		t.Error("a command about all keys didn't wait for the highest offset")
	}
	writer.want("FLUSHALL", "OK")
	reader.want("GET unrelated2", "nil")
	if a.count("get") < 3 {
		t.Error("after FLUSHALL any key waits")
	}
	b.release()
	n = a.count("get")
	reader.want("GET k", "nil")
	if a.count("get") != n {
		t.Error("the replica has caught up and isn't used")
	}
	eventually(t, "nothing pending", func() bool { return g.Status().Pending == 0 })
}

func TestReadWaitsForReplica(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.WaitBoundMin, o.WaitBoundMax = time.Minute, time.Minute })
	writer, reader := connect(t, addr), connect(t, addr)
	h.stores["b"].hold()
	writer.want("SET k 1", "OK")
	reader.send("GET k")
	h.stores["b"].release()
	reader.wants("1")
	if h.stores["a"].count("get") != 0 {
		t.Error("the primary was asked")
	}
}

func TestOtherHistoryReadsPrimary(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), nil)
	c := connect(t, addr)
	c.want("SET k 1", "OK")
	h.stores["a"].mu.Lock()
	h.stores["a"].replid = "two"
	h.stores["a"].mu.Unlock()
	h.stores["b"].hold()
	c.want("SET k 2", "OK")
	c.want("GET k", "2")
}

func TestTransactionIsSeen(t *testing.T) {
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.WaitBoundMin, o.WaitBoundMax = 10*time.Millisecond, 10*time.Millisecond })
	c, r := connect(t, addr), connect(t, addr)
	h.stores["b"].hold()
	c.want("MULTI", "OK")
	c.want("SET k 1", "QUEUED")
	c.want("EXEC", "[OK]")
	n := h.stores["b"].count("get")
	r.want("GET other", "nil")
	if h.stores["b"].count("get") != n+1 {
		t.Error("another key waited")
	}
	r.want("GET k", "1")
}

// A node without a copy reads replicas only if they are as far as its own writes and earlier reads.
func TestRemoteReplicaIsCurrent(t *testing.T) {
	h := newHouse(t, "a", "c", "d", "b-") // d is nearer than c, c than a
	m := h.mesh("b")
	g, addr := h.gateway("b", m, nil)
	eventually(t, "d and c usable", func() bool {
		n := 0
		for _, s := range g.Status().Nodes {
			if s.Usable {
				n++
			}
		}
		return g.Status().ReadsFrom == "d" && n == 3
	})
	w := connect(t, addr)
	w.want("SET k 1", "OK")
	eventually(t, "d known to be current", func() bool { w.want("GET k", "1"); return h.stores["d"].count("get") > 0 })
	h.stores["d"].hold()
	h.stores["c"].hold()
	w.want("SET k 2", "OK")
	for range 20 {
		w.want("GET k", "2")
	}
	h.stores["d"].release()
	eventually(t, "d serves again", func() bool {
		n := h.stores["d"].count("get")
		w.want("GET k", "2")
		return h.stores["d"].count("get") > n
	})
	// d has shown offset 20; c is at 10 and mustn't take over.
	n := h.stores["c"].count("get")
	m.set("d", -1)
	for range 20 {
		w.want("GET k", "2")
	}
	if h.stores["c"].count("get") != n {
		t.Error("reads went back in time")
	}
}

func TestTableIsBounded(t *testing.T) {
	table := newRYW()
	id := "x"
	table.record(&id, 1, 0, false, nil)
	for i := range int64(rywShards * rywPerShard * 2) {
		table.record(&id, i+2, 0, false, []uint64{uint64(i) * 0x9e3779b97f4a7c15})
	}
	if n := table.count.Load(); n > rywShards*rywPerShard {
		t.Errorf("%d entries", n)
	}
	if table.need([]uint64{12345}) == 0 {
		t.Error("keys that found no room aren't covered by the floor")
	}
	table.sweep(id, 1<<40)
	if n := table.count.Load(); n != 0 || !table.idle(id, 1<<40) {
		t.Errorf("%d entries after everything was applied", n)
	}
}

func BenchmarkRYWLookup(b *testing.B) {
	t := newRYW()
	id := "8371445ee47a0d3ef7f0a9b8c7d6e5f4a3b2c1d0"
	t.record(&id, 1, 0, false, nil)
	for i := range uint64(1000) {
		t.record(&id, int64(i)+100, 0, false, []uint64{t.hash(0, []byte{byte(i), byte(i >> 8)})})
	}
	key := []byte("some:key:12345")
	b.Run("idle", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t.idle(id, 5000)
		}
	})
	b.Run("pending", func(b *testing.B) {
		b.ReportAllocs()
		keys := make([]uint64, 1)
		for b.Loop() {
			keys[0] = t.hash(0, key)
			t.need(keys)
		}
	})
}
