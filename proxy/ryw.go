package proxy

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// ryw remembers, for each key written through this node, the primary's offset after the write, until the local
// replica has applied it: that makes every client of the node see every write acknowledged through it, whichever
// connections they used. Keys are 64-bit hashes; a collision costs an unneeded wait. Where the table is full, or the
// keys of a command aren't known, the floor rises instead: it holds for all keys.
//
// Offsets compare only within one history (replid). A write that answers with another replid starts the table anew. Where
// the primary has changed, the new history goes on at the offsets of the former one: what was acknowledged late under a
// former name, before the change, is waited for at the same offset.
type ryw struct {
	seed    maphash.Seed
	replid  atomic.Pointer[string]
	highest atomic.Int64 // of everything recorded; nothing is pending once the replica has passed it
	floor   atomic.Int64
	count   atomic.Int64
	former  []string     // names that histories had before, the latest first; guarded by restart
	restart sync.RWMutex // held to start a new history, and shared to record in the present one
	shards  [rywShards]rywShard
}

const (
	rywShards   = 64
	rywPerShard = 2048
)

type rywShard struct {
	mu    sync.Mutex
	keys  map[uint64]int64
	least int64    // the lowest offset that was left when a full shard was cleared last
	_     [40]byte // a cache line each
}

func newRYW() *ryw { return &ryw{seed: maphash.MakeSeed()} }

// hash names a key of a database index.
func (t *ryw) hash(db int, key []byte) uint64 {
	return maphash.Bytes(t.seed, key) ^ uint64(db)*0x9e3779b97f4a7c15
}

// record notes that keys (or all of them) were changed at or before offset. applied is where the local replica is.
func (t *ryw) record(replid *string, offset, applied int64, all bool, keys []uint64) {
	t.restart.RLock()
	old := t.replid.Load()
	if old == nil && t.replid.CompareAndSwap(nil, replid) {
		old = replid
	}
	if (old == nil || old != replid && *old != *replid) && !slices.Contains(t.former, *replid) {
		t.restart.RUnlock()
		t.begin(replid, offset)
		return
	}
	defer t.restart.RUnlock()
	if offset <= applied {
		return
	}
	if all {
		raise(&t.floor, offset)
	}
	for _, k := range keys {
		t.shards[k%rywShards].put(t, k, offset, applied)
	}
	raise(&t.highest, offset)
}

// begin starts a new history. What was pending in the old one can't be compared any more: everything waits for offset.
func (t *ryw) begin(replid *string, offset int64) {
	t.restart.Lock()
	defer t.restart.Unlock()
	if old := t.replid.Load(); old != nil && *old == *replid {
		raise(&t.floor, offset)
		raise(&t.highest, offset)
		return
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.count.Add(-int64(len(s.keys)))
		s.keys, s.least = nil, 0
		s.mu.Unlock()
	}
	if old := t.replid.Load(); old != nil {
		t.former = append([]string{*old}, t.former[:min(len(t.former), maxFormer-1)]...)
	}
	t.floor.Store(offset)
	t.highest.Store(offset)
	t.replid.Store(replid)
}

// maxFormer is how many former names are known.
const maxFormer = 8

func (s *rywShard) put(t *ryw, k uint64, offset, applied int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.keys[k]; ok {
		s.keys[k] = max(old, offset)
		return
	}
	if len(s.keys) >= rywPerShard && !s.clearLocked(t, applied) {
		raise(&t.floor, offset)
		return
	}
	if s.keys == nil {
		s.keys = make(map[uint64]int64)
	}
	s.keys[k] = offset
	t.count.Add(1)
}

// clearLocked makes room in a full shard; false: the replica hasn't passed anything of it.
func (s *rywShard) clearLocked(t *ryw, applied int64) bool {
	if applied < s.least {
		return false
	}
	s.least = math.MaxInt64
	for key, o := range s.keys {
		if o <= applied {
			delete(s.keys, key)
			t.count.Add(-1)
		} else {
			s.least = min(s.least, o)
		}
	}
	return len(s.keys) < rywPerShard
}

// idle says that a replica at this position has everything: the only question that reads of a quiet node ask.
func (t *ryw) idle(replid string, applied int64) bool {
	r := t.replid.Load()
	return r == nil || applied >= t.highest.Load() && *r == replid
}

// need is the offset that a copy must have reached before it may answer for the keys. It leaves the entries to sweep:
// a reader's copy may be of another history by now.
func (t *ryw) need(keys []uint64) int64 {
	n := t.floor.Load()
	for _, k := range keys {
		s := &t.shards[k%rywShards]
		s.mu.Lock()
		n = max(n, s.keys[k])
		s.mu.Unlock()
	}
	return n
}

// needAll is the offset for commands whose keys aren't known.
func (t *ryw) needAll() int64 { return t.highest.Load() }

// history is the replid that the offsets belong to; empty before the first write.
func (t *ryw) history() string {
	if r := t.replid.Load(); r != nil {
		return *r
	}
	return ""
}

// sweep frees what the replica has passed.
func (t *ryw) sweep(replid string, applied int64) {
	if t.count.Load() == 0 {
		return
	}
	t.restart.RLock()
	defer t.restart.RUnlock()
	if t.history() != replid {
		return
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for k, o := range s.keys {
			if o <= applied {
				delete(s.keys, k)
				t.count.Add(-1)
			}
		}
		s.mu.Unlock()
	}
}
