package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/mesh"
)

// fakeMesh has nodes that answer after a while, or not at all.
type fakeMesh struct {
	t  *testing.T
	mu sync.Mutex

	delay map[string]time.Duration // by key; none: dead
	owner map[netip.Prefix]string  // key of the node that has a region
	lost  []string
	busy  map[string]int
}

func (f *fakeMesh) setPeers(peers []mesh.Peer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = map[netip.Prefix]string{}
	for _, p := range peers {
		for _, a := range p.AllowedIPs {
			if f.owner[a] != "" {
				f.t.Errorf("%s is given twice", a)
			}
			f.owner[a] = p.PublicKey.String()
		}
	}
	return nil
}

func (f *fakeMesh) at(to netip.Addr) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for prefix, key := range f.owner {
		if prefix.Contains(to) {
			d, ok := f.delay[key]
			return d, ok
		}
	}
	return 0, false
}

func (f *fakeMesh) dial(ctx context.Context, _ netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if _, ok := f.at(to.Addr()); !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		buf := make([]byte, 64)
		for {
			if _, err := there.Read(buf); err != nil {
				return
			}
			delay, ok := f.at(to.Addr())
			if !ok {
				continue // says nothing
			}
			time.Sleep(delay)
			if _, err := io.WriteString(there, "+PONG\r\n"); err != nil {
				return
			}
		}
	}()
	return here, nil
}

func (f *fakeMesh) set(key string, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if delay == 0 {
		delete(f.delay, key)
	} else {
		f.delay[key] = delay
	}
}

// testMesh is mad with one node, ams with two.
func testMesh(t *testing.T) (*membership, map[string]string) {
	t.Helper()
	m := &membership{
		Org: "shop", Name: "app", Address: netip.MustParseAddr("fd00:1:2:115::1"), Prefix: netip.MustParsePrefix("fd00:1:2::/48"),
		Databases: map[string]netip.Addr{"cart": netip.MustParseAddr("fd00:1:2:0:1::7")},
	}
	keys := map[string]string{}
	for _, name := range []string{"ams-1", "ams-2", "mad-1"} {
		k, err := mesh.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k.Public().String()
		m.Nodes = append(m.Nodes, member{Name: name, Region: name[:3], Key: keys[name], Endpoint: "192.0.2.1:51820"})
	}
	if a, ok := m.regional("cart", "mad"); !ok || a.String() != "fd00:1:2:0:2:15:0:7" {
		t.Fatalf("cart in mad is %s", a)
	}
	return m, keys
}

// TestRouter kills nodes one after the other: each time another is in use within three seconds, the nearest that is left; and
// it comes back, later.
func TestRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, keys := testMesh(t)
		f := &fakeMesh{t: t, delay: map[string]time.Duration{}, busy: map[string]int{}}
		f.delay[keys["ams-1"]], f.delay[keys["ams-2"]], f.delay[keys["mad-1"]] = 5*time.Millisecond, 6*time.Millisecond, 30*time.Millisecond
		r := newRouter(t.Context(), routerOptions{
			Self: m.Address, Database: "cart", Dial: f.dial, SetPeers: f.setPeers, Settle: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
			Lost: func(node string) { f.lost = append(f.lost, node) }, Busy: func(node string) int { return f.busy[node] },
		})
		defer func() {
			r.close()
			time.Sleep(time.Second) // the nodes that still answer
		}()
		if err := r.set(m); err != nil {
			t.Fatal(err)
		}
		uses := func(want string, within time.Duration) {
			t.Helper()
			began := time.Now()
			for time.Since(began) < within {
				if p, _ := r.current(); p != nil && p.name == want {
					return
				}
				time.Sleep(10 * time.Millisecond) // of the bubble's clock
			}
			p, _ := r.current()
			t.Fatalf("after %v %+v is in use, want %s", within, p, want)
		}
		uses("ams-1", time.Second)
		time.Sleep(500 * time.Millisecond)
		f.set(keys["ams-1"], 0)
		uses("ams-2", 3*time.Second) // never mad-1 in between
		r.mu.Lock()
		moves := r.moves
		r.mu.Unlock()
		if moves != 2 {
			t.Errorf("%d moves, want 2", moves)
		}
		f.set(keys["ams-2"], 0)
		uses("mad-1", 3*time.Second)
		f.set(keys["ams-1"], 5*time.Millisecond)
		time.Sleep(9 * time.Second)
		if p, _ := r.current(); p == nil || p.name != "mad-1" {
			t.Errorf("%+v is in use: it came back too early", p)
		}
		uses("ams-1", 20*time.Second)
		f.set(keys["ams-1"], 0)
		f.set(keys["mad-1"], 0)
		synctest.Wait()
		time.Sleep(4 * time.Second)
		if p, _ := r.current(); p != nil {
			t.Errorf("%+v is in use: all are dead", p)
		}
		f.set(keys["ams-2"], 5*time.Millisecond)
		uses("ams-2", 5*time.Second)
		r.mu.Lock() // lost is called with it
		lost := slices.Clone(f.lost)
		r.mu.Unlock()
		if len(lost) < 4 || lost[0] != "ams-1" || lost[1] != "ams-2" {
			t.Errorf("lost: %v", lost)
		}
	})
}

