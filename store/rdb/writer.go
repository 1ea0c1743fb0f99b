package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// A Writer writes an RDB file, key by key, collections element by element and long strings piece by piece:
// what it holds in memory is one buffer, however big the data. The first error
// of the underlying writer, or of wrong use, sticks and is returned by every
// later call; so a loop may leave it to Close.
//
//	w := rdb.NewWriter(f, rdb.Aux{Key: "redis-ver", Value: "7.0.15"})
//	w.SelectDB(0, keys, expires)
//	w.WriteString(key, 0, value)
//	w.BeginHash(key, expireAt, 2)
//	w.Field(name1, value1)
//	w.Field(name2, value2)
//	err := w.Close()
type Writer struct {
	dst  io.Writer
	buf  []byte
	crc  uint64
	err  error
	open byte  // type of the value being written, when left > 0
	left int64 // elements of it, or bytes of a string, still to come
}

const writeBuffer = 64 << 10

var (
	errClosed = errors.New("rdb: writer is closed")
	errShort  = errors.New("rdb: collection has fewer elements than announced")
	errLong   = errors.New("rdb: element outside a collection, or of another type")
	errEmpty  = errors.New("rdb: a collection needs at least one element")
)

// NewWriter starts a file with the given auxiliary fields. It doesn't write to w
// before its buffer is full.
func NewWriter(w io.Writer, aux ...Aux) *Writer {
	rw := &Writer{dst: w, buf: make([]byte, 0, writeBuffer)}
	rw.buf = fmt.Appendf(rw.buf, "REDIS%04d", Version)
	for _, a := range aux {
		rw.byte(opAux)
		rw.string([]byte(a.Key))
		rw.string([]byte(a.Value))
	}
	return rw
}

// SelectDB says that the keys that follow belong to database n, which holds keys
// keys, expires of them with an expiry. The sizes let the reader's tables have
// the right size at once; they needn't be exact.
func (w *Writer) SelectDB(n, keys, expires int) error {
	if !w.between() {
		return w.err
	}
	w.byte(opSelectDB)
	w.length(uint64(n))
	w.byte(opResizeDB)
	w.length(uint64(max(keys, 0)))
	w.length(uint64(max(expires, 0)))
	return w.err
}

// WriteFunction writes the code of a function library. Libraries come before the first database.
func (w *Writer) WriteFunction(code []byte) error {
	if !w.between() {
		return w.err
	}
	w.byte(opFunction2)
	w.string(code)
	return w.err
}

// WriteString writes a key that holds a string.
func (w *Writer) WriteString(key []byte, expireAt int64, val []byte) error {
	w.key(typeString, key, expireAt)
	w.string(val)
	return w.err
}

// BeginString starts a key that holds a string of n bytes, to be given by Bytes
// in as many pieces as one likes. It must be too long to be an integer.
func (w *Writer) BeginString(key []byte, expireAt int64, n int) error {
	return w.begin(typeString, key, expireAt, n)
}

// BeginList starts a key that holds a list of n elements, to be given by Elem
// from head to tail.
func (w *Writer) BeginList(key []byte, expireAt int64, n int) error {
	return w.begin(typeList, key, expireAt, n)
}

// BeginSet starts a key that holds a set of n members, to be given by Elem.
func (w *Writer) BeginSet(key []byte, expireAt int64, n int) error {
	return w.begin(typeSet, key, expireAt, n)
}

// BeginHash starts a key that holds a hash of n fields, to be given by Field.
func (w *Writer) BeginHash(key []byte, expireAt int64, n int) error {
	return w.begin(typeHash, key, expireAt, n)
}

// BeginZSet starts a key that holds a sorted set of n members, to be given by
// Member. Readers build their list fastest from the highest score down.
func (w *Writer) BeginZSet(key []byte, expireAt int64, n int) error {
	return w.begin(typeZSet2, key, expireAt, n)
}

// Bytes writes the next bytes of a string.
func (w *Writer) Bytes(p []byte) error {
	if w.open != typeString || int64(len(p)) > w.left {
		w.fail(errLong)
	}
	if w.err == nil {
		w.left -= int64(len(p))
		w.raw(p)
	}
	return w.err
}

// Elem writes the next element of a list or set.
func (w *Writer) Elem(b []byte) error {
	if w.elem(w.open == typeList || w.open == typeSet) {
		w.string(b)
	}
	return w.err
}

// Field writes the next field of a hash.
func (w *Writer) Field(name, val []byte) error {
	if w.elem(w.open == typeHash) {
		w.string(name)
		w.string(val)
	}
	return w.err
}

// Member writes the next member of a sorted set.
func (w *Writer) Member(name []byte, score float64) error {
	if w.elem(w.open == typeZSet2) {
		w.string(name)
		w.flushFor(8)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, math.Float64bits(score))
	}
	return w.err
}

