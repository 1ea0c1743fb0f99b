package rdb

import "slices"

// lzfRatio bounds what LZF can expand to: three bytes refer to at most 264.
const lzfRatio = 88

// lzfExpand decodes an LZF block that gives size bytes. A control byte below 32
// is followed by that many literals and one; others are a reference: the upper
// three bits are its length less two (7: a further byte adds to it), the lower
// five and the next byte its distance less one.
func lzfExpand(in []byte, size uint64) ([]byte, error) {
	if size > uint64(len(in))*lzfRatio {
		return nil, corrupt("LZF block of %d bytes claims to hold %d", len(in), size)
	}
	out := make([]byte, 0, size)
	for i := 0; i < len(in); {
		ctrl := int(in[i])
		i++
		if ctrl < 32 {
			n := ctrl + 1
			if n > len(in)-i {
				return nil, corrupt("LZF literals beyond the block")
			}
			out = append(out, in[i:i+n]...)
			i += n
			continue
		}
		n := ctrl >> 5
		if n == 7 {
			if i == len(in) {
				return nil, corrupt("LZF reference beyond the block")
			}
			n += int(in[i])
			i++
		}
		n += 2
		if i == len(in) {
			return nil, corrupt("LZF reference beyond the block")
		}
		dist := ctrl&0x1f<<8 | int(in[i]) + 1
		i++
		if dist > len(out) || uint64(len(out)+n) > size {
			return nil, corrupt("LZF reference out of range")
		}
		for n > 0 { // the copy may overlap itself: then it repeats
			from := len(out) - dist
			k := min(n, dist)
			out = append(out, out[from:from+k]...)
			n -= k
		}
	}
	if uint64(len(out)) != size {
		return nil, corrupt("LZF block holds %d bytes, not %d", len(out), size)
	}
	return slices.Clip(out), nil
}
