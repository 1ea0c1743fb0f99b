package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"respmesh/resp/frame"
)

func TestLinkProtocol(t *testing.T) {
	st := newTiny(true)
	addr := serveLinks(t, st)
	raw := func(t *testing.T, send string, want string) {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, send)
		got := make([]byte, len(want))
		n, _ := io.ReadFull(conn, got)
		if string(got[:n]) != want {
			t.Errorf("%q: got %q, want %q", send, got[:n], want)
		}
	}
	raw(t, "PING\r\n", "-ERR expected RESPMESH LINK, REPLICATE or STATUS\r\n")
	raw(t, "RESPMESH LINK o/x 2 0 shared\r\nSET k v\r\n", "-ERR unknown database 'o/x'\r\n")
	raw(t, "RESPMESH LINK o/d 4 0 shared\r\n", "-ERR malformed RESPMESH LINK\r\n")
	raw(t, "RESPMESH LINK o/d 2 0 shared\r\nGET k\r\nSET k v\r\nGET k\r\n",
		"+OK primary one 0\r\n|1\r\n+offset\r\n:10\r\n$-1\r\n+OK\r\n$1\r\nv\r\n")
	raw(t, "RESPMESH STATUS o/d\r\nRESPMESH LINK o/d 3 1 shared\r\nGET k\r\nRESPMESH STATUS o/d\r\n",
		"*5\r\n$7\r\nprimary\r\n:1\r\n$3\r\none\r\n:10\r\n:0\r\n+OK primary one 10\r\n_\r\n*5\r\n$7\r\nprimary\r\n:1\r\n$3\r\none\r\n:10\r\n:0\r\n")
	st.mu.Lock()
	st.replid = "two"
	st.mu.Unlock()
	raw(t, "RESPMESH LINK o/d 2 0 pinned\r\nMULTI\r\nSET k w\r\nEXEC\r\n",
		"+OK primary two 10\r\n|1\r\n+offset\r\n:20\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	if st.count("set") != 2 {
		t.Error("a refused link executed a command")
	}
	st.setState(func(s *StoreState) { *s = StoreState{Reason: "syncing"} })
	raw(t, "RESPMESH LINK o/d 2 0 shared\r\nGET k\r\n", "+OK replica two 20\r\n-MASTERDOWN the replica on this node isn't usable: syncing\r\n")
}

// A pinned link whose client leaves while it waits takes nothing from the list.
func TestPinnedLinkLeaves(t *testing.T) {
	st := newTiny(true)
	addr := serveLinks(t, st)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "RESPMESH LINK o/d 2 0 pinned\r\nBLPOP l 0\r\n")
	eventually(t, "blocked", func() bool { return st.count("blpop") == 1 })
	conn.Close()
	sc := st.NewConn(nil)
	eventually(t, "element kept", func() bool {
		quiet(context.Background(), sc, "RPUSH", "l", "v")
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.lists["0/l"]) > 0
	})
}

// Nothing is taken from a list for a client behind a node that can't be reached, although its connection stands.
func TestLostNodeLeaves(t *testing.T) {
	st := newTiny(true)
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	ls := NewLinkServer(LinkOptions{Lookup: func(string, string) (Store, bool) { return st, true }})
	go func() { defer close(done); ls.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	c := connect(t, ln.Addr().String())
	io.WriteString(c.conn, "RESPMESH LINK o/d 2 0 pinned\r\nBLPOP l 0\r\n")
	c.wants("OK primary one 0")
	eventually(t, "blocked", func() bool { return st.count("blpop") == 1 })
	ls.Lost(netip.MustParseAddr("127.0.0.2")) // another
	ls.Lost(netip.MustParseAddr("127.0.0.1"))
	c.closed()
	eventually(t, "nobody waits", func() bool { ls.mu.Lock(); defer ls.mu.Unlock(); return len(ls.waiting) == 0 })
	quiet(context.Background(), st.NewConn(nil), "RPUSH", "l", "v")
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.lists["0/l"]) != 1 {
		t.Error("the element is gone")
	}
}

