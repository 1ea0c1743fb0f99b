package rdb

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// The compact encodings keep small collections in one string. Elements are
// copied out of it, so that one element doesn't keep the whole alive.

// ziplist appends the elements of a ziplist:
//
//	<total bytes 4><offset of tail 4><count 2> entries… FF
//	entry: <length of the previous entry: 1, or FE and 4> <encoding> <bytes>
func ziplist(dst [][]byte, b []byte) ([][]byte, error) {
	const header = 10
	if len(b) < header+1 || b[len(b)-1] != 0xff || binary.LittleEndian.Uint32(b) != uint32(len(b)) {
		return nil, corrupt("ziplist of %d bytes has a wrong header or end", len(b))
	}
	b = b[header:]
	for b[0] != 0xff {
		skip := 1
		if b[0] == 0xfe {
			skip = 5
		}
		if len(b) <= skip {
			return nil, corrupt("ziplist entry beyond the end")
		}
		elem, n, ok := ziplistEntry(b[skip:])
		if !ok || skip+n >= len(b) { // the end byte must remain
			return nil, corrupt("ziplist entry beyond the end")
		}
		dst = append(dst, elem)
		b = b[skip+n:]
	}
	if len(b) != 1 {
		return nil, corrupt("ziplist ends %d bytes early", len(b)-1)
	}
	return dst, nil
}

// ziplistEntry decodes encoding and bytes; n is how many they take.
func ziplistEntry(b []byte) (elem []byte, n int, ok bool) {
	e := b[0]
	switch {
	case e>>6 == 0:
		return cut(b, 1, int(e&0x3f))
	case e>>6 == 1 && len(b) >= 2:
		return cut(b, 2, int(e&0x3f)<<8|int(b[1]))
	case e == 0x80 && len(b) >= 5:
		return cut(b, 5, int(binary.BigEndian.Uint32(b[1:])))
	case e >= 0xf1 && e <= 0xfd:
		return decimal(int64(e&0x0f) - 1), 1, true
	case e == 0xc0 && len(b) >= 3:
		return decimal(int64(int16(binary.LittleEndian.Uint16(b[1:])))), 3, true
	case e == 0xd0 && len(b) >= 5:
		return decimal(int64(int32(binary.LittleEndian.Uint32(b[1:])))), 5, true
	case e == 0xe0 && len(b) >= 9:
		return decimal(int64(binary.LittleEndian.Uint64(b[1:]))), 9, true
	case e == 0xf0 && len(b) >= 4:
		return decimal(int24(b[1:])), 4, true
	case e == 0xfe && len(b) >= 2:
		return decimal(int64(int8(b[1]))), 2, true
	}
	return nil, 0, false
}

// listpack appends the elements of a listpack:
//
//	<total bytes 4><count 2> entries… FF
//	entry: <encoding> <bytes> <length of both, backwards, in 7-bit groups>
func listpack(dst [][]byte, b []byte) ([][]byte, error) {
	const header = 6
	if len(b) < header+1 || b[len(b)-1] != 0xff || binary.LittleEndian.Uint32(b) != uint32(len(b)) {
		return nil, corrupt("listpack of %d bytes has a wrong header or end", len(b))
	}
	b = b[header:]
	for b[0] != 0xff {
		elem, n, ok := listpackEntry(b)
		if !ok || n+backLen(n) >= len(b) { // the end byte must remain
			return nil, corrupt("listpack entry beyond the end")
		}
		dst = append(dst, elem)
		b = b[n+backLen(n):]
	}
	if len(b) != 1 {
		return nil, corrupt("listpack ends %d bytes early", len(b)-1)
	}
	return dst, nil
}

