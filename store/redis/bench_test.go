package redis_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/redis"
)

// Each measurement is of b.N commands in all, by conns sessions, depth at a time. "direct" has a connection per session.
func BenchmarkCommands(b *testing.B) {
	r := startReal(b)
	e := open(b, redis.Options{URL: "unix://" + r.sock})
	tcp := open(b, redis.Options{URL: "redis://" + r.addr})
	value := strings.Repeat("v", 64)
	for _, name := range []string{"GET", "SET"} {
		for _, conns := range []int{1, 50} {
			for _, depth := range []int{1, 16} {
				args := []string{name, "key"}
				if name == "SET" {
					args = append(args, value)
				} else {
					r.do("SET", "key", value)
				}
				run := func(how string, makeDo func() func()) {
					b.Run(fmt.Sprintf("%s/conns=%d/depth=%d/%s", name, conns, depth, how), func(b *testing.B) {
						b.ReportAllocs()
						var wg sync.WaitGroup
						for i := range conns {
							n := b.N / depth / conns
							if i == 0 {
								n = max(1, b.N/depth-n*(conns-1))
							}
							do := makeDo()
							wg.Go(func() {
								for range n {
									do()
								}
							})
						}
						wg.Wait()
					})
				}
				run("direct", func() func() { return direct(b, r, depth, args) })
				run("engine", func() func() { return through(tcp, depth, args) })
				run("engine-unix", func() func() { return through(e, depth, args) })
			}
		}
	}
}

func direct(b *testing.B, r *real, depth int, args []string) func() {
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	in := frame.NewReader(conn)
	var out []byte
	for range depth {
		out = frame.AppendCommandString(out, args...)
	}
	var p frame.Reply
	return func() {
		if _, err := conn.Write(out); err != nil {
			b.Error(err)
		}
		for range depth {
			if err := in.ReadReply(&p); err != nil {
				b.Error(err)
			}
		}
	}
}

func through(e *redis.Engine, depth int, args []string) func() {
	c := e.NewConn(func([]byte) {})
	var reqs []command.Request
	for range depth {
		reqs = append(reqs, request(args...))
	}
	var dst []byte
	return func() { dst = c.Do(context.Background(), dst[:0], reqs) }
}
