package embedded

import (
	"context"
	"strings"
	"sync"
	"testing"
)

func TestWaitAnswersAsRedis(t *testing.T) {
	vectors(t, "wait abc abc", "wait 1 abc", "wait 1 -1", "wait -1 0", "wait 0 0", "wait 0 -1", "wait 1 10", "wait 99999999999999 10",
		"wait 1 1e3", "wait 1", "multi", "wait 1 0", "set k v", "wait 0 0", "exec")
}

// replicas is an Await of replicas that acknowledge when the test says so.
type replicas struct {
	mu      sync.Mutex
	acked   int
	changed chan struct{}
}

func (r *replicas) await(ctx context.Context, n int) int {
	for {
		r.mu.Lock()
		have, changed := r.acked, r.changed
		r.mu.Unlock()
		if have >= n {
			return have
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return have
		}
	}
}

func (r *replicas) ack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked++
	close(r.changed)
	r.changed = make(chan struct{})
}

func TestWaitForReplicas(t *testing.T) {
	r := &replicas{changed: make(chan struct{})}
	e := newEngine(t, Options{Await: r.await})
	c := newConn(e)
	ctx, cancel := context.WithCancel(context.Background())
	two := blocked(ctx, t, e, "wait 2 0")
	r.ack()
	want(t, c, "wait 1 0", ":1\r\n")
	want(t, c, "wait 2 5", ":1\r\n")
	r.ack()
	if got := <-two; got != ":2\r\n" {
		t.Errorf("got %q", got)
	}
	gone := blocked(ctx, t, e, "wait 3 0")
	cancel()
	if got := <-gone; got != "" {
		t.Errorf("a cancelled wait answered %q", got)
	}
	for _, how := range []struct{ word, reply string }{
		{"timeout", ":2\r\n"}, {"error", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"},
	} {
		w := blocked(context.Background(), t, e, "wait 3 100000")
		e.mu.Lock()
		var id int64
		for w := range e.counting {
			id = w.c.id
		}
		e.mu.Unlock()
		want(t, c, "client unblock "+string(intArg(int(id)))+" "+how.word, ":1\r\n")
		if got := <-w; got != how.reply {
			t.Errorf("%s: got %q", how.word, got)
		}
	}
	refused := blocked(context.Background(), t, e, "wait 3 0")
	e.SetReplica(true)
	if got := <-refused; !strings.HasPrefix(got, "-UNBLOCKED force unblock") {
		t.Errorf("got %q", got)
	}
	want(t, c, "wait 0 0", "-"+errWaitReplica+"\r\n")
	e.SetReplica(false)
	closed := blocked(context.Background(), t, e, "wait 3 0")
	e.Close()
	if got := <-closed; got != "" {
		t.Errorf("got %q", got)
	}
	if n := e.Info().Blocked; n != 0 || len(e.counting) != 0 {
		t.Errorf("%d still blocked", n)
	}
}
