package embedded

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"unsafe"
)

// hashValue is a hash: a listpack of field, value, field, value… while small, then a dict.
type hashValue struct {
	pack listpack // nil once big
	big  *bigHash
}

type bigHash struct {
	dict[hashField]
	fields int // memory of the fields
}

// hashField is a field and its value in one allocation: the field's length as a uvarint, the field, the value. It is a string since
// that is shorter than a slice; set overwrites a value by one of the same length, so nobody but the hash may keep it.
type hashField string

// Redis's defaults for hash-max-listpack-entries and -value.
const (
	hashPackEntries = 512
	hashPackValue   = 64
)

func newHashField(field, value []byte) hashField {
	b := make([]byte, 0, len(field)+len(value)+lenSize(len(field)))
	b = binary.AppendUvarint(b, uint64(len(field)))
	b = append(b, field...)
	b = append(b, value...)
	return hashField(unsafe.String(unsafe.SliceData(b), len(b)))
}

// lenSize is the size of n as a uvarint.
func lenSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

func (f hashField) split() (field, value []byte) {
	b := bytesOf(string(f))
	if n := int(b[0]); n < 0x80 {
		return b[1 : 1+n : 1+n], b[1+n:]
	}
	n, w := binary.Uvarint(b)
	return b[w : w+int(n) : w+int(n)], b[w+int(n):]
}

func hashFieldKey(f hashField) string {
	if n := int(f[0]); n < 0x80 {
		return string(f[1 : 1+n])
	}
	field, _ := f.split()
	return unsafe.String(unsafe.SliceData(field), len(field))
}

func newHash() *hashValue { return &hashValue{pack: newListpack()} }

func (h *hashValue) encoding() string {
	if h.big != nil {
		return "hashtable"
	}
	return "listpack"
}

func (h *hashValue) len() int {
	if h.big != nil {
		return h.big.len()
	}
	return h.pack.count() / 2
}

// memory is what the hash holds, in bytes.
func (h *hashValue) memory() int {
	n := int(unsafe.Sizeof(*h)) + cap(h.pack)
	if h.big != nil {
		n += 8 + h.big.overhead() + h.big.fields
	}
	return n
}

func (h *hashValue) clone() *hashValue {
	if h.big != nil {
		big := &bigHash{dict: *newDict(h.big.seed, h.len(), hashFieldKey), fields: h.big.fields}
		h.big.each(func(f hashField) bool {
			big.insert(hashField(strings.Clone(string(f))))
			return true
		})
		return &hashValue{big: big}
	}
	return &hashValue{pack: slices.Clone(h.pack)}
}

// get looks a field up. The value is good until the next change.
func (h *hashValue) get(field []byte) (lpValue, bool) {
	if h.big != nil {
		f := h.big.find(field)
		if f == nil {
			return lpValue{}, false
		}
		_, v := f.split()
		return lpValue{s: v}, true
	}
	p := h.pack.find(field, 2)
	if p < 0 {
		return lpValue{}, false
	}
	v, _ := lpDecode(h.pack, lpSkip(h.pack, p))
	return v, true
}

// fits tells whether these strings may be stored in a listpack.
func (h *hashValue) fits(args ...[]byte) bool {
	for _, a := range args {
		if len(a) > hashPackValue {
			return false
		}
	}
	return true
}

// set adds the field or changes its value.
func (h *hashValue) set(field, value []byte, seed uint64) (added bool) {
	if h.big == nil {
		if h.fits(field, value) {
			var scratch [2 * (hashPackValue + 10)]byte
			if p := h.pack.find(field, 2); p >= 0 {
				at := lpSkip(h.pack, p)
				h.pack = h.pack.splice(at, lpSkip(h.pack, at), lpAppend(scratch[:0], value), 0)
				return false
			}
			if h.len() < hashPackEntries {
				end := len(h.pack) - 1
				h.pack = h.pack.splice(end, end, lpAppend(lpAppend(scratch[:0], field), value), 2)
				return true
			}
		}
		h.grow(seed)
	}
	f := h.big.change(field)
	if f != nil && h.big.walk == nil { // a walk's fields must not change
		if _, old := f.split(); len(old) == len(value) {
			copy(old, value)
			return false
		}
	}
	v := newHashField(field, value)
	if f != nil {
		h.big.fields += allocated(len(v)) - allocated(len(*f))
		*f = v
		return false
	}
	h.big.insert(v)
	h.big.fields += allocated(len(v))
	return true
}

// grow turns the listpack into a dict.
func (h *hashValue) grow(seed uint64) {
	if h.big != nil {
		return
	}
	big := &bigHash{dict: *newDict(seed, h.len()+1, hashFieldKey)}
	var s1, s2 [24]byte
	h.each(func(field, value lpValue) bool {
		f := newHashField(field.bytes(&s1), value.bytes(&s2))
		big.insert(f)
		big.fields += allocated(len(f))
		return true
	})
	h.pack, h.big = nil, big
}

func (h *hashValue) remove(field []byte) bool {
	if h.big == nil {
		p := h.pack.find(field, 2)
		if p >= 0 {
			h.pack = h.pack.remove(p, 2)
		}
		return p >= 0
	}
	f, ok := h.big.remove(field)
	if ok {
		h.big.fields -= allocated(len(f))
	}
	return ok
}

// each visits every field until visit returns false. The values are good during the visit only.
func (h *hashValue) each(visit func(field, value lpValue) bool) {
	if h.big != nil {
		h.big.each(func(f hashField) bool {
			name, value := f.split()
			return visit(lpValue{s: name}, lpValue{s: value})
		})
		return
	}
	for p := lpHeader; !h.pack.atEnd(p); {
		f, at := lpDecode(h.pack, p)
		v, next := lpDecode(h.pack, at)
		if !visit(f, v) {
			return
		}
		p = next
	}
}

// scan visits the fields of one SCAN cursor position. A small hash is visited whole.
func (h *hashValue) scan(cursor uint64, visit func(field, value lpValue)) uint64 {
	if h.big != nil {
		return h.big.scan(cursor, func(f hashField) {
			name, value := f.split()
			visit(lpValue{s: name}, lpValue{s: value})
		})
	}
	h.each(func(f, v lpValue) bool { visit(f, v); return true })
	return 0
}

// random returns one field, each with the same probability.
func (h *hashValue) random() (field, value lpValue) {
	if h.big != nil {
		f, v := h.big.random().split()
		return lpValue{s: f}, lpValue{s: v}
	}
	f, at := lpDecode(h.pack, h.pack.seek(2*rand.IntN(h.len())))
	v, _ := lpDecode(h.pack, at)
	return f, v
}
