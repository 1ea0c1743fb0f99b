//go:build linux

package poll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with what it gets. A line that begins with w is answered once release is closed, and one that begins with s too, but
// without telling that it waits.
type echo struct {
	conn    *Conn
	buf     [64]byte
	calls   atomic.Int32
	inside  atomic.Int32
	release chan struct{}
	ended   chan error
}

func (e *echo) Ready() bool {
	if e.inside.Add(1) != 1 {
		panic("called twice at once")
	}
	defer e.inside.Add(-1)
	e.calls.Add(1)
	n, err := e.conn.Read(e.buf[:])
	switch {
	case errors.Is(err, ErrWait):
		return true
	case err != nil:
		e.ended <- err
		return false
	}
	if e.buf[0] == 'w' {
		e.conn.Yield()
	}
	if e.buf[0] == 'w' || e.buf[0] == 's' {
		<-e.release
	}
	e.conn.Write(e.buf[:n])
	return true
}

// pair is a served connection and its client.
func pair(t *testing.T, ls *Loops) (*echo, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	client.SetDeadline(time.Now().Add(20 * time.Second))
	e := &echo{release: make(chan struct{}), ended: make(chan error, 1)}
	c, ok := ls.Adopt(server, e)
	if !ok {
		t.Fatal("not adopted")
	}
	e.conn = c
	t.Cleanup(func() {
		client.Close()
		c.Close()
		<-e.ended
	})
	return e, client
}

func start(t *testing.T) *Loops {
	t.Helper()
	ls, err := Start(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ls.Close)
	return ls
}

func ask(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v instead of %q", got, err, text)
	}
}

func TestServes(t *testing.T) {
	ls := start(t)
	var wg sync.WaitGroup
	for range 20 {
		e, c := pair(t, ls)
		e.conn.Start()
		wg.Go(func() {
			for i := range 200 {
				ask(t, c, strconv.Itoa(i))
			}
			ask(t, c, string(bytes.Repeat([]byte("x"), 1000))) // more than is read at once
		})
	}
	wg.Wait()
}

func TestWhatCameBeforeStart(t *testing.T) {
	e, c := pair(t, start(t))
	io.WriteString(c, "early")
	e.conn.Start()
	ask(t, c, "")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "early" {
		t.Fatalf("%q, %v", got, err)
	}
}

// Others are served while a handler waits, whether it says so or not.
func TestOthersGoOn(t *testing.T) {
	for _, kind := range []string{"w", "s"} {
		t.Run(kind, func(t *testing.T) {
			ls := start(t)
			waits, c1 := pair(t, ls)
			other, c2 := pair(t, ls)
			waits.conn.Start()
			other.conn.Start()
			for range 3 { // each has another goroutine lead
				io.WriteString(c1, kind)
				for range 100 {
					ask(t, c2, "x")
				}
				waits.release <- struct{}{}
				if _, err := io.ReadFull(c1, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// What comes while the handler is at work isn't forgotten.
func TestNothingForgotten(t *testing.T) {
	e, c := pair(t, start(t))
	e.conn.Start()
	io.WriteString(c, "w")
	for e.calls.Load() == 0 {
		runtime.Gosched()
	}
	io.WriteString(c, "more")
	close(e.release)
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "wmore" {
		t.Fatalf("%q, %v", got, err)
	}
}

// The end of the stream is seen even if it came with the last bytes.
func TestEnd(t *testing.T) {
	e, c := pair(t, start(t))
	io.WriteString(c, "last")
	c.(*net.TCPConn).CloseWrite()
	e.conn.Start()
	got, err := io.ReadAll(io.LimitReader(c, 4))
	if string(got) != "last" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := <-e.ended; err != io.EOF {
		t.Fatal(err)
	}
	e.ended <- nil
}

func TestClosedByAnother(t *testing.T) {
	e, c := pair(t, start(t))
	e.conn.Start()
	ask(t, c, "x")
	e.conn.Close()
	if err := <-e.ended; !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	e.ended <- nil
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if _, err := e.conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

func TestReset(t *testing.T) {
	e, c := pair(t, start(t))
	e.conn.Start()
	ask(t, c, "x")
	e.conn.reset()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Fatal(err)
	}
}

func TestDeadline(t *testing.T) {
	e, c := pair(t, start(t))
	e.conn.Start()
	ask(t, c, "x")
	e.conn.SetReadDeadline(time.Now().Add(time.Hour))
	ask(t, c, "x")
	e.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	if err := <-e.ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	e.ended <- nil
}

// blocked is a handler that reads everything in one call.
type blocked struct {
	conn *Conn
	got  chan string
}

func (b *blocked) Ready() bool {
	b.conn.Yield()
	b.conn.Block(true)
	var all []byte
	p := make([]byte, 16)
	for {
		n, err := b.conn.Read(p)
		if all = append(all, p[:n]...); err != nil {
			b.got <- string(all) + " " + err.Error()
			return false
		}
	}
}

func TestBlockingReads(t *testing.T) {
	ls := start(t)
	e, c := pair(t, ls)
	b := &blocked{conn: e.conn, got: make(chan string)}
	e.conn.handler = b
	e.conn.Start()
	for _, text := range []string{"a", "bc", "d"} {
		io.WriteString(c, text)
	}
	c.(*net.TCPConn).CloseWrite()
	if got := <-b.got; got != "abcd EOF" {
		t.Fatal(got)
	}
	e.ended <- nil
}

// A client that takes its replies late gets all of them.
func TestWritesWait(t *testing.T) {
	e, c := pair(t, start(t))
	e.conn.Start()
	const size = 32 << 20
	done := make(chan error, 1)
	go func() {
		_, err := e.conn.Write(make([]byte, size))
		done <- err
	}()
	if n, err := io.Copy(io.Discard, io.LimitReader(c, size)); n != size {
		t.Fatal(n, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Connections come and go under load, and the leader changes all the time.
func TestChurn(t *testing.T) {
	ls := start(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 30 {
				e, c := pair(t, ls)
				close(e.release)
				e.conn.Start()
				ask(t, c, []string{"w", "s", "x"}[(i+n)%3])
				if n%2 == 0 {
					c.Close()
				} else {
					e.conn.Close()
				}
			}
		})
	}
	wg.Wait()
}

// A connection that was closed before it is started isn't watched: its descriptor may be another's by then.
func TestClosedBeforeStart(t *testing.T) {
	ls := start(t)
	e, _ := pair(t, ls)
	e.conn.Close()
	for range 8 { // one of them has the descriptor now
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	e.conn.Start()
	if err := <-e.ended; !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	e.ended <- nil
	l := ls.all[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) != 0 {
		t.Error("another's socket is watched")
	}
}
