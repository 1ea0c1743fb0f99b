package psync_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/psync"
	"respmesh/store/rdb"
)

const someID = "0123456789abcdef0123456789abcdef01234567"

// script is a primary made by hand: each connection is given to the next step.
type script struct {
	t     *testing.T
	steps chan func(p *peer)
}

func (s *script) dial(ctx context.Context) (net.Conn, error) {
	select {
	case step := <-s.steps:
		ours, theirs := loopback(s.t)
		go func() {
			p := newPeer(s.t, ours)
			step(p)
		}()
		return theirs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// loopback is a pair of connected sockets: unlike net.Pipe they have buffers.
func loopback(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// handshake answers everything before PSYNC, which it returns.
func (p *peer) handshake() string {
	for {
		switch cmd := p.next0(); {
		case strings.HasPrefix(cmd, "PSYNC "):
			return cmd
		case cmd == "PING":
			p.send("+PONG\r\n")
		case strings.HasPrefix(cmd, "REPLCONF capa"):
			p.send("-ERR unknown option\r\n") // must be tolerated
		default:
			p.send("+OK\r\n")
		}
	}
}

// next0 is next, with PING.
func (p *peer) next0() string {
	var c frame.Command
	if err := p.in.ReadCommand(&c); err != nil {
		return "PSYNC " + err.Error()
	}
	return string(bytes.Join(c.Args, []byte(" ")))
}

func snapshotOf(t *testing.T, kv ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rdb.NewWriter(&b)
	_ = w.SelectDB(0, len(kv)/2, 0)
	for i := 0; i < len(kv); i += 2 {
		_ = w.WriteString([]byte(kv[i]), 0, []byte(kv[i+1]))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newScript(t *testing.T, steps ...func(p *peer)) *script {
	s := &script{t: t, steps: make(chan func(p *peer), len(steps))}
	for _, f := range steps {
		s.steps <- f
	}
	return s
}

// Refusals that pass are retried, newlines are skipped, and the EOF framing is
// understood wherever the network cuts it.
func TestReplicaAgainstOddPrimary(t *testing.T) {
	file := snapshotOf(t, "k", "v", "big", strings.Repeat("z", 100_000))
	mark := strings.Repeat("m", 39) + "!"
	refuse := func(text string) func(p *peer) {
		return func(p *peer) {
			p.handshake()
			p.send(text)
			_ = p.conn.Close()
		}
	}
	acks := make(chan string, 8)
	s := newScript(t,
		refuse("-NOMASTERLINK Can't SYNC while not connected with my master\r\n"),
		refuse("-LOADING Redis is loading the dataset in memory\r\n"),
		refuse("+WHAT is this\r\n"),
		refuse("+CONTINUE\r\n"), // to what?
		refuse("+   \r\n"),
		refuse("   \r\n"),
		refuse("+FULLRESYNC "+someID+" 7\r\n\n\n-ERR no memory\r\n"),
		refuse("+FULLRESYNC "+someID+" 7\r\n$-5\r\n"),
		refuse("+FULLRESYNC "+someID+" 7\r\n$EOF:short\r\n"),
		func(p *peer) {
			if cmd := p.handshake(); cmd != "PSYNC ? -1" {
				p.t.Errorf("%q", cmd)
			}
			p.send("\n\n+FULLRESYNC " + someID + " 700\r\n\n\n$EOF:" + mark + "\r\n")
			all := string(file) + mark
			for len(all) > 0 { // half of the mark last
				n := min(len(all), 4099)
				if len(all) > 20 {
					n = min(n, len(all)-20)
				}
				p.send(all[:n])
				all = all[n:]
			}
			acks <- p.next0() // the first ACK starts the stream
			p.command("SELECT", "0")
			p.send("PING\r\n") // inline: counted as it came
			p.command("INCR", "n")
			p.command("REPLCONF", "GETACK", "*")
			ack := p.next0()
			for ack == "REPLCONF ACK 700" { // it repeats itself until the stream has started
				ack = p.next0()
			}
			acks <- ack
		},
		func(p *peer) {
			acks <- p.handshake()
			p.send("+CONTINUE " + strings.Repeat("e", 40) + "\r\n")
			p.command("INCR", "n")
			acks <- p.next0()
			p.next0()
		},
	)
	b := newNode(t, 0)
	r, _ := b.follow(s.dial, func(o *psync.ReplicaOptions) { o.AckDelay = -1; o.AckEvery = time.Hour })
	stream := len(frame.AppendCommandString(nil, "SELECT", "0")) + len("PING\r\n") +
		len(frame.AppendCommandString(nil, "INCR", "n")) + len(frame.AppendCommandString(nil, "REPLCONF", "GETACK", "*"))
	for _, want := range []string{
		"REPLCONF ACK 700",
		"REPLCONF ACK " + strconv.Itoa(700+stream),
	} {
		if got := receive(t, acks); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if b.mem.get(0, "k") != "v" || len(b.mem.get(0, "big")) != 100_000 || b.mem.get(0, "n") != "1" {
		t.Error("data differs")
	}
	r.Kick()
	// The GETACK changed nothing: a primary that has never sent it is as good.
	stream -= len(frame.AppendCommandString(nil, "REPLCONF", "GETACK", "*"))
	if got, want := receive(t, acks), fmt.Sprintf("PSYNC %s %d", someID, 700+stream+1); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	receive(t, acks)
	if err := b.log.Wait(t.Context(), strings.Repeat("e", 40), int64(700+stream+21)); err != nil {
		t.Error(err)
	}
	if id, _ := b.log.Position(); id != strings.Repeat("e", 40) {
		t.Errorf("history %s", id)
	}
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestPassword(t *testing.T) {
	a := newNode(t, 0, func(o *psync.PrimaryOptions) { o.Password = "secret" })
	a.mem.do("SET k v")
	for _, tc := range []struct{ user, pass string }{{"", "secret"}, {"default", "secret"}} {
		b := newNode(t, 0)
		r, _ := b.follow(a.dial, func(o *psync.ReplicaOptions) { o.User, o.Password = tc.user, tc.pass })
		until(t, r, psync.Online)
		caughtUp(t, a, b)
	}
	for _, pass := range []string{"", "wrong"} {
		b := newNode(t, 0)
		r, _ := b.follow(a.dial, func(o *psync.ReplicaOptions) { o.Password = pass })
		timeout := time.After(patience)
		for st := r.State(); st.Err == nil; st = r.State() {
			select {
			case <-r.Changed():
			case <-timeout:
				t.Fatal("no error")
			}
		}
		if st := r.State(); st.Phase != psync.Connecting || strings.Contains(st.Err.Error(), "wrong ") {
			t.Errorf("%+v", st)
		}
	}
}

func TestPrimaryByHand(t *testing.T) {
	a := newNode(t, 0)
	a.mem.do("SET k v")
	dial := func() *peer {
		conn, err := a.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return newPeer(t, conn)
	}
	t.Run("legacy SYNC", func(t *testing.T) {
		p := dial()
		p.send("SYNC\r\n")
		n, err := strconv.Atoi(strings.TrimPrefix(p.line(), "$"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rdb.NewReader(bytes.NewReader(p.read(n))).Next(); err != nil {
			t.Error(err)
		}
		a.mem.do("INCR n")
		if s := p.next(); s != "INCR n" {
			t.Error(s)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		p := dial()
		for _, tc := range []struct{ send, want string }{
			{"PING", "+PONG"},
			{"GET k", "-ERR only replication commands are served on this connection"},
			{"REPLCONF listening-port 70000", "-ERR value is not an integer or out of range"},
			{"REPLCONF capa", "-ERR syntax error"},
			{"REPLCONF some-option 1", "+OK"},
			{"PSYNC x", "-ERR syntax error"},
			{"PSYNC x y", "-ERR value is not an integer or out of range"},
			{"PSYNC x 1 FAILOVER", "-ERR syntax error"},
			{"AUTH a b c", "-ERR wrong number of arguments for 'auth' command"},
			{"AUTH whatever", "+OK"},
			{"QUIT", "+OK"},
		} {
			p.command(strings.Fields(tc.send)...)
			if got := p.line(); got != tc.want {
				t.Errorf("%s: %q", tc.send, got)
			}
		}
		if _, err := p.in.ReadLine(); err != io.EOF {
			t.Errorf("after QUIT: %v", err)
		}
	})
	t.Run("positions", func(t *testing.T) {
		replid, offset := a.log.Position()
		for _, tc := range []struct{ id, next, want string }{
			{replid, strconv.FormatInt(offset+1, 10), "+CONTINUE " + replid},
			{replid, "1", "+CONTINUE " + replid},
			{replid, strconv.FormatInt(offset+2_000_000, 10), "+FULLRESYNC " + replid},
			{replid, "0", "+FULLRESYNC " + replid},
			{replid, "-9223372036854775808", "+FULLRESYNC " + replid},
			{someID, "1", "+FULLRESYNC " + replid},
			{"?", "-1", "+FULLRESYNC " + replid},
			{"", "1", "+FULLRESYNC " + replid},
		} {
			p := dial()
			p.command("REPLCONF", "capa", "psync2")
			p.line()
			p.command("PSYNC", tc.id, tc.next)
			if got := p.line(); !strings.HasPrefix(got, tc.want) {
				t.Errorf("PSYNC %s %s: %q", tc.id, tc.next, got)
			}
			_ = p.conn.Close()
		}
	})
}

// Whatever a primary sends, a replica neither panics nor hangs.
func FuzzReplica(f *testing.F) {
	const hello = "+PONG\r\n+OK\r\n"
	f.Add([]byte(hello + "+FULLRESYNC " + someID + " 1\r\n$EOF:" + someID + "\r\nREDIS0010\xff\x00\x00\x00\x00\x00\x00\x00\x00" + someID + "*1\r\n$4\r\nPING\r\n"))
	f.Add([]byte(hello + "+FULLRESYNC " + someID + " 1\r\n\n\n$18\r\nREDIS0010\xff\x00\x00\x00\x00\x00\x00\x00\x00*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*1\r\n$5\r\nMULTI\r\n"))
	f.Add([]byte(hello + "+CONTINUE\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		log := psync.NewLog(1 << 10)
		ctx, cancel := context.WithCancel(context.Background())
		dials := 0
		r := psync.NewReplica(psync.ReplicaOptions{Log: log, Target: newMemory(log),
			Dial: func(context.Context) (net.Conn, error) {
				if dials++; dials > 1 {
					cancel()
					return nil, context.Canceled
				}
				return &canned{r: bytes.NewReader(p)}, nil
			}})
		_ = r.Run(ctx)
		cancel()
	})
}

// canned is a connection whose other side has said everything already.
type canned struct {
	net.Conn
	r io.Reader
}

func (c *canned) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// While a snapshot comes in, its progress can be seen, and what was there before
// is still served.
func TestProgress(t *testing.T) {
	file := snapshotOf(t, "k", "new", "big", strings.Repeat("z", 1<<20))
	half, rest := make(chan bool), make(chan bool)
	s := newScript(t, func(p *peer) {
		p.handshake()
		p.send(fmt.Sprintf("+FULLRESYNC %s 5\r\n$%d\r\n%s", someID, len(file), file[:len(file)/2]))
		close(half)
		<-rest
		p.send(string(file[len(file)/2:]))
		p.next0()
	})
	b := newNode(t, 0)
	b.mem.data[0] = map[string]string{"k": "old"}
	r, _ := b.follow(s.dial)
	<-half
	deadline := time.Now().Add(patience)
	for st := r.State(); st.Received < int64(len(file)/2); st = r.State() {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", st)
		}
		runtime.Gosched()
	}
	st := r.State()
	if st.Phase != psync.Syncing || st.Total != int64(len(file)) || b.mem.get(0, "k") != "old" {
		t.Errorf("%+v, k = %s", st, b.mem.get(0, "k"))
	}
	close(rest)
	until(t, r, psync.Online)
	if b.mem.get(0, "k") != "new" {
		t.Error("snapshot not loaded")
	}
}
