package psync_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"respmesh/resp/frame"
	"respmesh/store/psync"
)

// pipes dials a Primary through net.Pipe, which has no buffers and lives in the
// bubble's time.
func pipes(ctx context.Context, p *psync.Primary, wg *sync.WaitGroup) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		wg.Go(func() { _ = p.ServeConn(ctx, ours, frame.NewReader(ours)) })
		return theirs, nil
	}
}

// An idle link stays alive by PINGs, which both sides count, and by ACKs.
func TestIdleLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		log, copied := psync.NewLog(0), psync.NewLog(0)
		mem := newMemory(log)
		p := psync.NewPrimary(psync.PrimaryOptions{Log: log, Source: mem, Timeout: 3 * time.Second})
		mem.do("SET k v")
		r := psync.NewReplica(psync.ReplicaOptions{Log: copied, Target: newMemory(copied), Dial: pipes(ctx, p, &wg),
			Timeout: 3 * time.Second})
		wg.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Hour)
		synctest.Wait()
		st := r.State()
		if st.Phase != psync.Online || time.Since(st.LastHeard) > 1100*time.Millisecond {
			t.Errorf("%+v at %v", st, time.Now())
		}
		in := p.Replicas()
		if len(in) != 1 || time.Since(in[0].LastAck) > 1100*time.Millisecond {
			t.Errorf("%+v", in)
		}
		if _, offset := log.Position(); offset < 14*3000 || offset-st.Offset > 14 {
			t.Errorf("offsets %d and %d", offset, st.Offset)
		}
		if mem.snapshots.Load() != 1 {
			t.Errorf("%d snapshots: the link didn't last", mem.snapshots.Load())
		}
		cancel()
		wg.Wait()
	})
}

// A primary that goes silent is given up after the time-out, one that can't be
// reached is tried at growing intervals; Kick cuts both short.
func TestSilenceAndRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		log := psync.NewLog(0)
		start := time.Now()
		var mu sync.Mutex
		var all []time.Duration
		dialled := func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		r := psync.NewReplica(psync.ReplicaOptions{Log: log, Target: newMemory(log), Timeout: 10 * time.Second,
			Dial: func(ctx context.Context) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if all = append(all, time.Since(start)); len(all) > 1 {
					return nil, errors.New("no route")
				}
				ours, theirs := net.Pipe()
				wg.Go(func() { // takes everything and says nothing
					b := make([]byte, 100)
					for {
						if _, err := ours.Read(b); err != nil {
							return
						}
					}
				})
				return theirs, nil
			}})
		wg.Go(func() { _ = r.Run(ctx) })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if dials := dialled(); len(dials) != 1 {
			t.Errorf("dials at %v", dials)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if dials := dialled(); len(dials) != 2 || dials[1] != 10*time.Second {
			t.Errorf("dials at %v: the first retry comes at once", dials)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		dials := dialled()
		for i := 3; i < len(dials); i++ {
			gap := dials[i] - dials[i-1]
			if gap < 25*time.Millisecond || gap > time.Second || i > 8 && gap < 500*time.Millisecond {
				t.Errorf("gap %d is %v", i, gap)
			}
		}
		n, at := len(dials), time.Since(start)
		if n < 60 || n > 150 {
			t.Errorf("%d attempts", n)
		}
		r.Kick()
		synctest.Wait()
		dials = dialled()
		if len(dials) != n+2 || dials[n] != at { // the kick's, and its first retry
			t.Errorf("kicked at %v: %v", at, dials[n:])
		}
		cancel()
		wg.Wait()
	})
}

// A replica that shows no life is dropped.
func TestDeadReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := psync.NewLog(0)
		p := psync.NewPrimary(psync.PrimaryOptions{Log: log, Source: newMemory(log), Timeout: 5 * time.Second})
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- p.ServeConn(t.Context(), ours, frame.NewReader(ours)) }()
		go func() {
			b := make([]byte, 1000)
			for {
				if _, err := theirs.Read(b); err != nil {
					return
				}
			}
		}()
		_, _ = theirs.Write(frame.AppendCommandString(nil, "PSYNC", "?", "-1"))
		err := <-done
		if err == nil || !strings.Contains(err.Error(), "no sign of life") || time.Since(start) > 11*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		_ = theirs.Close()
	})
}

// A snapshot that takes long doesn't cost the link.
func TestSlowSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		log, copied := psync.NewLog(0), psync.NewLog(0)
		mem, target := newMemory(log), newMemory(copied)
		mem.onSnapshot = func() { time.Sleep(time.Minute) }
		target.onRestore = func() error { time.Sleep(time.Minute); return nil }
		p := psync.NewPrimary(psync.PrimaryOptions{Log: log, Source: mem, Timeout: 5 * time.Second})
		mem.do("SET k v")
		r := psync.NewReplica(psync.ReplicaOptions{Log: copied, Target: target, Dial: pipes(ctx, p, &wg), Timeout: 5 * time.Second})
		wg.Go(func() { _ = r.Run(ctx) })
		time.Sleep(30 * time.Second)
		if st := r.State(); st.Phase != psync.Syncing {
			t.Errorf("%+v", st)
		}
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if st := r.State(); st.Phase != psync.Online || mem.snapshots.Load() != 1 {
			t.Errorf("%+v after %d snapshots", st, mem.snapshots.Load())
		}
		cancel()
		wg.Wait()
	})
}