// WriteEntry writes a whole key. The database is the one selected, not e.DB.
func (w *Writer) WriteEntry(e Entry) error {
	switch v := e.Value.(type) {
	case String:
		return w.WriteString(e.Key, e.ExpireAt, v)
	case List:
		_ = w.BeginList(e.Key, e.ExpireAt, len(v)) // errors stick
		for _, b := range v {
			_ = w.Elem(b)
		}
	case Set:
		_ = w.BeginSet(e.Key, e.ExpireAt, len(v))
		for _, b := range v {
			_ = w.Elem(b)
		}
	case Hash:
		_ = w.BeginHash(e.Key, e.ExpireAt, len(v))
		for _, f := range v {
			_ = w.Field(f.Name, f.Value)
		}
	case ZSet:
		_ = w.BeginZSet(e.Key, e.ExpireAt, len(v))
		for _, m := range v {
			_ = w.Member(m.Name, m.Score)
		}
	case *Stream:
		return w.WriteStream(e.Key, e.ExpireAt, v)
	default:
		w.fail(fmt.Errorf("rdb: can't write a %T", v))
	}
	return w.err
}

// Close ends the file with its checksum and hands the last bytes to the
// underlying writer, which it doesn't close.
func (w *Writer) Close() error {
	if !w.between() {
		return w.err
	}
	w.byte(opEOF)
	w.flush()
	if w.err == nil {
		_, w.err = w.dst.Write(binary.LittleEndian.AppendUint64(nil, w.crc))
	}
	if w.err != nil {
		return w.err
	}
	w.err = errClosed
	return nil
}

// begin writes the head of a collection.
func (w *Writer) begin(typ byte, key []byte, expireAt int64, n int) error {
	if n <= 0 {
		w.fail(errEmpty)
	}
	w.key(typ, key, expireAt)
	w.length(uint64(max(n, 0)))
	w.open, w.left = typ, int64(n)
	return w.err
}

// key writes what stands before a key's value.
func (w *Writer) key(typ byte, key []byte, expireAt int64) {
	if !w.between() {
		return
	}
	if expireAt != 0 {
		w.byte(opExpireMS)
		w.flushFor(8)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(expireAt))
	}
	w.byte(typ)
	w.string(key)
}

// between says whether a new record may start here.
func (w *Writer) between() bool {
	if w.left > 0 {
		w.fail(errShort)
	}
	return w.err == nil
}

// elem counts an element of the open collection.
func (w *Writer) elem(fits bool) bool {
	if w.left <= 0 || !fits {
		w.fail(errLong)
	}
	w.left--
	return w.err == nil
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *Writer) byte(b byte) {
	w.flushFor(1)
	w.buf = append(w.buf, b)
}

func (w *Writer) length(n uint64) {
	w.flushFor(9)
	switch {
	case n < 1<<6:
		w.buf = append(w.buf, byte(n))
	case n < 1<<14:
		w.buf = append(w.buf, 0x40|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, 0x80), uint32(n))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, 0x81), n)
	}
}

// string writes b, as an integer when that gives the same text back.
func (w *Writer) string(b []byte) {
	if len(b) <= 11 {
		if n, ok := compactInt(b); ok {
			w.int(n)
			return
		}
	}
	w.length(uint64(len(b)))
	w.raw(b)
}

func (w *Writer) raw(b []byte) {
	if len(b) <= cap(w.buf)-len(w.buf) {
		w.buf = append(w.buf, b...)
		return
	}
	w.flush()
	if len(b) < cap(w.buf) {
		w.buf = append(w.buf, b...)
		return
	}
	if w.err == nil { // too big for the buffer: straight through
		w.crc = CRC64(w.crc, b)
		_, w.err = w.dst.Write(b)
	}
}

func (w *Writer) int(n int32) {
	w.flushFor(5)
	switch {
	case n >= math.MinInt8 && n <= math.MaxInt8:
		w.buf = append(w.buf, 0xc0|encInt8, byte(n))
	case n >= math.MinInt16 && n <= math.MaxInt16:
		w.buf = binary.LittleEndian.AppendUint16(append(w.buf, 0xc0|encInt16), uint16(n))
	default:
		w.buf = binary.LittleEndian.AppendUint32(append(w.buf, 0xc0|encInt32), uint32(n))
	}
}

// flushFor makes room for n more bytes in the buffer.
func (w *Writer) flushFor(n int) {
	if cap(w.buf)-len(w.buf) < n {
		w.flush()
	}
}

func (w *Writer) flush() {
	if w.err == nil && len(w.buf) > 0 {
		w.crc = CRC64(w.crc, w.buf)
		_, w.err = w.dst.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// compactInt parses b when it is the canonical decimal text of a 32-bit integer.
func compactInt(b []byte) (int32, bool) {
	if len(b) == 0 || b[0] != '-' && (b[0] < '0' || b[0] > '9') {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil {
		return 0, false
	}
	var text [11]byte
	return int32(n), string(strconv.AppendInt(text[:0], n, 10)) == string(b)
}
