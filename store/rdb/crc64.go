package rdb

import "encoding/binary"

// The checksum is CRC-64 with the polynomial of Jones (0xad93d23594c935a9),
// reflected in and out, starting at zero and not inverted at the end: hash/crc64
// inverts both, so it can't be used. crcTables[0] is the byte-wise table, the
// others advance it by further bytes ("slicing-by-8").

const crcPoly = 0x95ac9329ac4bc9b5 // the polynomial with its bits reversed

type crcTable [8][256]uint64

var crcTables = makeCRCTables()

func makeCRCTables() *crcTable {
	var t crcTable
	for i := range 256 {
		c := uint64(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ crcPoly
			} else {
				c >>= 1
			}
		}
		t[0][i] = c
	}
	for i := range 256 {
		for k := 1; k < 8; k++ {
			c := t[k-1][i]
			t[k][i] = t[0][byte(c)] ^ c>>8
		}
	}
	return &t
}

// CRC64 continues the checksum crc (zero at the start) over p.
func CRC64(crc uint64, p []byte) uint64 {
	t := crcTables
	for len(p) >= 8 {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = t[7][byte(crc)] ^ t[6][byte(crc>>8)] ^ t[5][byte(crc>>16)] ^ t[4][byte(crc>>24)] ^
			t[3][byte(crc>>32)] ^ t[2][byte(crc>>40)] ^ t[1][byte(crc>>48)] ^ t[0][crc>>56]
		p = p[8:]
	}
	for _, b := range p {
		crc = t[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}
