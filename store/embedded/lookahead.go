package embedded

import (
	"math/bits"
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
	if n > 0 {
		x.aheadIn(ks, reqs, h)
	}
}

// aheadIn does the same with the tables of big hashes, sets and sorted sets, for the first fields and members of the commands.
func (x *call) aheadIn(ks *keyspace, reqs []command.Request, h *hashes) {
	var in [spanMost]*object
	var member hashes
	n, of, last := 0, uint64(0), (*entry)(nil)
	for i := range reqs {
		r := &reqs[i]
		if r.Spec == nil {
			continue
		}
		at := int(x.e.handlers[r.Spec.ID].member)
		if at == 0 || at >= len(r.Args) {
			continue
		}
		if last == nil || h[i] != of { // often they are all of one key
			if last = ks.keys.lookup(h[i], r.Args[1]); last == nil {
				continue
			}
			of = h[i]
		}
		hash := hashKey(x.seed(), r.Args[at])
		o, big := &last.val, false
		switch o.kind {
		case kindHash:
			if b := o.hash().big; b != nil {
				big, x.seen = true, x.seen+b.touchBucket(hash)
			}
		case kindSet:
			if b := o.set().big(); b != nil {
				big, x.seen = true, x.seen+b.touchBucket(hash)
			}
		case kindZSet:
			if b := o.zset().big; b != nil {
				big, x.seen = true, x.seen+b.members.touchBucket(hash)
			}
		}
		if big {
			in[n], member[n] = o, hash
			n++
		}
	}
	for i, o := range in[:n] {
		switch o.kind {
		case kindHash:
			x.seen += o.hash().big.touchKey(member[i])
		case kindSet:
			x.seen += o.set().big().touchKey(member[i])
		case kindZSet:
			x.seen += o.zset().big.members.touchKey(member[i])
		}
	}
}

// firstKeyAt is where a command has its first key, if it has any; 0: one must look for it.
func firstKeyAt(spec *command.Spec) int8 {
	switch spec.Name {
	case "eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro":
		return 3
	}
	return int8(spec.FirstKey)
}

// memberAt is where a command that takes a key has a field or member to look up, 0: nowhere.
func memberAt(spec *command.Spec) int8 {
	switch spec.Name {
	case "zadd", "zincrby":
		return 3
	case "hset", "hget", "hdel", "hexists", "hincrby", "hmget", "hmset", "hsetnx", "hstrlen", "sadd", "srem", "sismember", "smismember",
		"zscore", "zmscore", "zrank", "zrevrank", "zrem":
		return 2
	}
	return 0
}

// touchBucket looks at the bucket of a hash, and touchKey at the value there that is most likely the one with it.
func (d *dict[T]) touchBucket(h uint64) uint { return uint(d.likely(h).tags) }

func (d *dict[T]) touchKey(h uint64) uint {
	b := d.likely(h)
	if m := matches(b.tags, dictTag(h)); m != 0 {
		if key := d.key(b.slots[bits.TrailingZeros64(m)/8]); key != "" {
			return uint(key[0])
		}
	}
	return 0
}

func (d *dict[T]) likely(h uint64) *bucket[T] {
	return &d.tables[0][h&uint64(len(d.tables[0])-1)]
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