// TestRouterDrain leaves a node that drains for another of the region when nothing is on it, and for another region at once.
func TestRouterDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, keys := testMesh(t)
		f := &fakeMesh{t: t, delay: map[string]time.Duration{}, busy: map[string]int{}}
		for _, key := range keys {
			f.delay[key] = 5 * time.Millisecond
		}
		r := newRouter(t.Context(), routerOptions{
			Self: m.Address, Database: "cart", Dial: f.dial, SetPeers: f.setPeers, Settle: time.Second, Prefer: "ams", Log: slog.New(slog.DiscardHandler),
			Lost: func(node string) { f.lost = append(f.lost, node) }, Busy: func(node string) int { return f.busy[node] },
		})
		defer func() {
			r.close()
			time.Sleep(time.Second) // the nodes that still answer
		}()
		if err := r.set(m); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if p, _ := r.current(); p == nil || p.name != "ams-1" {
			t.Fatalf("%+v", p)
		}
		drained := *m
		drained.Databases = maps.Clone(m.Databases)
		drained.Nodes = slices.Clone(m.Nodes)
		drained.Nodes[0].Draining = true
		r.mu.Lock()
		f.busy["ams-1"] = 1
		r.mu.Unlock()
		if err := r.set(&drained); err != nil {
			t.Fatal(err)
		}
		if p, _ := r.current(); p == nil || p.name != "mad-1" {
			t.Errorf("%+v is in use while ams-1 drains with a session on it", p)
		}
		if len(f.lost) > 0 {
			t.Errorf("sessions were ended on %v", f.lost)
		}
		r.mu.Lock()
		f.busy["ams-1"] = 0
		r.mu.Unlock()
		if err := r.set(&drained); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if p, _ := r.current(); p == nil || p.name != "ams-2" {
			t.Errorf("%+v is in use, want ams-2", p)
		}
		gone := drained
		gone.Nodes = drained.Nodes[:0:0]
		if err := r.set(&gone); err != nil {
			t.Fatal(err)
		}
		if p, _ := r.current(); p != nil {
			t.Errorf("%+v is in use, but no node is left", p)
		}
	})
}

func TestKeeper(t *testing.T) {
	dir := t.TempDir() + "/data"
	k, err := openKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openKeeper(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if m, err := k.load(); m != nil || err != nil {
		t.Errorf("%v, %v", m, err)
	}
	m, _ := testMesh(t)
	if err := k.save(m); err != nil {
		t.Fatal(err)
	}
	back, err := k.load()
	if err != nil || back.Address != m.Address || len(back.Nodes) != 3 || back.Databases["cart"] != m.Databases["cart"] {
		t.Errorf("%+v, %v", back, err)
	}
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
}