// listpackEntry decodes encoding and bytes; n is how many they take.
func listpackEntry(b []byte) (elem []byte, n int, ok bool) {
	e := b[0]
	switch {
	case e < 0x80:
		return decimal(int64(e)), 1, true
	case e>>6 == 2:
		return cut(b, 1, int(e&0x3f))
	case e>>5 == 6 && len(b) >= 2: // 13 bits, signed
		v := int64(e&0x1f)<<8 | int64(b[1])
		if v >= 1<<12 {
			v -= 1 << 13
		}
		return decimal(v), 2, true
	case e>>4 == 0xe && len(b) >= 2:
		return cut(b, 2, int(e&0x0f)<<8|int(b[1]))
	case e == 0xf0 && len(b) >= 5:
		return cut(b, 5, int(binary.LittleEndian.Uint32(b[1:])))
	case e == 0xf1 && len(b) >= 3:
		return decimal(int64(int16(binary.LittleEndian.Uint16(b[1:])))), 3, true
	case e == 0xf2 && len(b) >= 4:
		return decimal(int24(b[1:])), 4, true
	case e == 0xf3 && len(b) >= 5:
		return decimal(int64(int32(binary.LittleEndian.Uint32(b[1:])))), 5, true
	case e == 0xf4 && len(b) >= 9:
		return decimal(int64(binary.LittleEndian.Uint64(b[1:]))), 9, true
	}
	return nil, 0, false
}

// backLen is how many bytes the backward length of an entry of n bytes takes.
func backLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	case n < 1<<28:
		return 4
	}
	return 5
}

// intset returns the members of an intset: <bytes per integer 4><count 4>
// integers…, all little-endian.
func intset(b []byte) ([][]byte, error) {
	if len(b) < 8 {
		return nil, corrupt("intset of %d bytes", len(b))
	}
	width, count := binary.LittleEndian.Uint32(b), uint64(binary.LittleEndian.Uint32(b[4:]))
	b = b[8:]
	if width != 2 && width != 4 && width != 8 || count*uint64(width) != uint64(len(b)) {
		return nil, corrupt("intset of %d integers of %d bytes in %d bytes", count, width, len(b))
	}
	out := make([][]byte, 0, count)
	for ; len(b) > 0; b = b[width:] {
		var v int64
		switch width {
		case 2:
			v = int64(int16(binary.LittleEndian.Uint16(b)))
		case 4:
			v = int64(int32(binary.LittleEndian.Uint32(b)))
		default:
			v = int64(binary.LittleEndian.Uint64(b))
		}
		out = append(out, decimal(v))
	}
	return out, nil
}

// zipmap returns the fields and values of a zipmap (before Redis 2.6):
//
//	<count 1> (<len> field <len> <free 1> value <free bytes>)… FF
//	len: 1 byte below FE, or FE and 4 bytes little-endian
func zipmap(b []byte) ([][]byte, error) {
	if len(b) < 2 {
		return nil, corrupt("zipmap of %d bytes", len(b))
	}
	b = b[1:]
	var out [][]byte
	for len(b) > 0 && b[0] != 0xff {
		value := len(out)%2 == 1
		n, at := int(b[0]), 1
		if n == 0xfe {
			if len(b) < 5 {
				return nil, corrupt("zipmap length beyond the end")
			}
			n, at = int(binary.LittleEndian.Uint32(b[1:])), 5
		}
		free := 0
		if value {
			if len(b) <= at {
				return nil, corrupt("zipmap value beyond the end")
			}
			free = int(b[at])
			at++
		}
		if n > len(b)-at || free > len(b)-at-n {
			return nil, corrupt("zipmap entry beyond the end")
		}
		out = append(out, bytes.Clone(b[at:at+n]))
		b = b[at+n+free:]
	}
	if len(b) != 1 || len(out)%2 != 0 {
		return nil, corrupt("zipmap has no proper end")
	}
	return out, nil
}

// cut copies n bytes that follow a head; the total is head+n.
func cut(b []byte, head, n int) ([]byte, int, bool) {
	if n > len(b)-head {
		return nil, 0, false
	}
	return append(make([]byte, 0, n), b[head:head+n]...), head + n, true
}

func int24(b []byte) int64 {
	return int64(int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24) >> 8)
}

func decimal(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
