package embedded

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Policy says which keys go when memory is full. Those of Redis have Redis's names.
type Policy string

const (
	NoEviction     Policy = "noeviction" // writes that need memory are refused
	AllKeysRandom  Policy = "allkeys-random"
	AllKeysLRU     Policy = "allkeys-lru"
	AllKeysLFU     Policy = "allkeys-lfu"
	VolatileRandom Policy = "volatile-random"
	VolatileLRU    Policy = "volatile-lru"
	VolatileLFU    Policy = "volatile-lfu"
	VolatileTTL    Policy = "volatile-ttl"
	// VolatileFirst is what databases have unless they ask for another: keys with a TTL at random as long as there are
	// any, then any at random. Clients are told the name that comes nearest among Redis's, allkeys-random.
	VolatileFirst Policy = "volatile-first-random"
)

func policies() []Policy {
	return []Policy{VolatileLRU, VolatileLFU, VolatileRandom, VolatileTTL, AllKeysLRU, AllKeysLFU, AllKeysRandom, NoEviction}
}

// shown is the policy's name in Redis's words.
func (p Policy) shown() string {
	if p == VolatileFirst {
		return string(AllKeysRandom)
	}
	return string(p)
}

func (p Policy) lfu() bool { return p == AllKeysLFU || p == VolatileLFU }

// volatileOnly tells whether keys without a TTL stay.
func (p Policy) volatileOnly() bool {
	return p == VolatileRandom || p == VolatileLRU || p == VolatileLFU || p == VolatileTTL
}

const (
	// overshoot is what one command may take beyond the limit without being asked how much it needs.
	overshoot = 64 << 10
	// evictSlice bounds the eviction for one command when the limit has been lowered by far; housekeeping goes on with it.
	evictSlice = time.Millisecond
	// Of so many keys, drawn at random, the one least used goes; the next best are kept for the next time.
	evictSamples     = 5
	evictPool        = 16
	evictSamplesMost = 64 // more makes eviction slow and not better

	errOOM = "OOM command not allowed when used memory > 'maxmemory'."
)

// memoryLimit is what eviction works with. The engine's lock guards it.
type memoryLimit struct {
	max              int64 // bytes, 0: none
	policy           Policy
	samples          int
	lfuLog, lfuDecay int64       // how slowly counters of accesses grow, and in how many minutes they lose one
	pool             []candidate // ascending by score
}

// candidate is a key that was seen when keys to evict were looked for. A higher score goes sooner.
type candidate struct {
	db    int
	key   string
	score int64
}

// SetMaxMemory changes the limit, 0 for none. What is beyond it is evicted in the background, if eviction is on.
func (e *Engine) SetMaxMemory(bytes int64) {
	e.lock()
	defer e.unlock()
	e.limit.max = max(bytes, 0)
}

// SetEviction changes what goes when memory is full.
func (e *Engine) SetEviction(p Policy) error {
	if p == "" {
		p = NoEviction
	}
	if p != VolatileFirst && !slices.Contains(policies(), p) {
		return fmt.Errorf("eviction policy %q isn't one of %v or %s", p, policies(), VolatileFirst)
	}
	e.lock()
	defer e.unlock()
	e.setPolicy(p)
	return nil
}

func (e *Engine) setPolicy(p Policy) { e.limit.policy, e.limit.pool = p, nil }

// memoryLocked is what the data and the texts of scripts and functions take.
func (e *Engine) memoryLocked() int64 {
	n := int64(e.scripts.bytes + e.functions.bytes)
	for _, db := range e.dbs {
		n += db.size()
	}
	return n
}

