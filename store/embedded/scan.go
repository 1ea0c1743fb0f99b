package embedded

import (
	"bytes"
	"math"
	"strconv"
)

func scanCommands() []registration {
	return []registration{
		{name: "scan", handle: scanCommand},
		{name: "keys", handle: keysCommand},
		{name: "randomkey", handle: randomkeyCommand},
		{name: "dbsize", handle: func(x *call) { x.int(int64(x.db.len())) }},
	}
}

// scanOptions of SCAN, HSCAN, SSCAN and ZSCAN.
type scanOptions struct {
	cursor  uint64
	count   int    // 10 unless given
	pattern []byte // nil: everything
	kind    []byte // TYPE, of SCAN only
}

// scanOptions reads "cursor [MATCH pattern] [COUNT n] [TYPE t]"; ok=false has replied the error.
func (x *call) scanOptions(args [][]byte) (o scanOptions, ok bool) {
	if o.cursor, ok = x.scanCursor(args[0]); !ok {
		return o, false
	}
	o.count = 10
	for args = args[1:]; len(args) > 0; args = args[2:] {
		if len(args) < 2 {
			x.syntax()
			return o, false
		}
		switch {
		case is(args[0], "COUNT"):
			n, ok := x.argInt(args[1])
			if !ok {
				return o, false
			}
			if n < 1 {
				x.syntax()
				return o, false
			}
			o.count = int(min(n, math.MaxInt/scanEffort))
		case is(args[0], "MATCH"):
			o.pattern = args[1]
			if string(o.pattern) == "*" {
				o.pattern = nil
			}
		case is(args[0], "TYPE") && x.spec.Name == "scan":
			o.kind = args[1]
		default:
			x.syntax()
			return o, false
		}
	}
	return o, true
}

// scanCursor reads a cursor as strtoul does, but without spaces or anything behind the number: the text ends at a zero
// byte, and nothing is 0.
func (x *call) scanCursor(b []byte) (uint64, bool) {
	if b, _, _ = bytes.Cut(b, []byte{0}); len(b) == 0 {
		return 0, true
	}
	digits, negative := bytes.CutPrefix(b, []byte("-"))
	if !negative {
		digits = bytes.TrimPrefix(b, []byte("+"))
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if negative {
		n = -n
	}
	if err != nil {
		x.err("ERR invalid cursor")
		return 0, false
	}
	return n, true
}

// matches applies MATCH.
func (o *scanOptions) matches(b []byte) bool {
	return o.pattern == nil || match(o.pattern, b, false)
}

// scanHeader replies the beginning of a SCAN's answer: the next cursor, and n elements to follow.
func (x *call) scanHeader(cursor uint64, n int) {
	var scratch [20]byte
	x.array(2)
	x.bulk(strconv.AppendUint(scratch[:0], cursor, 10))
	x.array(n)
}

// scanEffort is how many empty buckets a SCAN visits for each key it was asked for.
const scanEffort = 10

func scanCommand(x *call) {
	o, ok := x.scanOptions(x.args[1:])
	if !ok {
		return
	}
	var found []*entry
	cursor := o.cursor
	// What was met counts, not what was let through: COUNT bounds the work.
	met := 0
	for left := o.count * scanEffort; ; {
		cursor = x.db.keys.scan(cursor, func(ent *entry) {
			met++
			if !o.matches(bytesOf(ent.key)) || o.kind != nil && !bytes.EqualFold(o.kind, []byte(ent.val.kind.String())) {
				return
			}
			if ent.val.vol != 0 && x.expired(ent) {
				x.lapsed = true
				return
			}
			found = append(found, ent)
		})
		if left--; cursor == 0 || left == 0 || met >= o.count {
			break
		}
	}
	x.scanHeader(cursor, len(found))
	for _, ent := range found {
		x.bulkString(ent.key)
	}
}

func keysCommand(x *call) {
	all := scanOptions{pattern: x.args[1]}
	if string(all.pattern) == "*" {
		all.pattern = nil
	}
	var found []*entry
	x.db.keys.each(func(ent *entry) bool {
		switch {
		case !all.matches(bytesOf(ent.key)):
		case ent.val.vol != 0 && x.expired(ent):
			x.lapsed = true
		default:
			found = append(found, ent)
		}
		return true
	})
	x.array(len(found))
	for _, ent := range found {
		x.bulkString(ent.key)
	}
}

// randomTries bounds the search for a key that isn't expired.
const randomTries = 100

func randomkeyCommand(x *call) {
	for range randomTries {
		ent := x.db.keys.random()
		if ent == nil {
			break
		}
		if ent.val.vol == 0 || !x.expired(ent) {
			x.bulkString(ent.key)
			return
		}
		x.lapsed = true
	}
	x.null()
}
