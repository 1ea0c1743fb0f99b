package embedded

import "unsafe"

// keyspace is one database: its keys, the order in which those with a TTL end, and the memory of both. It knows
// nothing of clients or replicas.
type keyspace struct {
	keys *keytable[object]
	// volatile is a binary heap of the keys with a TTL, the soonest at 1; object.vol is a key's place in it. [0] is
	// never used, so that vol 0 means none.
	volatile []deadline
	memory   int64

	snap   *snapshot // under way, nil if none
	snapDB int       // this database's number in it
}

type deadline struct {
	at  int64 // unix ms
	ent *entry[object]
}

func newKeyspace(seed uint64) *keyspace {
	return &keyspace{keys: newKeytable[object](seed), volatile: make([]deadline, 1)}
}

// entryOf gives the entry that an object is part of: objects exist nowhere else.
func entryOf(o *object) *entry[object] {
	return (*entry[object])(unsafe.Add(unsafe.Pointer(o), -int(unsafe.Offsetof(entry[object]{}.val))))
}

func (ks *keyspace) len() int { return ks.keys.len() }

// expires is the number of keys with a TTL.
func (ks *keyspace) expires() int { return len(ks.volatile) - 1 }

// add stores a value under a key that isn't there.
func (ks *keyspace) add(key []byte, p payload, lru uint32) *object {
	o := &ks.keys.add(string(key)).val
	o.put(p)
	o.lru.Store(lru)
	if ks.snap != nil {
		o.mark = ks.snap.mark // younger than the snapshot
	}
	ks.account(o)
	return o
}

// account brings the memory counted for a key up to date.
func (ks *keyspace) account(o *object) {
	n := o.size(len(entryOf(o).key))
	ks.memory += n - o.mem
	o.mem = n
}

// remove takes a key out.
func (ks *keyspace) remove(key []byte) bool {
	if ks.snap != nil {
		if ent := ks.keys.find(key); ent != nil {
			ks.barrier(ent)
		}
	}
	ent := ks.keys.remove(key)
	if ent == nil {
		return false
	}
	ks.clearExpire(&ent.val)
	ks.memory -= ent.val.mem
	return true
}

// expireAt is when a key ends, 0 for never.
func (ks *keyspace) expireAt(o *object) int64 {
	if o.vol == 0 {
		return 0
	}
	return ks.volatile[o.vol].at
}

// deadlineSize is what a TTL costs.
const deadlineSize = int64(unsafe.Sizeof(deadline{}))

// size is the memory of all keys and of the tables that hold them.
func (ks *keyspace) size() int64 {
	return ks.memory + int64(len(ks.keys.table[0])+len(ks.keys.table[1]))*8 + int64(cap(ks.volatile)-1)*deadlineSize
}

func (ks *keyspace) setExpire(o *object, at int64) {
	i := int(o.vol)
	if i == 0 {
		i = len(ks.volatile)
		ks.volatile = append(ks.volatile, deadline{ent: entryOf(o)})
		o.vol = uint32(i)
	}
	ks.volatile[i].at = at
	ks.sift(i)
}

func (ks *keyspace) clearExpire(o *object) {
	i, last := int(o.vol), len(ks.volatile)-1
	if i == 0 {
		return
	}
	ks.volatile[i] = ks.volatile[last]
	ks.volatile[last] = deadline{}
	ks.volatile = ks.volatile[:last]
	o.vol = 0
	if i < last {
		ks.volatile[i].ent.val.vol = uint32(i)
		ks.sift(i)
	}
	if n := cap(ks.volatile); n > 1024 && last < n/4 {
		ks.volatile = append(make([]deadline, 0, n/2), ks.volatile...)
	}
}

// sift moves the deadline at i to its place in the heap.
func (ks *keyspace) sift(i int) {
	h := ks.volatile
	d := h[i]
	for i > 1 && h[i/2].at > d.at {
		h[i] = h[i/2]
		h[i].ent.val.vol = uint32(i)
		i /= 2
	}
	for {
		child := 2 * i
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].at < h[child].at {
			child++
		}
		if h[child].at >= d.at {
			break
		}
		h[i] = h[child]
		h[i].ent.val.vol = uint32(i)
		i = child
	}
	h[i] = d
	d.ent.val.vol = uint32(i)
}