// makeRoom tells whether there is memory for a write of need bytes, having evicted keys if that is allowed. Needs the
// write lock, between commands.
func (e *Engine) makeRoom(need int64) bool {
	if e.replica || e.limit.max == 0 {
		return true // the primary decides
	}
	if need <= overshoot {
		need = 0
	}
	used := e.memoryLocked()
	if used+need <= e.limit.max {
		return true
	}
	if need > e.limit.max || e.limit.policy == NoEviction {
		return false
	}
	start, before := time.Now(), used
	for n := 1; used+need > e.limit.max; n++ {
		if !e.evictOne() {
			return false
		}
		used = e.memoryLocked()
		// When there is far too much, each write at least makes more room than it takes.
		if n%16 == 0 && before-used > need+overshoot && time.Since(start) > evictSlice {
			return true
		}
	}
	return true
}

// plenty tells whether there is memory for as many commands as may go by one reading of the clock, none of which asks how much it
// may take. It holds until one runs that can take long: such may take more.
func (e *Engine) plenty() bool {
	return e.memoryLocked()+spanMost*overshoot <= e.limit.max
}

// evictBeyond evicts for a slice of time what is beyond a limit and tells whether there is more to do.
func (e *Engine) evictBeyond(slice time.Duration) (more bool) {
	if e.replica || e.limit.max == 0 || e.limit.policy == NoEviction {
		return false
	}
	for start, n := time.Now(), 1; e.memoryLocked() > e.limit.max; n++ {
		if !e.evictOne() {
			return false
		}
		if (n%16 == 0 || e.walks.Load() > 0) && time.Since(start) > slice {
			return true
		}
	}
	return false
}

// room tells whether n more bytes fit, having evicted if that may be done here; otherwise it has replied the error. A command
// whose size says little of what it takes asks before it looks up the keys that it changes.
func (x *call) room(n int64) bool {
	e := x.e
	if e.limit.max == 0 || n <= overshoot || x.fromStream || e.replica || e.memoryLocked()+n <= e.limit.max {
		return true
	}
	if !x.multi && !x.retry && e.makeRoom(n) {
		return true
	}
	x.err(errOOM)
	return false
}

// roomForString is room for a string to become n bytes long.
func (x *call) roomForString(key []byte, n int64) bool {
	if x.e.limit.max == 0 || n <= overshoot {
		return true
	}
	if o := x.peek(key); o != nil {
		if o.kind != kindString {
			return true // the command refuses it
		}
		n -= int64(o.stringLen())
	}
	return x.room(n)
}

// farOver tells whether transactions and scripts under way have gone so far over the limit that they get no more.
func (e *Engine) farOver() bool {
	return e.limit.max > 0 && !e.replica && e.memoryLocked() > e.limit.max+max(e.limit.max/32, 1<<20)
}

func (e *Engine) evictOne() bool {
	db, ent := e.victim()
	if ent == nil {
		return false
	}
	e.stats.evicted.Add(1)
	e.drop(db, ent, "evicted")
	e.effects.end()
	return true
}

// victim chooses the key to evict, nil if there is none.
func (e *Engine) victim() (db int, ent *entry) {
	switch e.limit.policy {
	case VolatileFirst:
		if db, ent = e.randomKey(true); ent == nil {
			db, ent = e.randomKey(false)
		}
		return db, ent
	case VolatileRandom, AllKeysRandom:
		return e.randomKey(e.limit.policy == VolatileRandom)
	case VolatileTTL: // the heaps know
		var at int64
		for i, ks := range e.dbs {
			if ks.expires() > 0 && (ent == nil || ks.volatile.at(1).at < at) {
				db, ent, at = i, ks.volatile.at(1).ent, ks.volatile.at(1).at
			}
		}
		return db, ent
	case AllKeysLRU, AllKeysLFU, VolatileLRU, VolatileLFU:
		for e.samplePool(); len(e.limit.pool) > 0; {
			last := len(e.limit.pool) - 1
			c := e.limit.pool[last]
			e.limit.pool[last] = candidate{}
			e.limit.pool = e.limit.pool[:last]
			ent := e.dbs[c.db].keys.find(bytesOf(c.key))
			if ent != nil && (ent.val.vol != 0 || !e.limit.policy.volatileOnly()) {
				return c.db, ent
			}
			if last == 0 {
				e.samplePool()
			}
		}
	}
	return 0, nil
}

