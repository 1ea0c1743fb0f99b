package embedded

import "encoding/binary"

func hyperLogLogCommands() []registration {
	return []registration{
		{name: "pfadd", handle: pfaddCommand},
		{name: "pfcount", handle: pfcountCommand, lock: lockExclusive}, // it keeps the count in the value
		{name: "pfmerge", handle: pfmergeCommand},
	}
}

const errHLLCorrupt = "INVALIDOBJ Corrupted HLL object detected"

// hllOf is the HyperLogLog of an object that may be nil; ok=false has replied the error.
func (x *call) hllOf(o *object) (h hyperLogLog, ok bool) {
	switch {
	case o == nil:
		return nil, true
	case o.kind != kindString:
		x.wrongType()
		return nil, false
	case o.enc == encInt || !hyperLogLog(o.raw()).valid():
		x.err("WRONGTYPE Key is not a valid HyperLogLog string value.")
		return nil, false
	}
	return o.raw(), true
}

// setHLL stores a changed value.
func (x *call) setHLL(key []byte, o *object, h hyperLogLog) {
	if o == nil {
		x.add(key, bytesPayload(h, encRaw))
		return
	}
	o.put(bytesPayload(h, encRaw))
	x.touch(key, o)
}

func pfaddCommand(x *call) {
	key := x.args[1]
	o := x.write(key)
	h, ok := x.hllOf(o)
	if !ok {
		return
	}
	updated := 0
	if o == nil {
		h = newHyperLogLog()
		updated++
	}
	for _, elem := range x.args[2:] {
		i, v := hllPlace(elem)
		var changed bool
		if h, changed, ok = h.raise(i, v); !ok {
			x.setHLL(key, o, h)
			x.err(errHLLCorrupt)
			return
		}
		if changed {
			updated++
		}
	}
	if updated > 0 {
		h.outdate()
		x.setHLL(key, o, h)
		x.notify(eventString, "pfadd", key)
		x.dirty += updated
	}
	x.boolean(updated > 0)
}

// hllUnion takes into max the registers of the keys; dense tells whether one of them is. ok=false has replied the error.
func (x *call) hllUnion(max *[hllRegisters]byte, keys [][]byte) (dense, ok bool) {
	for _, key := range keys {
		h, ok := x.hllOf(x.read(key))
		if !ok {
			return false, false
		}
		if h == nil {
			continue
		}
		dense = dense || h.dense()
		if !h.each(func(first, n int, v byte) {
			for i := first; i < first+n; i++ {
				if v > max[i] {
					max[i] = v
				}
			}
		}) {
			x.err(errHLLCorrupt)
			return false, false
		}
	}
	return dense, true
}

func pfcountCommand(x *call) {
	var histogram [64]int
	if len(x.args) > 2 {
		var max [hllRegisters]byte
		if _, ok := x.hllUnion(&max, x.args[1:]); ok {
			for _, v := range max {
				histogram[v]++
			}
			x.int(int64(hllCount(&histogram)))
		}
		return
	}
	key := x.args[1]
	o := x.read(key)
	h, ok := x.hllOf(o)
	if !ok {
		return
	}
	if o == nil {
		x.int(0)
		return
	}
	if n, ok := h.cached(); ok {
		x.int(int64(n))
		return
	}
	if !h.each(func(_, n int, v byte) { histogram[v] += n }) {
		x.err(errHLLCorrupt)
		return
	}
	n := hllCount(&histogram)
	if o = x.write(key); o != nil {
		binary.LittleEndian.PutUint64(o.raw()[8:], n)
		o.put(bytesPayload(o.raw(), encRaw))
		x.touch(key, o)
		x.dirty++ // replicas get it too
	}
	x.int(int64(n))
}

func pfmergeCommand(x *call) {
	var max [hllRegisters]byte
	dense, ok := x.hllUnion(&max, x.args[1:])
	if !ok {
		return
	}
	key := x.args[1]
	o := x.write(key)
	h := newHyperLogLog()
	if o != nil {
		h = o.raw()
	}
	if dense {
		if h, ok = h.toDense(); !ok {
			x.err(errHLLCorrupt)
			return
		}
	}
	for i, v := range max {
		if v > 0 {
			h, _, _ = h.raise(i, v)
		}
	}
	h.outdate()
	x.setHLL(key, o, h)
	x.notify(eventString, "pfadd", key)
	x.dirty++
	x.ok()
}
