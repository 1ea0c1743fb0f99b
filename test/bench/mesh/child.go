package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// A connection starts with what it is for: echo, or bulk with the number of bytes, of which the server says when it has them.
const (
	forEcho = 'e'
	forBulk = 'b'
)

// child is the client or the server, on its host.
func child(ctx context.Context, role string, in io.Reader, out io.Writer) error {
	var s setup
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return err
	}
	e, err := open(s)
	if err != nil {
		return err
	}
	defer e.close()
	if role == "server" {
		l, err := e.listen(netip.MustParseAddrPort(s.Listen))
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go serve(c)
		}
	}
	if s.Profile != "" {
		f, err := os.Create(s.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return client(ctx, s, e, json.NewEncoder(out))
}

func serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 128<<10)
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		return
	}
	for bulk := buf[0] == forBulk; bulk; {
		if _, err := io.ReadFull(c, buf[:8]); err != nil {
			return
		}
		for left := int64(binary.BigEndian.Uint64(buf)); left > 0; {
			n, err := c.Read(buf[:min(left, int64(len(buf)))])
			if err != nil {
				return
			}
			left -= int64(n)
		}
		if _, err := c.Write(buf[:1]); err != nil { // this one is here
			return
		}
	}
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// client measures one thing after the other, and writes what it knows after each.
func client(ctx context.Context, s setup, e ends, out *json.Encoder) error {
	at := netip.MustParseAddrPort(s.Connect)
	span := time.Duration(s.Seconds * float64(time.Second))
	connect := func(what byte) (net.Conn, error) {
		var c net.Conn
		var err error
		for range 50 { // until the tunnel is there
			try, cancel := context.WithTimeout(ctx, 5*time.Second)
			c, err = e.dial(try, at)
			cancel()
			if err == nil {
				_, err = c.Write([]byte{what})
				return c, err
			}
			time.Sleep(50 * time.Millisecond)
		}
		return nil, err
	}
	var r result
	one, err := connect(forEcho)
	if err != nil {
		return err
	}
	if _, err := pingPong(one, span/10); err != nil {
		return err
	}
	took, err := pingPong(one, span)
	if err != nil {
		return err
	}
	slices.Sort(took)
	r.P50, r.P99 = took[len(took)/2], took[len(took)*99/100]

	conns := make([]net.Conn, s.Conns)
	for i := range conns {
		if conns[i], err = connect(forEcho); err != nil {
			return err
		}
	}
	if err := out.Encode(r); err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var many []time.Duration
	var failed error
	start := time.Now()
	for _, c := range conns {
		wg.Go(func() {
			took, err := pingPong(c, span)
			mu.Lock()
			defer mu.Unlock()
			many = append(many, took...)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	r.Ops = float64(len(many)) / time.Since(start).Seconds()
	slices.Sort(many)
	r.ManyP99 = many[len(many)*99/100]
	bulk, err := connect(forBulk)
	if err != nil {
		return err
	}
	if err := out.Encode(r); err != nil {
		return err
	}
	if r.BulkBytes, err = sendBulk(bulk, span); err != nil {
		return err
	}
	r.Bulk = r.BulkBytes / 1e6 / span.Seconds()
	return out.Encode(r)
}

// sendBulk sends as fast as it goes, and says how much of that the server had within a time.
func sendBulk(c net.Conn, span time.Duration) (bytes float64, err error) {
	const size = 64 << 10
	end := time.Now().Add(span)
	if err := c.SetDeadline(end); err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() {
		block := append(binary.BigEndian.AppendUint64(nil, size), make([]byte, size)...)
		for {
			if _, err := c.Write(block); err != nil {
				sent <- err
				return
			}
		}
	}()
	acks := make([]byte, 64)
	for {
		n, rerr := c.Read(acks)
		bytes += float64(n * size)
		if rerr != nil {
			err = rerr
			break
		}
	}
	if werr := <-sent; !isTimeout(err) || !isTimeout(werr) {
		return 0, errors.Join(err, werr)
	}
	return bytes, nil
}

// isTimeout also knows the errors of WireGuard's own stack.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// pingPong asks for small things, one after the other.
func pingPong(c net.Conn, span time.Duration) (took []time.Duration, err error) {
	msg, buf := []byte("*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n"), make([]byte, 64)
	for end := time.Now().Add(span); ; {
		start := time.Now()
		if start.After(end) && len(took) > 0 {
			return took, nil
		}
		if _, err := c.Write(msg); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, buf[:len(msg)]); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
}
