package embedded

import (
	"unsafe"

	"respmesh/resp/command"
)

// Looking a key up is mostly waiting for memory: for the table, the entry, the key's bytes and the value, one after the other. The
// keys of a batch don't depend on each other. So before it is executed, all their tables are looked at, then all their entries, and
// so on: the processor waits for many of them at the same time.

// hashes are of the keys of some commands or of some keys of one command.
type hashes [spanMost]uint64

// ahead looks at the first keys of the next commands, at most spanMost of them. Needs the lock in any mode.
func (x *call) ahead(reqs []command.Request, h *hashes) {
	ks, n := x.e.dbs[x.c.db], 0
	var heads [spanMost]*entry
	for i := range reqs {
		if key := x.firstKey(&reqs[i]); key != nil {
			h[i] = hashKey(ks.keys.seed, key)
			heads[n] = ks.keys.head(h[i])
			n++
		}
	}
	x.seen += touch(heads[:n])
}

// firstKey is a command's first key, nil if it has none or one must look for it.
func (x *call) firstKey(r *command.Request) []byte {
	if r.Spec == nil {
		return nil
	}
	if at := int(x.e.handlers[r.Spec.ID].key); at > 0 && at < len(r.Args) {
		return r.Args[at]
	}
	return nil
}

// aheadOf is ahead for keys of one command, at most spanMost of them.
func (x *call) aheadOf(keys [][]byte, h *hashes) {
	var heads [spanMost]*entry
	for i, key := range keys {
		h[i] = hashKey(x.db.keys.seed, key)
		heads[i] = x.db.keys.head(h[i])
	}
	x.seen += touch(heads[:len(keys)])
}

// touch looks at entries and what belongs to them. The sum is nothing but the proof that it has.
func touch(heads []*entry) (seen uint) {
	for _, e := range heads {
		if e != nil {
			seen += uint(e.val.tag)
		}
	}
	for _, e := range heads {
		if e != nil {
			if len(e.key) > 0 {
				seen += uint(e.key[0])
			}
			if e.val.ptr != nil && (e.val.kind != kindString || uint32(e.val.num) > 0) {
				seen += uint(*(*byte)(e.val.ptr))
			}
		}
	}
	return seen
}

// find looks a key up, by the hash that ahead has made if the key is the one that it has seen.
func (x *call) find(key []byte) *entry {
	if len(key) == len(x.hashed) && unsafe.SliceData(key) == unsafe.SliceData(x.hashed) && len(key) > 0 {
		return x.db.keys.lookup(x.hash, key)
	}
	return x.db.keys.find(key)
}
