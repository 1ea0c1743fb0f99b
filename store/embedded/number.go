package embedded

import (
	"bytes"
	"math"
	"strconv"

	"respmesh/resp/frame"
)

// stringInt is the number that a string is stored as: one that formats back to the same bytes.
func stringInt(s []byte) (int64, bool) {
	if len(s) == 0 || len(s) > 20 {
		return 0, false
	}
	return frame.ParseInt(s)
}

// parseFloat reads a double as Redis does with strtod: also "inf", "nan" is refused, no spaces around, hex is taken.
func parseFloat(b []byte) (float64, bool) {
	if n, ok := parseDigits(b); ok {
		return float64(n), true
	}
	if len(b) == 0 || len(b) > 255 || bytes.IndexByte(b, '_') >= 0 {
		return 0, false
	}
	s := string(b)
	if i := bytes.IndexAny(b, "xX"); i >= 0 && !bytes.ContainsAny(b, "pP") {
		s += "p0" // strconv wants an exponent on a hexadecimal number, strtod doesn't
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) {
		return 0, false
	}
	return f, true
}

// parseDigits reads what is digits only, few enough for a double to be exact.
func parseDigits(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, true
}

// appendString is the string value as bytes.
func (o *object) appendString(dst []byte) []byte {
	if o.enc == encInt {
		return strconv.AppendInt(dst, o.num, 10)
	}
	return append(dst, o.raw()...)
}

// stringLen is the length of the string value.
func (o *object) stringLen() int {
	if o.enc == encInt {
		var scratch [24]byte
		return len(strconv.AppendInt(scratch[:0], o.num, 10))
	}
	return int(o.num >> 32)
}
