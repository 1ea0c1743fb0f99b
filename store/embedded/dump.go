package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"

	"respmesh/store/rdb"
)

func dumpCommands() []registration {
	return []registration{
		{name: "dump", handle: dumpCommand},
		{name: "restore", handle: restoreCommand},
	}
}

// A DUMP payload is what an RDB file says of a key, without the key: its type and value; then two bytes of version and the
// CRC-64 of all before it.
const (
	rdbMagic      = "REDIS0010"
	rdbEOF        = 0xff
	dumpFooter    = 2 + 8
	rdbTrailer    = 1 + 8 // EOF and checksum
	errDumpBad    = "ERR DUMP payload version or checksum are wrong"
	errRestoreBad = "ERR Bad data format"
)

func dumpCommand(x *call) {
	o := x.readQuietly(x.args[1])
	if o == nil {
		x.null()
		return
	}
	x.bulk(o.dump())
}

// dump writes the value as a file with one key of an empty name, and takes the value out.
func (o *object) dump() []byte {
	var file bytes.Buffer
	s := &snapshot{w: rdb.NewWriter(&file)}
	s.w.SelectDB(0, 1, 0)
	head := len(rdbMagic) + 2 + 3 // SELECTDB 0, RESIZEDB 1 0
	s.value(nil, 0, o)
	s.w.Close()
	b := file.Bytes()
	// The type, the empty name's length of one byte, the value.
	out := append([]byte{b[head]}, b[head+2:len(b)-rdbTrailer]...)
	out = binary.LittleEndian.AppendUint16(out, rdb.Version)
	return binary.LittleEndian.AppendUint64(out, rdb.CRC64(0, out))
}

// undump reads a payload; ok tells whether its frame is right, a nil value that what is inside isn't.
func undump(p []byte) (v rdb.Value, ok bool) {
	if len(p) < dumpFooter+1 {
		return nil, false
	}
	body, footer := p[:len(p)-dumpFooter], p[len(p)-dumpFooter:]
	if binary.LittleEndian.Uint16(footer) > rdb.Version ||
		binary.LittleEndian.Uint64(footer[2:]) != rdb.CRC64(0, p[:len(p)-8]) {
		return nil, false
	}
	file := append([]byte(rdbMagic), body[0], 0)
	file = append(file, body[1:]...)
	file = append(file, rdbEOF)
	file = append(file, make([]byte, 8)...) // no checksum
	rd := rdb.NewReader(bytes.NewReader(file))
	ent, err := rd.Next()
	if err != nil {
		return nil, true
	}
	if _, err := rd.Next(); !errors.Is(err, io.EOF) {
		return nil, true
	}
	return ent.Value, true
}

func restoreCommand(x *call) {
	key, payload := x.args[1], x.args[3]
	var replace, absolute bool
	idle, freq := int64(-1), int64(-1)
	for i := 4; i < len(x.args); i++ {
		last := i+1 == len(x.args)
		switch a := x.args[i]; {
		case is(a, "REPLACE"):
			replace = true
		case is(a, "ABSTTL"):
			absolute = true
		case is(a, "IDLETIME") && !last:
			i++
			n, ok := x.argInt(x.args[i])
			if !ok {
				return
			}
			if n < 0 {
				x.err("ERR Invalid IDLETIME value, must be >= 0")
				return
			}
			idle = n
		case is(a, "FREQ") && !last && idle == -1:
			i++
			n, ok := x.argInt(x.args[i])
			if !ok {
				return
			}
			if n < 0 || n > 255 {
				x.err("ERR Invalid FREQ value, must be >= 0 and <= 255")
				return
			}
			freq = n
		default:
			x.syntax()
			return
		}
	}
	old := x.write(key)
	if old != nil && !replace {
		x.err("BUSYKEY Target key name already exists.")
		return
	}
	ttl, ok := x.argInt(x.args[2])
	switch {
	case !ok:
		return
	case ttl < 0:
		x.err("ERR Invalid TTL value, must be >= 0")
		return
	}
	v, ok := undump(payload)
	if !ok {
		x.err(errDumpBad)
		return
	}
	if v == nil {
		x.err(errRestoreBad)
		return
	}
	if ttl != 0 && !absolute {
		ttl = min(ttl, math.MaxInt64-x.now) + x.now
	}
	if old != nil {
		x.remove(key)
		x.dirty++
	}
	if ttl != 0 && ttl <= x.now && !x.fromStream {
		if old != nil {
			x.notify(eventGeneric, "del", key)
			x.propagate([]byte("DEL"), key)
		}
		x.ok()
		return
	}
	o := x.add(key, payloadOf(v, x.e.opts.HashSeed))
	if ttl != 0 {
		x.db.setExpire(o, ttl)
	}
	switch lfu := x.e.limit.policy.lfu(); {
	case lfu && freq >= 0:
		o.lru.Store(lfuMinutes(x.now)<<8 | uint32(freq))
	case !lfu && idle >= 0:
		o.lru.Store(uint32(max(x.now/1000-idle, 0)))
	}
	x.notify(eventGeneric, "restore", key)
	x.dirty++
	if ttl != 0 && !absolute {
		args := [][]byte{[]byte("RESTORE"), key, strconv.AppendInt(nil, ttl, 10), payload, []byte("ABSTTL")}
		x.propagate(append(args, x.args[4:]...)...)
	}
	x.ok()
}
