package embedded

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// hyperLogLog is Redis's representation of a HyperLogLog, byte for byte, since GET, DUMP and replicas see it: "HYLL", the
// encoding, 3 unused bytes, the last count in 8 (the highest bit set: outdated), then 16,384 registers. Dense, they have 6
// bits each, from the lowest bit on. Sparse, they are run lengths:
//
//	00xxxxxx           x+1 registers are 0 (up to 64)
//	01xxxxxx yyyyyyyy  xy+1 registers are 0 (up to 16,384)
//	1vvvvvxx           x+1 registers are v+1 (up to 4 of up to 32)
type hyperLogLog []byte

const (
	hllRegisters = 1 << 14
	hllHeader    = 16
	hllDenseSize = hllHeader + hllRegisters*6/8
	hllDense     = 0
	hllSparse    = 1

	hllMaxSparse = 3000 // hll-sparse-max-bytes
	hllMaxValue  = 32   // that a sparse register can have
	hllMaxRun    = 4
	hllMaxZeros  = 64
	hllRankBits  = 64 - 14
)

func newHyperLogLog() hyperLogLog {
	h := make(hyperLogLog, hllHeader, hllHeader+48)
	copy(h, "HYLL")
	h[4] = hllSparse
	return append(h, 0x7f, 0xff)
}

// valid tells whether a string may be a HyperLogLog; a sparse one may still be corrupt.
func (h hyperLogLog) valid() bool {
	return len(h) >= hllHeader && string(h[:4]) == "HYLL" && h[4] <= hllSparse && (h[4] == hllSparse || len(h) == hllDenseSize)
}

func (h hyperLogLog) dense() bool { return h[4] == hllDense }

// cached is the last count, if it still holds.
func (h hyperLogLog) cached() (n uint64, ok bool) {
	return binary.LittleEndian.Uint64(h[8:]), h[15]&0x80 == 0
}

func (h hyperLogLog) outdate() { h[15] |= 0x80 }

// --- dense ---

func (h hyperLogLog) register(i int) byte {
	at, shift := hllHeader+i*6/8, i*6%8
	v := int(h[at]) >> shift
	if at+1 < len(h) {
		v |= int(h[at+1]) << (8 - shift)
	}
	return byte(v) & 63
}

func (h hyperLogLog) setRegister(i int, v byte) {
	at, shift := hllHeader+i*6/8, i*6%8
	h[at] = h[at]&^byte(63<<shift) | v<<shift
	if shift > 2 {
		h[at+1] = h[at+1]&^byte(63>>(8-shift)) | v>>(8-shift)
	}
}

// --- sparse ---

// hllRun is one run of equal registers.
type hllRun struct {
	at, size int // its bytes
	n        int // registers
	value    byte
}

// run decodes the run at a position.
func (h hyperLogLog) run(at int) hllRun {
	switch b := h[at]; {
	case b&0x80 != 0:
		return hllRun{at, 1, int(b&3) + 1, b>>2&31 + 1}
	case b&0x40 == 0:
		return hllRun{at, 1, int(b) + 1, 0}
	case at+1 == len(h): // corrupt
		return hllRun{at, 2, int(b&63)<<8 + 1, 0}
	default:
		return hllRun{at, 2, int(b&63)<<8 + int(h[at+1]) + 1, 0}
	}
}

func appendHLLValue(dst []byte, v byte, n int) []byte { return append(dst, 0x80|(v-1)<<2|byte(n-1)) }

func appendHLLZeros(dst []byte, n int) []byte {
	switch {
	case n == 0:
		return dst
	case n > hllMaxZeros:
		return append(dst, 0x40|byte((n-1)>>8), byte(n-1))
	}
	return append(dst, byte(n-1))
}

// each visits the runs of registers; ok is false when they aren't as many as there have to be.
func (h hyperLogLog) each(visit func(first, n int, v byte)) (ok bool) {
	if h.dense() {
		for i := range hllRegisters {
			visit(i, 1, h.register(i))
		}
		return true
	}
	first := 0
	for at := hllHeader; at < len(h); {
		r := h.run(at)
		if first+r.n > hllRegisters {
			return false
		}
		visit(first, r.n, r.value)
		first += r.n
		at += r.size
	}
	return first == hllRegisters
}

// toDense returns the dense form.
func (h hyperLogLog) toDense() (d hyperLogLog, ok bool) {
	if h.dense() {
		return h, true
	}
	d = make(hyperLogLog, hllDenseSize)
	copy(d, h[:hllHeader])
	d[4] = hllDense
	ok = h.each(func(first, n int, v byte) {
		for i := first; v > 0 && i < first+n; i++ {
			d.setRegister(i, v)
		}
	})
	return d, ok
}

