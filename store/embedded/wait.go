package embedded

import (
	"context"
	"math"
	"sync"

	"respmesh/resp/frame"
)

const errWaitReplica = "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica " +
	"is configured to be writable (which is not the default) writes to replicas are just local and are not propagated."

// waitCommand waits for replicas. Redis counts those that have the session's own last write; here it is everything
// written so far, since sessions may share connections, and may have written by another one.
func waitCommand(x *call) {
	if x.e.replica {
		x.err(errWaitReplica)
		return
	}
	n, ok := x.argInt(x.args[1])
	if !ok {
		return
	}
	timeout, ok := x.argRange(x.args[2], math.MinInt64, math.MaxInt64, "ERR timeout is not an integer or out of range")
	switch {
	case !ok:
	case timeout < 0:
		x.err("ERR timeout is negative")
	case !x.mayBlock():
		ended, end := context.WithCancel(context.Background())
		end()
		x.int(int64(x.e.opts.Await(ended, int(n))))
	default:
		w := x.e.enqueue(x, kindNone, timeout, nil)
		w.replicas = int(n)
		x.e.counting[w] = true
		x.blocked = w
	}
}

// waitForReplicas is wait for WAIT.
func (c *Conn) waitForReplicas(ctx context.Context, w *waiter, dst []byte) (out []byte, alive bool) {
	e := c.e
	counting, stop := context.WithCancel(ctx)
	if w.timeout > 0 {
		counting, stop = context.WithTimeout(ctx, w.timeout)
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-w.done:
		case <-e.closed:
		case <-c.gone:
		case <-counting.Done():
		}
		stop()
	})
	n := e.opts.Await(counting, w.replicas)
	stop()
	watch.Wait()
	over := ctx.Err() != nil
	select {
	case <-e.closed:
		over = true
	case <-c.gone:
		over = true
	default:
	}
	e.lock()
	defer e.mu.Unlock()
	e.commands[w.spec.ID].calls.Add(1)
	switch {
	case w.refused != "":
		return frame.AppendError(dst, w.refused), true
	case w.served: // CLIENT UNBLOCK
	default:
		e.dequeue(w)
		if over && n < w.replicas {
			return dst, false
		}
	}
	return frame.AppendInt(dst, int64(n)), true
}
