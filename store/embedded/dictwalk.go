package embedded

// dictWalk takes all values of a dict as they were when it began, in any order, a few buckets at a time while the dict is
// changed: who changes a bucket that hasn't been taken takes it first.
type dictWalk[T any] struct {
	d             *dict[T]
	take          func(T)
	table, bucket int // what is before has been taken
	early         map[dictPlace]struct{}
}

type dictPlace struct{ table, bucket int }

// beginWalk begins a walk, the only one of the dict. From now on take is called with each value, also by who changes the dict.
func (d *dict[T]) beginWalk(take func(T)) *dictWalk[T] {
	d.walk = &dictWalk[T]{d: d, take: take, early: map[dictPlace]struct{}{}}
	return d.walk
}

func (w *dictWalk[T]) end() { w.d.walk = nil }

// before takes the buckets in which a key with this hash could be.
func (w *dictWalk[T]) before(hash uint64) {
	for t, table := range w.d.tables {
		if table == nil {
			break
		}
		at := dictPlace{t, int(hash & uint64(len(table)-1))}
		if at.table < w.table || at.table == w.table && at.bucket < w.bucket {
			continue
		}
		if _, done := w.early[at]; !done {
			w.early[at] = struct{}{}
			table[at.bucket].visit(w.take)
		}
	}
}

// next takes the next bucket and tells whether there may be more.
func (w *dictWalk[T]) next() bool {
	if w.table == len(w.d.tables) {
		return false
	}
	table := w.d.tables[w.table]
	if w.bucket == len(table) {
		w.table, w.bucket = w.table+1, 0
		return w.table < len(w.d.tables)
	}
	at := dictPlace{w.table, w.bucket}
	w.bucket++
	if _, done := w.early[at]; done {
		delete(w.early, at)
	} else {
		table[at.bucket].visit(w.take)
	}
	return true
}
