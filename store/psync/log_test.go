package psync_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/store/psync"
)

func TestPosition(t *testing.T) {
	l, o := psync.NewLog(100), psync.NewLog(100)
	a, at := l.Position()
	b, _ := o.Position()
	if len(a) != 40 || a == b || at != 0 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%s %s %d", a, b, at)
	}
	for range 1000 {
		l.Append(make([]byte, 33))
	}
	if _, at := l.Position(); at != 33000 {
		t.Errorf("offset %d", at)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := psync.NewLog(0)
		id, _ := l.Position()
		const n = 5000
		var done [n]atomic.Bool
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				ctx := t.Context()
				if i%3 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				err := l.Wait(ctx, id, int64(i+1))
				if err != nil && (i%3 != 0 || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("%d: %v", i, err)
				}
				done[i].Store(err == nil)
			})
		}
		synctest.Wait()
		l.Append(make([]byte, n/2))
		synctest.Wait()
		for i := range n {
			if d := done[i].Load(); d != (i < n/2) {
				t.Fatalf("waiter of %d is released: %v", i+1, d)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.Append(make([]byte, n/2))
		wg.Wait()
		for i := range n {
			if d := done[i].Load(); d != (i < n/2 || i%3 != 0) {
				t.Fatalf("waiter of %d is released: %v", i+1, d)
			}
		}
	})
}

func TestWaitForOtherHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := psync.NewLog(0)
		id, _ := l.Position()
		if err := l.Wait(t.Context(), someID, 1); !errors.Is(err, psync.ErrOtherHistory) {
			t.Errorf("%v", err)
		}
		errs := make(chan error, 2)
		go func() { errs <- l.Wait(t.Context(), id, 10) }()
		synctest.Wait()
		l.Append(make([]byte, 9))
		synctest.Wait()
		if len(errs) != 0 {
			t.Fatal("too early")
		}
		l.Promote(1) // at 9: the old name never gets any further
		if err := <-errs; !errors.Is(err, psync.ErrOtherHistory) {
			t.Errorf("%v", err)
		}
		if err := l.Wait(t.Context(), id, 9); err != nil {
			t.Errorf("%v", err)
		}
		l.Reset(someID, 4)
		if err := l.Wait(t.Context(), id, 1); !errors.Is(err, psync.ErrOtherHistory) {
			t.Errorf("%v", err)
		}
		if err := l.Wait(t.Context(), someID, 4); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l := psync.NewLog(0)
	p := make([]byte, 100)
	b.ReportAllocs()
	b.SetBytes(100)
	for b.Loop() {
		l.Append(p)
	}
}

func BenchmarkWaitReached(b *testing.B) {
	l := psync.NewLog(0)
	l.Append(make([]byte, 100))
	id, _ := l.Position()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = l.Wait(context.Background(), id, 100)
		}
	})
}

// A backlog takes no new memory once it is full.
func TestBacklogReusesItsMemory(t *testing.T) {
	l := psync.NewLog(1 << 20)
	p := make([]byte, 1000)
	fill := func(times int) {
		for range times << 20 / len(p) {
			l.Append(p)
		}
	}
	fill(2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fill(64)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("64 MiB through a backlog of 1 MiB allocate %d bytes", took)
	}
}

// A replica that takes the stream much later than the backlog would keep it gets every byte as it was.
func TestSlowReplicaKeepsItsPlace(t *testing.T) {
	n := newNode(t, 1<<10, func(o *psync.PrimaryOptions) { o.PingEvery = time.Hour })
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "SYNC\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	head, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(strings.TrimSpace(head[1:]))
	if err != nil {
		t.Fatalf("the snapshot is announced with %q", head)
	}
	if _, err := in.Discard(size); err != nil {
		t.Fatal(err)
	}
	const commands = 12_000 // more than sockets take
	frameOf := func(i int) string { return fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\n%01000d\r\n", i) }
	for i := range commands {
		n.log.Append([]byte(frameOf(i)))
	}
	got := make([]byte, len(frameOf(0)))
	for i := range commands {
		if _, err := io.ReadFull(in, got); err != nil {
			t.Fatal(err)
		}
		if string(got) != frameOf(i) {
			t.Fatalf("command %d is %q", i, got)
		}
	}
}
