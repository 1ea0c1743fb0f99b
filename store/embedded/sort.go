package embedded

import (
	"bytes"
	"cmp"
	"slices"
)

// sortOptions are what SORT and SORT_RO take.
type sortOptions struct {
	by            []byte
	get           [][]byte
	desc, alpha   bool
	start, count  int64
	store         []byte
	dontSort      bool // BY without a *
	storing, byOn bool
}

func (x *call) sortOptions(args [][]byte) (o sortOptions, ok bool) {
	o.count = -1
	for ; len(args) > 0; args = args[1:] {
		left := len(args) - 1
		switch a := args[0]; {
		case is(a, "ASC"):
			o.desc = false
		case is(a, "DESC"):
			o.desc = true
		case is(a, "ALPHA"):
			o.alpha = true
		case is(a, "LIMIT") && left >= 2:
			if o.start, o.count, ok = x.argPair(args[1], args[2]); !ok {
				return o, false
			}
			args = args[2:]
		case is(a, "STORE") && left >= 1 && x.spec.Name == "sort":
			o.store, o.storing = args[1], true
			args = args[1:]
		case is(a, "BY") && left >= 1:
			o.by, o.byOn = args[1], true
			o.dontSort = bytes.IndexByte(o.by, '*') < 0
			args = args[1:]
		case is(a, "GET") && left >= 1:
			o.get = append(o.get, args[1])
			args = args[1:]
		default:
			x.syntax()
			return o, false
		}
	}
	return o, true
}

// sortItem is an element with what it is compared by.
type sortItem struct {
	value []byte
	score float64
	alpha []byte // nil: BY's key is missing
}

func sortCommand(x *call) {
	opts, ok := x.sortOptions(x.args[2:])
	if !ok {
		return
	}
	o := x.read(x.args[1])
	if o != nil && o.kind != kindList && o.kind != kindSet && o.kind != kindZSet {
		x.wrongType()
		return
	}
	if o != nil && o.kind == kindZSet {
		// Redis does so too, even for SORT_RO: OBJECT ENCODING shows it.
		o.zset().grow(x.seed())
		x.db.account(o)
	}
	if opts.dontSort && o != nil && o.kind == kindSet && opts.storing {
		// What is stored must be the same on every replica, but a set has no order: sort it after all.
		opts.dontSort, opts.alpha, opts.byOn = false, true, false
	}
	items := sortItems(o, opts)
	if !opts.dontSort {
		if !x.sortKeys(items, &opts) {
			x.err("ERR One or more scores can't be converted into double")
			return
		}
		opts.sort(items)
	}
	from, to := opts.window(len(items))
	x.sorted(items[from:to], &opts)
}

// sortItems copies the elements in the order in which BY without a * leaves them.
func sortItems(o *object, opts sortOptions) (items []sortItem) {
	if o == nil {
		return nil
	}
	items = make([]sortItem, 0, o.container().len())
	add := func(v lpValue) bool {
		items = append(items, sortItem{value: v.appendTo([]byte{})})
		return true
	}
	switch o.kind {
	case kindList:
		o.list().each(add)
	case kindSet:
		o.set().each(add)
	case kindZSet:
		o.zset().each(func(m lpValue, _ float64) bool { return add(m) })
	}
	if opts.storing && opts.alpha && opts.byOn && o.kind == kindSet {
		// Ties stay in the order they come in, and that of a set isn't the same on every replica.
		slices.SortFunc(items, func(a, b sortItem) int { return bytes.Compare(a.value, b.value) })
	}
	if opts.dontSort && opts.desc && o.kind != kindSet {
		slices.Reverse(items)
	}
	return items
}

// sortKeys fills in what the items are compared by; false when a number isn't one.
func (x *call) sortKeys(items []sortItem, opts *sortOptions) bool {
	for i := range items {
		it := &items[i]
		by := it.value
		if opts.byOn {
			if by = x.pattern(opts.by, it.value); by == nil {
				continue
			}
		}
		if opts.alpha {
			it.alpha = by
			continue
		}
		var exact, ok bool
		if it.score, exact, ok = strtod(by); !ok || !exact {
			return false
		}
	}
	return true
}

func (o *sortOptions) sort(items []sortItem) {
	slices.SortStableFunc(items, func(a, b sortItem) int {
		var c int
		switch {
		case !o.alpha:
			if c = cmp.Compare(a.score, b.score); c == 0 {
				c = bytes.Compare(a.value, b.value)
			}
		case a.alpha == nil || b.alpha == nil:
			switch {
			case a.alpha != nil:
				c = 1
			case b.alpha != nil:
				c = -1
			}
		default:
			c = bytes.Compare(a.alpha, b.alpha)
		}
		if o.desc {
			return -c
		}
		return c
	})
}

// window is the part of n elements that LIMIT leaves.
func (o *sortOptions) window(n int) (from, to int) {
	start := min(max(o.start, 0), int64(n))
	if o.count < 0 {
		return int(start), n
	}
	return int(start), int(start + min(o.count, int64(n)-start))
}

// sorted replies or stores the result.
func (x *call) sorted(items []sortItem, opts *sortOptions) {
	n := len(items) * max(len(opts.get), 1)
	if opts.storing {
		l := newList()
		for _, it := range items {
			if len(opts.get) == 0 {
				l.pushBack(it.value)
			}
			for _, g := range opts.get {
				l.pushBack(x.pattern(g, it.value))
			}
		}
		if n > 0 {
			if !x.room(int64(l.memory())) {
				return
			}
			x.replace(opts.store, listPayload(l), false)
			x.notify(eventList, "sortstore", opts.store)
			x.dirty += n
		} else if x.remove(opts.store) {
			x.notify(eventGeneric, "del", opts.store)
			x.dirty++
		}
		x.int(int64(n))
		return
	}
	x.array(n)
	for _, it := range items {
		if len(opts.get) == 0 {
			x.bulk(it.value)
		}
		for _, g := range opts.get {
			if v := x.pattern(g, it.value); v != nil {
				x.bulk(v)
			} else {
				x.null()
			}
		}
	}
}

// pattern looks up what BY or GET name for an element: "#" is the element itself, "key_*" the string of that key,
// "key_*->field" a field of that hash. nil if there is none.
func (x *call) pattern(p, elem []byte) []byte {
	if string(p) == "#" {
		return elem
	}
	star := bytes.IndexByte(p, '*')
	if star < 0 {
		return nil
	}
	before, after := p[:star], p[star+1:]
	var field []byte
	if arrow := bytes.Index(after, []byte("->")); arrow >= 0 && arrow+2 < len(after) {
		after, field = after[:arrow], after[arrow+2:]
	}
	key := slices.Concat(before, elem, after)
	o := x.read(key)
	switch {
	case o == nil:
	case field != nil && o.kind == kindHash:
		if v, ok := o.hash().get(field); ok {
			return v.appendTo([]byte{})
		}
	case field == nil && o.kind == kindString:
		return o.appendString([]byte{})
	}
	return nil
}
