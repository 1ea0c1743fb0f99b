package psync

import (
	"container/heap"
	"context"
)

// Wait returns once the log has reached the position: at once and without a lock
// if it has. It gives ErrOtherHistory when it never will, because the history is
// another one, and the context's error when that ends first.
func (l *Log) Wait(ctx context.Context, replid string, offset int64) error {
	if h := l.hist.Load(); h.id == replid && h.offset.Load() >= offset {
		return nil
	}
	l.mu.Lock()
	reached, err := l.reachedLocked(replid, offset)
	if reached || err != nil {
		l.mu.Unlock()
		return err
	}
	w := l.waitPool.Get().(*waiter)
	w.replid, w.offset = replid, offset
	heap.Push(&l.waiters, w)
	l.mu.Unlock()
	select {
	case err = <-w.done:
	case <-ctx.Done():
		l.mu.Lock()
		queued := w.index >= 0
		if queued {
			heap.Remove(&l.waiters, w.index)
		}
		l.mu.Unlock()
		if queued {
			err = ctx.Err()
		} else {
			err = <-w.done // it was released meanwhile
		}
	}
	l.waitPool.Put(w)
	return err
}

// waiter is one Wait that has to wait. done holds its one outcome.
type waiter struct {
	replid string
	offset int64
	index  int // in the heap; -1 once released
	done   chan error
}

// waitHeap has the waiters of the lowest offset first.
type waitHeap []*waiter

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].offset < h[j].offset }

func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are container/heap's.
func (h *waitHeap) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}

// release wakes those who waited for at most offset. All wait for the present
// history: the others were sent away when its name changed.
func (h *waitHeap) release(offset int64) {
	for len(*h) > 0 && (*h)[0].offset <= offset {
		heap.Pop(h).(*waiter).done <- nil
	}
}

// reconsider answers everyone after the history's name has changed.
func (h *waitHeap) reconsider(l *Log) {
	keep := (*h)[:0]
	for _, w := range *h {
		if reached, err := l.reachedLocked(w.replid, w.offset); reached || err != nil {
			w.index = -1
			w.done <- err
			continue
		}
		keep = append(keep, w)
	}
	clear((*h)[len(keep):])
	*h = keep
	for i, w := range keep {
		w.index = i
	}
	heap.Init(h)
}
