package embedded

import "unsafe"

// keyspace is one database: its keys, the order in which those with a TTL end, and the memory of both. It knows
// nothing of clients or replicas.
type keyspace struct {
	keys     *keytable
	volatile deadlines
	memory   int64

	snap   *snapshot // under way, nil if none
	snapDB int       // this database's number in it
}

func newKeyspace(seed uint64) *keyspace {
	return &keyspace{keys: newKeytable(seed)}
}

// entryOf gives the entry that an object is part of: objects exist nowhere else.
func entryOf(o *object) *entry {
	return (*entry)(unsafe.Add(unsafe.Pointer(o), -int(unsafe.Offsetof(entry{}.val))))
}

func (ks *keyspace) len() int { return ks.keys.len() }

// expires is the number of keys with a TTL.
func (ks *keyspace) expires() int { return ks.volatile.end() - 1 }

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
	return ks.volatile.at(int(o.vol)).at
}

// size is the memory of all keys and of the tables that hold them.
func (ks *keyspace) size() int64 {
	return ks.memory + int64(len(ks.keys.table[0])+len(ks.keys.table[1]))*8 + ks.volatile.size()
}

func (ks *keyspace) setExpire(o *object, at int64) {
	if o.vol == 0 {
		o.vol = uint32(ks.volatile.add(deadline{ent: entryOf(o)}))
	}
	i := int(o.vol)
	ks.volatile.at(i).at = at
	ks.volatile.sift(i)
}

func (ks *keyspace) clearExpire(o *object) {
	i := int(o.vol)
	if i == 0 {
		return
	}
	o.vol = 0
	last := ks.volatile.pop()
	if i < ks.volatile.end() {
		*ks.volatile.at(i) = last
		ks.volatile.sift(i)
	}
}