// randomKey draws a key from the databases, each by turn.
func (e *Engine) randomKey(withTTL bool) (int, *entry) {
	start := rand.IntN(len(e.dbs))
	for n := range e.dbs {
		i := (start + n) % len(e.dbs)
		if ent := e.dbs[i].randomKey(withTTL); ent != nil {
			return i, ent
		}
	}
	return 0, nil
}

// randomKey draws a key, nil if there is none.
func (ks *keyspace) randomKey(withTTL bool) *entry {
	if !withTTL {
		return ks.keys.random()
	}
	if n := ks.expires(); n > 0 {
		return ks.volatile.at(1 + rand.IntN(n)).ent
	}
	return nil
}

// samplePool looks at some keys of each database and keeps the best to evict.
func (e *Engine) samplePool() {
	l, now := &e.limit, e.now()
	for i, ks := range e.dbs {
		for range min(e.limit.samples, evictSamplesMost) {
			ent := ks.randomKey(l.policy.volatileOnly())
			if ent == nil {
				break
			}
			c := candidate{db: i, score: ent.val.idle(now)}
			if l.policy.lfu() {
				c.score = 255 - int64(ent.val.frequency(now, l.lfuDecay))
			}
			if len(l.pool) == evictPool && c.score <= l.pool[0].score ||
				slices.ContainsFunc(l.pool, func(o candidate) bool { return o.db == i && o.key == ent.key }) {
				continue
			}
			c.key = ent.key
			at, _ := slices.BinarySearchFunc(l.pool, c, func(a, b candidate) int { return int(a.score - b.score) })
			if len(l.pool) == evictPool {
				l.pool = slices.Delete(l.pool, 0, 1)
				at--
			}
			l.pool = slices.Insert(l.pool, at, c)
		}
	}
}

// --- how much keys are used ---

// object.lru is the unix second of the last access or, under the LFU policies as in Redis, the minute of the last access
// (16 bits) and a counter that grows with the logarithm of accesses (8 bits).
const (
	lfuStart = 5 // of a new key, so that it isn't evicted at once
	// Redis's defaults of lfu-log-factor and lfu-decay-time.
	lfuLogFactor = 10
	lfuDecayTime = 1
)

func lfuMinutes(now int64) uint32 { return uint32(now/60000) & 0xffff }

// used notes an access to the key.
func (x *call) used(o *object) {
	if x.e.limit.policy.lfu() {
		o.count(x.now, &x.e.limit)
		return
	}
	if t := uint32(x.now / 1000); o.lru.Load() != t {
		o.lru.Store(t)
	}
}

// fresh is what a new key's lru is.
func (e *Engine) fresh(now int64) uint32 {
	if e.limit.policy.lfu() {
		return lfuMinutes(now)<<8 | lfuStart
	}
	return uint32(now / 1000)
}

// idle is the milliseconds since the last access.
func (o *object) idle(now int64) int64 { return max(now/1000-int64(o.lru.Load()), 0) * 1000 }

// frequency is the counter, less one for each decay minutes without an access; with 0 it stays.
func (o *object) frequency(now, decay int64) uint32 {
	v := o.lru.Load()
	if decay == 0 {
		return v & 0xff
	}
	idle := (lfuMinutes(now) - v>>8) & 0xffff
	return v&0xff - min(v&0xff, idle/uint32(decay))
}

func (o *object) count(now int64, l *memoryLimit) {
	n := o.frequency(now, l.lfuDecay)
	if n < 255 && rand.Float64()*float64(max(int64(n)-lfuStart, 0)*l.lfuLog+1) < 1 {
		n++
	}
	if v := lfuMinutes(now)<<8 | n; v != o.lru.Load() {
		o.lru.Store(v)
	}
}
