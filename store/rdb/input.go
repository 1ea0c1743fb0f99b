package rdb

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
)

const (
	readBuffer = 64 << 10
	readStep   = 1 << 20 // a string grows by at most this before its bytes have come
	maxString  = 1 << 32 // no server writes a longer one, whatever proto-max-bulk-len
	noEOF      = 100     // reads without bytes or error before the source counts as stuck
)

// input is the source with its buffer, the running checksum and the offset.
type input struct {
	src    io.Reader
	buf    []byte
	r, w   int    // buf[r:w] is read but not decoded
	summed int    // buf[:summed] is in crc
	base   int64  // offset of buf[0]
	crc    uint64 // over all bytes up to summed
}

func (in *input) offset() int64 { return in.base + int64(in.r) }

// sum brings the checksum up to the read position.
func (in *input) sum() {
	in.crc = CRC64(in.crc, in.buf[in.summed:in.r])
	in.summed = in.r
}

// fill makes at least n bytes (at most the buffer's size) available.
func (in *input) fill(n int) error {
	if in.w-in.r >= n {
		return nil
	}
	in.sum()
	copy(in.buf, in.buf[in.r:in.w])
	in.base += int64(in.r)
	in.w -= in.r
	in.r, in.summed = 0, 0
	for range noEOF {
		k, err := in.src.Read(in.buf[in.w:])
		in.w += k
		if in.w >= n {
			return nil
		}
		if err != nil {
			return atEnd(err)
		}
	}
	return io.ErrNoProgress
}

// atEnd: the end of the source is never where an RDB ends.
func atEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take returns the next n bytes (few), valid until the next call.
func (in *input) take(n int) ([]byte, error) {
	if err := in.fill(n); err != nil {
		return nil, err
	}
	p := in.buf[in.r : in.r+n]
	in.r += n
	return p, nil
}

func (in *input) byte() (byte, error) {
	if in.r == in.w {
		if err := in.fill(1); err != nil {
			return 0, err
		}
	}
	b := in.buf[in.r]
	in.r++
	return b, nil
}

// bytes returns the next n bytes in memory of their own.
func (in *input) bytes(n uint64) ([]byte, error) {
	if n > maxString {
		return nil, corrupt("string of %d bytes", n)
	}
	if n <= uint64(in.w-in.r) {
		out := make([]byte, n)
		copy(out, in.buf[in.r:])
		in.r += int(n)
		return out, nil
	}
	out := make([]byte, 0, min(n, readStep))
	for uint64(len(out)) < n {
		if in.r == in.w {
			if err := in.fill(1); err != nil {
				return nil, err
			}
		}
		if len(out) == cap(out) {
			out = slices.Grow(out, int(min(n-uint64(len(out)), uint64(len(out))))) // doubles
		}
		k := min(in.w-in.r, int(n)-len(out), cap(out)-len(out))
		out = append(out, in.buf[in.r:in.r+k]...)
		in.r += k
	}
	return out, nil
}

// lengthOrEnc reads a length, or the special encoding of a string.
func (in *input) lengthOrEnc() (n uint64, enc bool, err error) {
	b, err := in.byte()
	if err != nil {
		return 0, false, err
	}
	switch b >> 6 {
	case 0:
		return uint64(b & 0x3f), false, nil
	case 1:
		lo, err := in.byte()
		return uint64(b&0x3f)<<8 | uint64(lo), false, err
	case 3:
		return uint64(b & 0x3f), true, nil
	}
	switch b {
	case 0x80:
		p, err := in.take(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(p)), false, nil
	case 0x81:
		p, err := in.take(8)
		if err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(p), false, nil
	}
	return 0, false, corrupt("length byte %#02x", b)
}

func (in *input) length() (uint64, error) {
	n, enc, err := in.lengthOrEnc()
	if err == nil && enc {
		err = corrupt("string encoding %d where a length belongs", n)
	}
	return n, err
}

// string reads a string in any of its encodings.
func (in *input) string() ([]byte, error) {
	n, enc, err := in.lengthOrEnc()
	if err != nil {
		return nil, err
	}
	if !enc {
		return in.bytes(n)
	}
	switch n {
	case encInt8:
		b, err := in.byte()
		return strconv.AppendInt(nil, int64(int8(b)), 10), err
	case encInt16:
		p, err := in.take(2)
		if err != nil {
			return nil, err
		}
		return strconv.AppendInt(nil, int64(int16(binary.LittleEndian.Uint16(p))), 10), nil
	case encInt32:
		p, err := in.take(4)
		if err != nil {
			return nil, err
		}
		return strconv.AppendInt(nil, int64(int32(binary.LittleEndian.Uint32(p))), 10), nil
	case encLZF:
		packed, err := in.length()
		if err != nil {
			return nil, err
		}
		size, err := in.length()
		if err != nil {
			return nil, err
		}
		if size > maxString || packed > maxString {
			return nil, corrupt("compressed string of %d bytes", size)
		}
		block, err := in.bytes(packed)
		if err != nil {
			return nil, err
		}
		return lzfExpand(block, size)
	}
	return nil, corrupt("string encoding %d", n)
}

// expiry reads the time of opExpireMS or opExpireSec, in milliseconds.
func (in *input) expiry(op byte) (int64, error) {
	if op == opExpireSec {
		p, err := in.take(4)
		if err != nil {
			return 0, err
		}
		return int64(int32(binary.LittleEndian.Uint32(p))) * 1000, nil
	}
	p, err := in.take(8)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(p)), nil
}

// double reads a binary score.
func (in *input) double() (float64, error) {
	p, err := in.take(8)
	if err != nil {
		return 0, err
	}
	return score(math.Float64frombits(binary.LittleEndian.Uint64(p)))
}

// textDouble reads a score of the old text form: a length byte, or one of three
// values that stand for what has no digits.
func (in *input) textDouble() (float64, error) {
	n, err := in.byte()
	if err != nil {
		return 0, err
	}
	switch n {
	case 255:
		return math.Inf(-1), nil
	case 254:
		return math.Inf(1), nil
	case 253:
		return score(math.NaN())
	}
	p, err := in.take(int(n))
	if err != nil {
		return 0, err
	}
	return parseScore(p)
}

func parseScore(p []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(p), 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, corrupt("score %q", p)
	}
	return score(f)
}

func score(f float64) (float64, error) {
	if math.IsNaN(f) {
		return 0, corrupt("score is not a number")
	}
	return f, nil
}

// checksum compares the file's CRC with that of what has been decoded.
func (in *input) checksum() error {
	in.sum()
	want := in.crc
	p, err := in.take(8)
	if err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint64(p); got != 0 && got != want {
		return corrupt("checksum is %016x, of the data %016x", got, want)
	}
	return nil
}
