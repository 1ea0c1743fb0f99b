// Package rdb reads and writes Redis's RDB format, the snapshot that a full
// resynchronisation sends and that BGSAVE leaves on disk. It knows the format
// only: what goes in and comes out are neutral values, and what an engine makes
// of them is the engine's matter.
//
// A file is the magic "REDIS", four decimal digits of version, then a sequence
// of opcodes and key records, then the opcode EOF and (from version 5 on) the
// CRC-64 of all bytes before it, little-endian, zero meaning "not computed":
//
//	FA key value           auxiliary field
//	FE db                  the keys that follow belong to this database
//	FB keys expires        sizes of the database's tables
//	FC ms | FD s           expiry of the next key, absolute, little-endian
//	F8 idle | F9 freq      eviction hint of the next key
//	F5 code                function library
//	TYPE key value         a key
//	FF crc                 end
//
// Lengths take 1, 2, 5 or 9 bytes; strings are a length and that many bytes, or
// an integer of 8, 16 or 32 bits, or an LZF block. The format is defined by
// rdb.c and rdb.h of Redis; the compact encodings by ziplist.c, listpack.c,
// intset.c, zipmap.c and quicklist.c. Modules are not decoded: they give
// ErrUnsupported. Streams are decoded down to their nodes.
//
// The writer emits version 10 with only the plain types 0, 1, 2, 4, 5 and 19, which
// every server from Redis 7.0 on loads; the reader takes versions 1 to 11.
package rdb

import (
	"errors"
	"fmt"
)

// Version is the version that the Writer emits; MaxVersion the newest that the
// Reader takes (Redis 7.2, Valkey 7.2 to 8).
const (
	Version    = 10
	MaxVersion = 11
)

// The value types of the format.
const (
	typeString         = 0
	typeList           = 1
	typeSet            = 2
	typeZSet           = 3 // scores as decimal text
	typeHash           = 4
	typeZSet2          = 5 // scores as binary doubles
	typeModulePre      = 6
	typeModule2        = 7
	typeHashZipmap     = 9
	typeListZiplist    = 10
	typeSetIntset      = 11
	typeZSetZiplist    = 12
	typeHashZiplist    = 13
	typeListQuicklist  = 14
	typeStream1        = 15
	typeHashListpack   = 16
	typeZSetListpack   = 17
	typeListQuicklist2 = 18
	typeStream2        = 19
	typeSetListpack    = 20
	typeStream3        = 21
)

// The opcodes of the format.
const (
	opSlotInfo  = 244
	opFunction2 = 245
	opFunction1 = 246
	opModuleAux = 247
	opIdle      = 248
	opFreq      = 249
	opAux       = 250
	opResizeDB  = 251
	opExpireMS  = 252
	opExpireSec = 253
	opSelectDB  = 254
	opEOF       = 255
)

// Special string encodings, in the low six bits of a length byte 11xxxxxx.
const (
	encInt8  = 0
	encInt16 = 1
	encInt32 = 2
	encLZF   = 3
)

// ErrUnsupported is wrapped by the error for a file that is sound, as far as one
// can tell, but holds what this package doesn't decode: a newer version, a
// module's value. Reading it again won't help.
var ErrUnsupported = errors.New("unsupported RDB")

// ErrCorrupt is wrapped by the error for a damaged file.
var ErrCorrupt = errors.New("corrupt RDB")

// A FormatError says at which byte of the input a file could not be read
// further. It wraps ErrCorrupt or ErrUnsupported.
type FormatError struct {
	Offset int64
	Msg    string
	Kind   error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%v at byte %d: %s", e.Kind, e.Offset, e.Msg)
}

// Unwrap gives the sentinel.
func (e *FormatError) Unwrap() error { return e.Kind }

// A Value is what a key holds: String, List, Set, Hash, ZSet or *Stream.
type Value interface{ value() }

// The values that keys hold. Their slices belong to whoever received the Entry.
type (
	String []byte
	List   [][]byte
	Set    [][]byte
	Hash   []Field
	ZSet   []Member
)

// A Field is a field of a hash with its value.
type Field struct{ Name, Value []byte }

// A Member is a member of a sorted set with its score.
type Member struct {
	Name  []byte
	Score float64
}

func (String) value() {}
func (List) value()   {}
func (Set) value()    {}
func (Hash) value()   {}
func (ZSet) value()   {}

// An Entry is one key with its value.
type Entry struct {
	DB       int
	Key      []byte
	ExpireAt int64 // Unix milliseconds; 0 for a key without an expiry
	Value    Value
}

// An Aux is an auxiliary field of the header, such as redis-ver or
// repl-stream-db. Servers ignore those they don't know.
type Aux struct{ Key, Value string }