// raise sets a register to v if it is smaller, and tells whether it was. The result may be in other memory.
func (h hyperLogLog) raise(i int, v byte) (out hyperLogLog, changed, ok bool) {
	if !h.dense() {
		return h.raiseSparse(i, v)
	}
	if h.register(i) >= v {
		return h, false, true
	}
	h.setRegister(i, v)
	return h, true, true
}

func (h hyperLogLog) raiseDense(i int, v byte) (out hyperLogLog, changed, ok bool) {
	d, ok := h.toDense()
	if !ok {
		return h, false, false
	}
	return d.raise(i, v)
}

func (h hyperLogLog) raiseSparse(i int, v byte) (out hyperLogLog, changed, ok bool) {
	if v > hllMaxValue {
		return h.raiseDense(i, v)
	}
	before, at, first := hllHeader, hllHeader, 0
	var r hllRun
	for at < len(h) {
		if r = h.run(at); i < first+r.n {
			break
		}
		before = at
		at += r.size
		first += r.n
	}
	if at >= len(h) || at+r.size > len(h) {
		return h, false, false
	}
	if r.value >= v {
		return h, false, true
	}
	// The run becomes up to three.
	var scratch [5]byte
	seq := scratch[:0]
	left, right := i-first, first+r.n-1-i
	if r.value == 0 {
		seq = appendHLLZeros(seq, left)
		seq = appendHLLValue(seq, v, 1)
		seq = appendHLLZeros(seq, right)
	} else {
		if left > 0 {
			seq = appendHLLValue(seq, r.value, left)
		}
		seq = appendHLLValue(seq, v, 1)
		if right > 0 {
			seq = appendHLLValue(seq, r.value, right)
		}
	}
	grow := len(seq) - r.size
	if grow > 0 && len(h)+grow > hllMaxSparse {
		return h.raiseDense(i, v)
	}
	n := len(h)
	switch {
	case grow > 0:
		h = append(h, seq[:grow]...)
		copy(h[at+len(seq):], h[at+r.size:n])
	case grow < 0:
		copy(h[at+len(seq):], h[at+r.size:])
		h = h[:n+grow]
	}
	copy(h[at:], seq)
	h = h.joinRuns(before)
	h.outdate()
	return h, true, true
}

// joinRuns joins equal runs of values that stand side by side, of the five from at on, as Redis does.
func (h hyperLogLog) joinRuns(at int) hyperLogLog {
	for left := 5; at < len(h) && left > 0; left-- {
		r := h.run(at)
		if r.value > 0 && at+1 < len(h) {
			if next := h.run(at + 1); next.value == r.value && r.n+next.n <= hllMaxRun {
				appendHLLValue(h[:at], r.value, r.n+next.n)
				h = append(h[:at+1], h[at+2:]...)
				continue
			}
		}
		at += r.size
	}
	return h
}

// --- counting ---

// count estimates the number of elements from how often registers have each value, with Otmar Ertl's formula
// (arXiv:1702.01284).
func hllCount(histogram *[64]int) uint64 {
	const m = float64(hllRegisters)
	z := m * hllTau((m-float64(histogram[hllRankBits+1]))/m)
	for j := hllRankBits; j >= 1; j-- {
		z = (z + float64(histogram[j])) * 0.5
	}
	z += float64(m * hllSigma(float64(histogram[0])/m))
	const alpha = 0.721347520444481703680 // 0.5/ln 2
	return uint64(math.Round(alpha * m * m / z))
}

func hllSigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	for y, z := 1.0, x; ; {
		x *= x
		old := z
		z += float64(x * y)
		if y += y; z == old {
			return z
		}
	}
}

func hllTau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	for y, z := 1.0, 1-x; ; {
		x = math.Sqrt(x)
		old := z
		y *= 0.5
		if z -= float64(float64((1-x)*(1-x)) * y); z == old {
			return z / 3
		}
	}
}

// hllPlace is the register of an element and the value that it asks for: the place of the first bit set.
func hllPlace(elem []byte) (register int, v byte) {
	h := murmur64A(elem, 0xadc83b19)
	rest := h>>14 | 1<<hllRankBits
	return int(h & (hllRegisters - 1)), byte(bits.TrailingZeros64(rest)) + 1
}

// murmur64A is Austin Appleby's MurmurHash2 with 64 bits.
func murmur64A(key []byte, seed uint64) uint64 {
	const m, r = 0xc6a4a7935bd1e995, 47
	h := seed ^ uint64(len(key))*m
	for ; len(key) >= 8; key = key[8:] {
		k := binary.LittleEndian.Uint64(key) * m
		k ^= k >> r
		h = (h ^ k*m) * m
	}
	if len(key) > 0 {
		var tail [8]byte
		copy(tail[:], key)
		h = (h ^ binary.LittleEndian.Uint64(tail[:])) * m
	}
	h = (h ^ h>>r) * m
	return h ^ h>>r
}
