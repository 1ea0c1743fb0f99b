package embedded

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"

	"respmesh/store/rdb"
)

// snapshot writes the data as they were at one moment, while commands go on. It walks the tables in slices under the
// write lock; who is about to change or delete a key that the walk hasn't reached has it written first (the
// barrier). object.mark tells what has been written; keys added since carry it from the beginning. The
// tables don't resize meanwhile. A database that is flushed or replaced stays as it was for the walk.
type snapshot struct {
	mark uint32
	dbs  []*keyspace
	out  bytes.Buffer
	w    *rdb.Writer
	db   int // selected in w

	parts  []*part  // of big keys, written one after the other
	asides []*aside // small keys that wait for the part under way to end

	// where the walk is
	walk, table, bucket int
}

const (
	// A slice of a snapshot under the lock ends after so many bytes or so long.
	snapshotSlice     = 256 << 10
	snapshotSliceTime = 250 * time.Microsecond
	snapshotRest      = 4 // after so many it rests
)

// streamDB is the field of a snapshot that says which database the replication stream has selected at its moment.
const streamDB = "repl-stream-db"

// Snapshot writes an RDB of all databases to w. It calls at at the moment whose data these will be, when no command
// is under way and all effects so far are with the Sink; the next effect will start with SELECT. While w takes its
// time, commands go on. One snapshot is made at a time.
func (e *Engine) Snapshot(w io.Writer, at func()) error {
	e.snapshots.Lock()
	defer e.snapshots.Unlock()
	s := e.beginSnapshot(at)
	defer e.endSnapshot(s)
	var buf bytes.Buffer
	others := breath{e: e, commands: e.stats.commands.Load()}
	for more := true; more; {
		var err error
		began := time.Now()
		if more, err = e.snapshotSlice(s, &buf); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		others.take(time.Since(began))
		if _, err := w.Write(buf.Bytes()); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		buf.Reset()
	}
	return nil
}

// breath is how sessions get their turn between the slices of a walk.
type breath struct {
	e        *Engine
	slices   int
	commands int64 // executed when it last looked
}

// take is called after each slice, which had the lock for so long. Who waits for the lock goes first: who runs would get it again before those
// who have to be woken. And as long as there are commands the walk rests half of the time: a thread that takes all it can get is one that the
// kernel stops at any moment, also while it has the lock.
func (b *breath) take(held time.Duration) {
	for began := time.Now(); b.e.waits.Load() > 0 && time.Since(began) < held; {
		runtime.Gosched()
	}
	if b.slices++; b.slices%snapshotRest != 0 {
		return
	}
	if now := b.e.stats.commands.Load(); now != b.commands {
		b.commands = now
		time.Sleep(snapshotRest * min(held, snapshotSliceTime))
	}
}

func (e *Engine) beginSnapshot(at func()) *snapshot {
	e.lock()
	defer e.unlock()
	e.effects.flush()
	e.effects.forget()
	if at != nil {
		at()
	}
	e.snapMark++
	e.walks.Add(1)
	s := &snapshot{mark: e.snapMark, db: -1}
	aux := []rdb.Aux{
		{Key: "redis-ver", Value: redisVersion},
		{Key: "redis-bits", Value: "64"},
		{Key: "ctime", Value: fmt.Sprint(e.now() / 1000)},
	}
	if e.replica { // its stream goes on without a SELECT
		aux = append(aux, rdb.Aux{Key: streamDB, Value: strconv.Itoa(e.stream.db)})
	}
	s.w = rdb.NewWriter(&s.out, aux...)
	for _, lib := range e.functions.sorted() {
		if err := s.w.WriteFunction([]byte(lib.code)); err != nil {
			break // Close tells
		}
	}
	for i, ks := range e.dbs {
		s.dbs = append(s.dbs, ks)
		ks.snap, ks.snapDB = s, i
		ks.keys.paused++
	}
	return s
}

