package embedded

import (
	"bytes"
	"cmp"
	"math"
	"strconv"

	"respmesh/resp/frame"
)

// streamID names an entry of a stream: a time in ms and a number within it.
type streamID struct{ ms, seq uint64 }

var streamMax = streamID{math.MaxUint64, math.MaxUint64}

const errStreamID = "ERR Invalid stream ID specified as stream command argument"

func (id streamID) compare(o streamID) int {
	if c := cmp.Compare(id.ms, o.ms); c != 0 {
		return c
	}
	return cmp.Compare(id.seq, o.seq)
}

func (id streamID) before(o streamID) bool { return id.compare(o) < 0 }

func (id streamID) zero() bool { return id == streamID{} }

// next is the id that follows; ok is false after the last.
func (id streamID) next() (n streamID, ok bool) {
	if id == streamMax {
		return streamID{}, false
	}
	if id.seq == math.MaxUint64 {
		return streamID{id.ms + 1, 0}, true
	}
	return streamID{id.ms, id.seq + 1}, true
}

// prev is the id that precedes; ok is false before the first.
func (id streamID) prev() (p streamID, ok bool) {
	if id.zero() {
		return streamMax, false
	}
	if id.seq == 0 {
		return streamID{id.ms - 1, math.MaxUint64}, true
	}
	return streamID{id.ms, id.seq - 1}, true
}

func (id streamID) appendTo(dst []byte) []byte {
	dst = append(strconv.AppendUint(dst, id.ms, 10), '-')
	return strconv.AppendUint(dst, id.seq, 10)
}

// idArg formats an id for propagate.
func idArg(id streamID) []byte { return id.appendTo(make([]byte, 0, 24)) }

// streamID replies an id.
func (x *call) streamID(id streamID) {
	var scratch [44]byte
	x.bulk(id.appendTo(scratch[:0]))
}

// idForm says which ids are taken.
type idForm struct {
	missing uint64 // the number of an id without one
	edges   bool   // "-" and "+" too
	auto    bool   // "ms-*" too
}

// parse reads an id; auto tells that it was "ms-*".
func (f idForm) parse(b []byte) (id streamID, auto, ok bool) {
	if len(b) > 127 {
		return id, false, false
	}
	b, _, _ = bytes.Cut(b, []byte{0}) // to Redis, it is a C string
	switch string(b) {
	case "-":
		return id, false, f.edges
	case "+":
		return streamMax, false, f.edges
	}
	ms, seq, both := bytes.Cut(b, []byte("-"))
	if id.ms, ok = parseUint(ms); !ok {
		return id, false, false
	}
	switch {
	case !both:
		id.seq = f.missing
	case f.auto && string(seq) == "*":
		return id, true, true
	default:
		id.seq, ok = parseUint(seq)
	}
	return id, false, ok
}

// parseUint reads a number as Redis's string2ull: what isn't a plain integer goes to C's strtoull, which takes spaces in
// front, a sign and zeros.
func parseUint(b []byte) (uint64, bool) {
	if n, ok := frame.ParseInt(b); ok {
		return uint64(n), n >= 0
	}
	b = bytes.TrimLeft(b, " \t\n\v\f\r")
	negative := len(b) > 0 && b[0] == '-'
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		b = b[1:]
	}
	if len(b) == 0 || b[0] < '0' || b[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if negative {
		n = -n
	}
	return n, err == nil
}

// argID reads an id that is neither "-" nor "+"; ok=false has replied the error.
func (x *call) argID(b []byte) (id streamID, ok bool) {
	if id, _, ok = (idForm{}).parse(b); !ok {
		x.err(errStreamID)
	}
	return id, ok
}

// argIDs reads the ids of a command all or none.
func (x *call) argIDs(args [][]byte) (ids []streamID, ok bool) {
	ids = make([]streamID, len(args))
	for i, a := range args {
		if ids[i], ok = x.argID(a); !ok {
			return nil, false
		}
	}
	return ids, true
}

// argStart and argEnd read the ends of an interval: "-", "+", an id, or "(id" for those beyond it.
func (x *call) argStart(b []byte) (id streamID, ok bool) {
	id, open, ok := x.argBound(b, 0)
	if ok && open {
		if id, ok = id.next(); !ok {
			x.err("ERR invalid start ID for the interval")
		}
	}
	return id, ok
}

func (x *call) argEnd(b []byte) (id streamID, ok bool) {
	id, open, ok := x.argBound(b, math.MaxUint64)
	if ok && open {
		if id, ok = id.prev(); !ok {
			x.err("ERR invalid end ID for the interval")
		}
	}
	return id, ok
}

func (x *call) argBound(b []byte, missing uint64) (id streamID, open, ok bool) {
	open = len(b) > 1 && b[0] == '('
	if open {
		b = b[1:]
	}
	if id, _, ok = (idForm{missing: missing, edges: !open}).parse(b); !ok {
		x.err(errStreamID)
	}
	return id, open, ok
}
