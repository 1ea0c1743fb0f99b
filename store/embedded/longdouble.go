package embedded

import (
	"bytes"
	"math/big"
	"strings"
)

// INCRBYFLOAT and HINCRBYFLOAT calculate in C's long double, which has a mantissa of 64 bits on x86: big.Float does
// the same.

const (
	longDoubleBits = 64
	// longDoubleMaxExp is the exponent beyond which a long double is infinite.
	longDoubleMaxExp = 16384
	// longDoubleChars bounds the text of a number, as Redis does.
	longDoubleChars = 5 * 1024
)

func parseLongDouble(b []byte) (*big.Float, bool) {
	if len(b) == 0 || len(b) >= longDoubleChars || bytes.IndexByte(b, '_') >= 0 {
		return nil, false
	}
	base, s := 10, string(b)
	if i := strings.IndexAny(s, "xX"); i >= 0 {
		base = 0
	} else if strings.ContainsAny(s, "pP") {
		return nil, false // big.Float would take it
	} else if t := strings.TrimLeft(strings.ToLower(s), "+-"); len(s)-len(t) <= 1 && (t == "infinity" || t == "inf") {
		s = s[:len(s)-len(t)] + "Inf"
	}
	f, _, err := big.ParseFloat(s, base, longDoubleBits, big.ToNearestEven)
	if err != nil || !f.IsInf() && f.MantExp(nil) > longDoubleMaxExp {
		return nil, false
	}
	return f, true
}

// addLongDouble adds two numbers; notNumber is the error when the first isn't one. ok=false has replied the error.
func (x *call) addLongDouble(old, by []byte, notNumber string) (sum []byte, ok bool) {
	a, ok := parseLongDouble(old)
	if !ok {
		x.err(notNumber)
		return nil, false
	}
	b, ok := parseLongDouble(by)
	if !ok {
		x.err(errNotFloat)
		return nil, false
	}
	if a.IsInf() || b.IsInf() {
		x.err(errNaN)
		return nil, false
	}
	a.Add(a, b)
	if a.MantExp(nil) > longDoubleMaxExp {
		x.err(errNaN)
		return nil, false
	}
	return appendLongDouble(nil, a), true
}

// appendLongDouble formats as Redis does for people: "%.17Lf" without trailing zeros.
func appendLongDouble(dst []byte, f *big.Float) []byte {
	s := strings.TrimRight(f.Text('f', 17), "0")
	s = strings.TrimSuffix(s, ".")
	if s == "-0" {
		s = "0"
	}
	return append(dst, s...)
}
