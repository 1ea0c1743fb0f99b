package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tidwall/resp"

	"respmesh/test/dev"
)

// inSync waits until every replica has what the runs before wrote, so that a run doesn't pay for another.
func (b *bench) inSync(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; {
		behind := 0.0
		for _, name := range []string{"replication_lag_bytes", "ryw_pending_keys"} {
			samples, err := b.mesh.Metrics(ctx, name)
			if err != nil {
				return err
			}
			for _, s := range samples {
				behind += s.Value
			}
		}
		if behind == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the replicas don't catch up: %.0f bytes and keys behind", behind)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// call sends one command over a connection and checks that the reply isn't an error.
func call(conn net.Conn, r *resp.Reader, args ...any) (resp.Value, error) {
	raw, err := resp.MultiBulkValue(args[0].(string), args[1:]...).MarshalRESP()
	if err != nil {
		return resp.Value{}, err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(raw); err != nil {
		return resp.Value{}, err
	}
	v, _, err := r.ReadValue()
	if err == nil && v.Type() == resp.Error {
		err = v.Error()
	}
	return v, err
}

// writeLatency times single writes at a region, sorted.
func writeLatency(ctx context.Context, r dev.Region, n int) ([]time.Duration, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.RESP)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reader := resp.NewReader(conn)
	var times []time.Duration
	for range n {
		begin := time.Now()
		if _, err := call(conn, reader, "SET", "bench:write", "x"); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	slices.Sort(times)
	return times, nil
}

// readBehindWrites writes keys at a region and reads each at once over another connection. A stale answer is an error.
func readBehindWrites(ctx context.Context, r dev.Region, workers, rounds int) error {
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { errs[w] = readBehindWritesOf(ctx, r, "bench:ryw:"+strconv.Itoa(w), rounds) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func readBehindWritesOf(ctx context.Context, r dev.Region, key string, rounds int) error {
	var conns [2]net.Conn
	var readers [2]*resp.Reader
	for i := range conns {
		var err error
		if conns[i], err = (&net.Dialer{}).DialContext(ctx, "tcp", r.RESP); err != nil {
			return err
		}
		defer conns[i].Close()
		readers[i] = resp.NewReader(conns[i])
	}
	for i := range rounds {
		want := strconv.Itoa(i)
		if _, err := call(conns[0], readers[0], "SET", key, want); err != nil {
			return err
		}
		v, err := call(conns[1], readers[1], "GET", key)
		if err != nil {
			return err
		}
		if v.String() != want {
			return fmt.Errorf("a read behind a write is stale: %s, want %s", v, want)
		}
	}
	return ctx.Err()
}