func TestReplicateHandsOver(t *testing.T) {
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	ls := NewLinkServer(LinkOptions{
		Lookup: func(string, string) (Store, bool) { return newTiny(true), true },
		Replicate: func(_ context.Context, org, db string, conn net.Conn, r *frame.Reader) error {
			var c frame.Command
			if err := r.ReadCommand(&c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(conn, "+%s %s %s\r\n", org, db, c.Args[0])
			return err
		},
	})
	go func() { defer close(done); ls.Serve(ctx, ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "RESPMESH REPLICATE o/d\r\nPSYNC ? -1\r\n")
	r := bufio.NewReader(conn)
	for _, want := range []string{"+OK\r\n", "+o d PSYNC\r\n"} {
		if line, _ := r.ReadString('\n'); line != want {
			t.Errorf("%q, want %q", line, want)
		}
	}
	cancel()
	<-done
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewMetrics(reg); err == nil {
		t.Error("registered twice")
	}
	h := newHouse(t, "a", "b")
	_, addr := h.gateway("b", h.mesh("b"), func(o *Options) { o.Metrics = m })
	c := connect(t, addr)
	c.want("SET k v", "OK")
	c.want("GET k", "v")
	c.want("PING", "PONG")
	want := map[string]bool{"write primary": true, "read local": true, "local self": true}
	eventually(t, "counted", func() bool {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, x := range f.Metric {
				if f.GetName() == "respmesh_commands_total" && x.Counter.GetValue() == 1 {
					l := map[string]string{}
					for _, p := range x.Label {
						l[p.GetName()] = p.GetValue()
					}
					if l["region"] == "rb" && l["database"] == "o/d" {
						delete(want, l["class"]+" "+l["route"])
					}
				}
			}
		}
		return len(want) == 0
	})
	problems, err := promlint.NewWithMetricFamilies(must(reg.Gather())).Lint()
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzSession(f *testing.F) {
	f.Add("*1\r\n$4\r\nPING\r\n")
	f.Add("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
	f.Add("MULTI\r\nSET k v\r\nEXEC\r\nSUBSCRIBE a\r\nUNSUBSCRIBE\r\nHELLO 3\r\nRESET\r\n")
	f.Add("WATCH k\r\nMULTI\r\nSELECT 3\r\nEXEC\r\nCLIENT REPLY OFF\r\nGET k\r\nCLIENT REPLY ON\r\n")
	f.Add("CLIENT KILL ID 1\r\nCLIENT LIST\r\nCOMMAND COUNT\r\nEVAL x 1\r\nOBJECT\r\nXREAD BLOCK\r\nQUIT\r\n")
	f.Add("*1048577\r\n")
	f.Add("*1\r\n$999999999999\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		if strings.Contains(strings.ToLower(in), "bl") || strings.Contains(strings.ToLower(in), "bz") || strings.Contains(strings.ToLower(in), "big") {
			return // commands that wait
		}
		h := newHouse(t, "a", "b")
		_, addr := h.gateway("b", h.mesh("b"), nil)
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, in)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		r := frame.NewReader(conn)
		var p frame.Reply
		for {
			if err := r.ReadReply(&p); err != nil {
				if isTimeout(err) {
					t.Fatal("hangs")
				}
				if _, bad := err.(*frame.ProtocolError); bad {
					t.Fatalf("not RESP: %v", err)
				}
				return
			}
		}
	})
}

// BenchmarkLocalGet is a GET served by the local store through a session over loopback.
func BenchmarkLocalGet(b *testing.B) {
	for _, depth := range []int{1, 16, 100} {
		b.Run(fmt.Sprintf("P=%d", depth), func(b *testing.B) {
			g, err := New(Options{Database: "d", Node: "a", Store: nullStore{}, Mesh: newFakeMesh(),
				Source: fakeSource{&Topology{Primary: "a", Members: []Member{{Node: "a"}}}}})
			if err != nil {
				b.Fatal(err)
			}
			conn, err := net.Dial("tcp", serve(b, g))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			cmd := []byte(strings.Repeat("*2\r\n$3\r\nGET\r\n$8\r\nsome:key\r\n", depth))
			reply := make([]byte, depth*len("$5\r\nvalue\r\n"))
			b.ReportAllocs()
			for b.Loop() {
				conn.Write(cmd)
				if _, err := io.ReadFull(conn, reply); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*depth)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// BenchmarkForwardedGet goes over a shared link to another node's link server and back.
func BenchmarkForwardedGet(b *testing.B) {
	for _, depth := range []int{1, 16, 100} {
		b.Run(fmt.Sprintf("P=%d", depth), func(b *testing.B) {
			ln := listen(b)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			ls := NewLinkServer(LinkOptions{Lookup: func(string, string) (Store, bool) { return nullStore{}, true }})
			go func() { defer close(done); ls.Serve(ctx, ln) }()
			b.Cleanup(func() { cancel(); <-done })
			m := newFakeMesh()
			m.rtt["a"] = time.Millisecond
			m.dial["a"] = func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
			}
			g, err := New(Options{Database: "d", Node: "b", Mesh: m,
				Source: fakeSource{&Topology{Primary: "a", Members: []Member{{Node: "a"}, {Node: "b"}}}}})
			if err != nil {
				b.Fatal(err)
			}
			conn, err := net.Dial("tcp", serve(b, g))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			cmd := []byte(strings.Repeat("*2\r\n$3\r\nGET\r\n$8\r\nsome:key\r\n", depth))
			reply := make([]byte, depth*len("$5\r\nvalue\r\n"))
			b.ReportAllocs()
			for b.Loop() {
				conn.Write(cmd)
				if _, err := io.ReadFull(conn, reply); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*depth)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}