func (e *Engine) endSnapshot(s *snapshot) {
	e.lock()
	defer e.unlock()
	e.walks.Add(-1)
	for _, ks := range s.dbs {
		ks.snap = nil
		ks.keys.paused--
	}
	for _, p := range s.parts {
		p.finish()
	}
}

// snapshotSlice goes on with the walk, takes what has been written into buf, and tells whether there is more.
func (e *Engine) snapshotSlice(s *snapshot, buf *bytes.Buffer) (more bool, err error) {
	e.lock()
	defer e.unlock()
	for start, n := time.Now(), 0; ; n++ {
		if s.walk == len(s.dbs) && len(s.parts) == 0 && len(s.asides) == 0 {
			err := s.w.Close() // also the first of all errors before
			*buf, s.out = s.out, *buf
			return false, err
		}
		if s.out.Len() > snapshotSlice || n%16 == 15 && time.Since(start) > snapshotSliceTime {
			*buf, s.out = s.out, *buf
			return true, nil
		}
		s.step()
	}
}

// step writes the keys of one bucket, or some of what came in between.
func (s *snapshot) step() {
	switch {
	case len(s.asides) > 0 && !s.inPart():
		s.asidesStep()
		return
	case len(s.parts) > 0:
		s.partStep()
		return
	}
	ks := s.dbs[s.walk]
	table := ks.keys.table[s.table]
	if s.bucket == len(table) {
		s.bucket = 0
		if s.table++; s.table == len(ks.keys.table) {
			s.table = 0
			s.walk++
		}
		return
	}
	for ent := table[s.bucket]; ent != nil; ent = ent.next {
		if ent.val.mark != s.mark {
			s.write(ks, ent)
		}
	}
	s.bucket++
}

// barrier writes a key that is about to be changed, if the walk hasn't come to it.
func (ks *keyspace) barrier(ent *entry) {
	if ks.snap != nil && ent.val.mark != ks.snap.mark {
		ks.snap.write(ks, ent)
	}
}

// inPart tells whether a part of a key has been written, so that no other key can be now.
func (s *snapshot) inPart() bool { return len(s.parts) > 0 && s.parts[0].begun }

func (s *snapshot) selectDB(ks *keyspace) {
	if s.db != ks.snapDB {
		s.db = ks.snapDB
		_ = s.w.SelectDB(s.db, ks.len(), ks.expires())
	}
}

// write writes a key, or sees to it that it will be written as it is now.
func (s *snapshot) write(ks *keyspace, ent *entry) {
	o := &ent.val
	o.mark = s.mark
	if p := newPart(ks, ent); p != nil {
		s.parts = append(s.parts, p)
		return
	}
	if s.inPart() {
		s.setAside(ks, ent)
		return
	}
	s.selectDB(ks)
	s.value(bytesOf(ent.key), ks.expireAt(o), o)
}

func (s *snapshot) value(key []byte, at int64, o *object) {
	var a, b [24]byte
	elem := func(v lpValue) bool { return s.w.Elem(v.bytes(&a)) == nil }
	switch o.kind {
	case kindString:
		s.w.WriteString(key, at, o.raw0())
	case kindList:
		s.w.BeginList(key, at, o.list().len())
		o.list().each(elem)
	case kindSet:
		s.w.BeginSet(key, at, o.set().len())
		o.set().each(elem)
	case kindHash:
		s.w.BeginHash(key, at, o.hash().len())
		o.hash().each(func(f, v lpValue) bool { return s.w.Field(f.bytes(&a), v.bytes(&b)) == nil })
	case kindZSet:
		z := o.zset()
		s.w.BeginZSet(key, at, z.len())
		z.walk(z.len()-1, z.len(), true, func(m lpValue, score float64) bool { return s.w.Member(m.bytes(&a), score) == nil })
	case kindStream:
		s.w.WriteStream(key, at, o.stream().toRDB())
	}
}
