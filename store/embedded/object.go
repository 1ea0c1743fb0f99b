package embedded

import (
	"sync/atomic"
	"unsafe"
)

// kind is the type of a value. The numbers are those of Redis's OBJ_ constants.
type kind uint8

const (
	kindString kind = iota
	kindList
	kindSet
	kindZSet
	kindHash
	kindStream
	kindNone kind = 0xff
)

func (k kind) String() string {
	switch k {
	case kindString:
		return "string"
	case kindList:
		return "list"
	case kindSet:
		return "set"
	case kindZSet:
		return "zset"
	case kindHash:
		return "hash"
	case kindStream:
		return "stream"
	}
	return "none"
}

// encoding of a string: what OBJECT ENCODING says. Containers answer for themselves.
type encoding uint8

const (
	encRaw encoding = iota
	encEmbstr
	encInt
	// encShared is encRaw whose bytes a snapshot reads: who changes them makes a copy first.
	encShared
)

// embstrMax is the longest string that Redis stores beside its object.
const embstrMax = 44

// object is the value of a key, stored inside the keyspace's entry. It is 40 bytes, so that an entry with its
// key fills 64: ptr is the first byte of a string or the container (*hashValue, *listValue …) of the kind;
// num is the number of an encInt string, or length<<32|capacity of the others. This file alone knows.
type object struct {
	ptr  unsafe.Pointer
	num  int64
	mem  int64         // bytes accounted for this key
	lru  atomic.Uint32 // unix seconds of the last access
	vol  uint32        // place in keyspace.volatile, 0: no TTL
	kind kind
	enc  encoding
	tag  uint16 // of the key's hash: see entry
	mark uint32 // the snapshot that has written this key
}

// container is what the value of every kind but string implements, in the kind's own file.
// Each also has clone, a deep copy of its own type.
type container interface {
	len() int         // elements
	memory() int      // bytes held, in constant time: the type keeps count
	encoding() string // for OBJECT ENCODING
}

// payload is a value without a key: what SET, COPY, RENAME and the RDB reader hand to the keyspace.
type payload struct {
	ptr  unsafe.Pointer
	num  int64
	kind kind
	enc  encoding
}

func hashPayload(v *hashValue) payload     { return payload{ptr: unsafe.Pointer(v), kind: kindHash} }
func listPayload(v *listValue) payload     { return payload{ptr: unsafe.Pointer(v), kind: kindList} }
func setPayload(v *setValue) payload       { return payload{ptr: unsafe.Pointer(v), kind: kindSet} }
func zsetPayload(v *zset) payload          { return payload{ptr: unsafe.Pointer(v), kind: kindZSet} }
func streamPayload(v *streamValue) payload { return payload{ptr: unsafe.Pointer(v), kind: kindStream} }

func intPayload(n int64) payload { return payload{num: n, kind: kindString, enc: encInt} }

// bytesPayload takes b over: the caller doesn't use it again.
func bytesPayload(b []byte, enc encoding) payload {
	return payload{ptr: unsafe.Pointer(unsafe.SliceData(b)), num: packLen(b), kind: kindString, enc: enc}
}

// stringPayload copies s into the form that Redis would choose: a number, embstr or raw.
func stringPayload(s []byte) payload {
	if n, ok := stringInt(s); ok {
		return intPayload(n)
	}
	return bytesPayload(append(make([]byte, 0, len(s)), s...), encodingFor(len(s)))
}

func encodingFor(n int) encoding {
	if n <= embstrMax {
		return encEmbstr
	}
	return encRaw
}

func packLen(b []byte) int64 { return int64(len(b))<<32 | int64(cap(b)) }

func (o *object) hash() *hashValue     { return (*hashValue)(o.ptr) }
func (o *object) list() *listValue     { return (*listValue)(o.ptr) }
func (o *object) set() *setValue       { return (*setValue)(o.ptr) }
func (o *object) zset() *zset          { return (*zset)(o.ptr) }
func (o *object) stream() *streamValue { return (*streamValue)(o.ptr) }

func (o *object) container() container { return containerOf(o.kind, o.ptr) }

func (p payload) container() container { return containerOf(p.kind, p.ptr) }

func containerOf(k kind, p unsafe.Pointer) container {
	switch k {
	case kindHash:
		return (*hashValue)(p)
	case kindList:
		return (*listValue)(p)
	case kindSet:
		return (*setValue)(p)
	case kindZSet:
		return (*zset)(p)
	case kindStream:
		return (*streamValue)(p)
	}
	return nil
}

func (o *object) payload() payload {
	return payload{ptr: o.ptr, num: o.num, kind: o.kind, enc: o.enc}
}

func (o *object) put(p payload) { o.ptr, o.num, o.kind, o.enc = p.ptr, p.num, p.kind, p.enc }

// raw is the bytes of a string that isn't encInt, with their capacity.
func (o *object) raw() []byte {
	return unsafe.Slice((*byte)(o.ptr), int(uint32(o.num)))[:o.num>>32]
}

// clone copies the value deeply.
func (o *object) clone() payload {
	switch o.kind {
	case kindHash:
		return hashPayload(o.hash().clone())
	case kindList:
		return listPayload(o.list().clone())
	case kindSet:
		return setPayload(o.set().clone())
	case kindZSet:
		return zsetPayload(o.zset().clone())
	case kindStream:
		return streamPayload(o.stream().clone())
	}
	if o.enc == encInt {
		return o.payload()
	}
	enc := o.enc
	if enc == encShared {
		enc = encRaw
	}
	return bytesPayload(append(make([]byte, 0, len(o.raw())), o.raw()...), enc)
}

func (o *object) encoding() string {
	if c := o.container(); c != nil {
		return c.encoding()
	}
	switch o.enc {
	case encInt:
		return "int"
	case encEmbstr:
		return "embstr"
	}
	return "raw"
}

// entryOverhead is an entry's 64 bytes; the bucket array is counted by keyspace.size.
const entryOverhead = 64

// size estimates the memory of the key with this value.
func (o *object) size(keyLen int) int64 {
	n := entryOverhead + allocated(keyLen)
	if c := o.container(); c != nil {
		n += c.memory()
	} else if o.enc != encInt {
		n += allocated(int(uint32(o.num)))
	}
	return int64(n)
}

// bytesOf views a string as bytes; they must not be written.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
