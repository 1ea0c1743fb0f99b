package embedded

import (
	"fmt"
	"io"
	"strconv"

	"respmesh/store/rdb"
)

const (
	// A batch of readAhead has as many keys as fit into so many bytes of the file, and at least one.
	aheadBytes = 64 << 10
	// aheadBatches is how many batches wait to be placed.
	aheadBatches = 2
)

// readAhead decodes a snapshot in a goroutine of its own, while fn is given what was decoded. It ends with the file or the first error,
// and not before that goroutine.
func readAhead(rd *rdb.Reader, fn func(*rdb.Entry) error) error {
	batches, spare := make(chan []rdb.Entry, aheadBatches), make(chan []rdb.Entry, aheadBatches+1)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(batches)
		ended <- decodeInto(rd, batches, spare, stop)
	}()
	var err error
	for batch := range batches {
		for i := range batch {
			if err != nil {
				break
			}
			if err = fn(&batch[i]); err != nil {
				close(stop)
			}
		}
		clear(batch)
		select {
		case spare <- batch[:0]:
		default:
		}
	}
	if failed := <-ended; err == nil {
		err = failed
	}
	return err
}

// decodeInto fills batches, with the memory of spare ones, until the end of the file, an error, or stop.
func decodeInto(rd *rdb.Reader, batches chan<- []rdb.Entry, spare <-chan []rdb.Entry, stop <-chan struct{}) error {
	for {
		var batch []rdb.Entry
		select {
		case batch = <-spare:
		default:
		}
		var err error
		for from := rd.Offset(); err == nil && rd.Offset()-from < aheadBytes; {
			var ent rdb.Entry
			if ent, err = rd.Next(); err == nil {
				batch = append(batch, ent)
			}
		}
		if len(batch) > 0 {
			select {
			case batches <- batch:
			case <-stop:
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// place adds a key of a snapshot.
func place(dbs []*keyspace, ent *rdb.Entry, seed uint64, lru uint32) error {
	if ent.DB < 0 || ent.DB >= len(dbs) {
		return fmt.Errorf("the snapshot has a database %d, this engine only %d: %w", ent.DB, len(dbs), rdb.ErrUnsupported)
	}
	ks := dbs[ent.DB]
	if ks.keys.find(ent.Key) != nil {
		return fmt.Errorf("key %.64q twice: %w", ent.Key, rdb.ErrCorrupt)
	}
	o := ks.add(ent.Key, payloadOf(ent.Value, seed), lru)
	if ent.ExpireAt != 0 {
		ks.setExpire(o, ent.ExpireAt)
	}
	return nil
}

// Restore replaces everything by an RDB. Clients read the old data until the new are complete; if r isn't a good
// RDB to its end, the old data stay.
func (e *Engine) Restore(r io.Reader) error {
	e.mu.RLock()
	lru, seed := e.fresh(e.now()), e.opts.HashSeed
	e.mu.RUnlock()
	dbs := make([]*keyspace, len(e.dbs))
	for i := range dbs {
		dbs[i] = newKeyspace(seed)
	}
	rd := rdb.NewReader(r)
	if err := readAhead(rd, func(ent *rdb.Entry) error { return place(dbs, ent, seed, lru) }); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	selected := 0
	if v, ok := rd.Aux(streamDB); ok {
		if n, err := strconv.Atoi(v); err == nil && n >= 0 && n < len(dbs) {
			selected = n
		}
	}
	e.lock()
	defer e.unlock()
	if err := e.restoreAll(rd.Functions()); err != nil {
		return fmt.Errorf("restore functions: %w", err)
	}
	e.invalidateAll()
	for i, ks := range dbs {
		e.touchedAll(i, e.dbs[i], ks)
		e.dbs[i] = ks
	}
	e.effects.forget()
	e.stream.discard()
	e.stream.db = selected
	return nil
}

// payloadOf builds a value from the snapshot's; what is in v becomes the engine's.
func payloadOf(v rdb.Value, seed uint64) payload {
	switch v := v.(type) {
	case rdb.List:
		l := newList()
		for _, e := range v {
			l.pushBack(e)
		}
		return listPayload(l)
	case rdb.Set:
		s := newSet()
		for _, m := range v {
			s.add(m, seed)
		}
		return setPayload(s)
	case rdb.Hash:
		h := newHash()
		for _, f := range v {
			h.set(f.Name, f.Value, seed)
		}
		return hashPayload(h)
	case rdb.ZSet:
		z := newZSet()
		for _, m := range v {
			z.set(m.Name, m.Score, seed)
		}
		return zsetPayload(z)
	case *rdb.Stream:
		return streamPayload(streamFromRDB(v))
	case rdb.String:
		if n, ok := stringInt(v); ok {
			return intPayload(n)
		}
		return bytesPayload(v, encodingFor(len(v)))
	}
	panic(fmt.Sprintf("embedded: value of type %T", v))
}
