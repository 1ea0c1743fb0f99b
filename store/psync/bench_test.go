package psync_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/psync"
)

// nothing is an engine that costs nothing.
type nothing struct{}

func (nothing) ApplyThen(_ []command.Request, then func()) error { then(); return nil }

func (nothing) Restore(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (nothing) Snapshot(w io.Writer, at func()) error {
	at()
	_, err := w.Write([]byte("no RDB, but nobody looks"))
	return err
}

// linked gives a log and its copy over a loopback connection.
func linked(b *testing.B) (from, to *psync.Log) {
	b.Helper()
	from, to = psync.NewLog(0), psync.NewLog(0)
	p := psync.NewPrimary(psync.PrimaryOptions{Log: from, Source: nothing{}, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	r := psync.NewReplica(psync.ReplicaOptions{Log: to, Target: nothing{}, Dial: func(context.Context) (net.Conn, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		wg.Go(func() {
			if conn, err := ln.Accept(); err == nil {
				_ = p.ServeConn(ctx, conn, frame.NewReader(conn))
			}
		})
		return net.Dial("tcp", ln.Addr().String())
	}})
	wg.Go(func() { _ = r.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	for changed := r.Changed(); r.State().Phase != psync.Online; changed = r.Changed() {
		if r.State().Phase != psync.Online {
			<-changed
		}
	}
	return from, to
}

var setFrame = frame.AppendCommandString(nil, "SET", "key:1234567890", "a value of sixty-four bytes, which is what the other benchmarks use")

// How long after a write its replica has it: a lone write over loopback.
func BenchmarkLatency(b *testing.B) {
	from, to := linked(b)
	ctx := context.Background()
	for b.Loop() {
		from.Append(setFrame)
		id, offset := from.Position()
		if err := to.Wait(ctx, id, offset); err != nil {
			b.Fatal(err)
		}
	}
}

// How much goes through when writes come one after the other.
func BenchmarkThroughput(b *testing.B) {
	from, to := linked(b)
	b.SetBytes(int64(len(setFrame)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		from.Append(setFrame)
		if n++; n%10000 == 0 { // not further ahead than the primary allows
			id, offset := from.Position()
			_ = to.Wait(context.Background(), id, offset-1<<20)
		}
	}
	id, offset := from.Position()
	_ = to.Wait(context.Background(), id, offset)
}
