package frame

import (
	"math"
	"strconv"
)

// AppendSimple appends a simple string. Line ends within it become spaces, as Redis does it.
func AppendSimple(dst []byte, s string) []byte { return appendLine(append(dst, '+'), s) }

// AppendError appends an error; s begins with its code, without the '-'. Line ends within it become spaces.
func AppendError(dst []byte, s string) []byte { return appendLine(append(dst, '-'), s) }

func appendLine(dst []byte, s string) []byte {
	from := len(dst)
	dst = append(dst, s...)
	for i := from; i < len(dst); i++ {
		if dst[i] == '\r' || dst[i] == '\n' {
			dst[i] = ' '
		}
	}
	return append(dst, '\r', '\n')
}

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte { return appendHeader(dst, ':', n) }

func appendHeader(dst []byte, kind byte, n int64) []byte {
	if n >= 0 && n < 10 {
		return append(dst, kind, '0'+byte(n), '\r', '\n')
	}
	dst = strconv.AppendInt(append(dst, kind), n, 10)
	return append(dst, '\r', '\n')
}

// AppendBulk appends a bulk string. A nil b is an empty one.
func AppendBulk(dst, b []byte) []byte {
	dst = appendHeader(dst, '$', int64(len(b)))
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// AppendBulkString is AppendBulk for a string.
func AppendBulkString(dst []byte, s string) []byte {
	dst = appendHeader(dst, '$', int64(len(s)))
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// AppendNull appends the null of proto, in RESP2 that of a bulk string.
func AppendNull(dst []byte, proto int) []byte {
	if proto >= 3 {
		return append(dst, "_\r\n"...)
	}
	return append(dst, "$-1\r\n"...)
}

// AppendNullArray appends the null of proto, in RESP2 that of an array.
func AppendNullArray(dst []byte, proto int) []byte {
	if proto >= 3 {
		return append(dst, "_\r\n"...)
	}
	return append(dst, "*-1\r\n"...)
}

// AppendArray appends the header of an array of n elements.
func AppendArray(dst []byte, n int) []byte { return appendHeader(dst, '*', int64(n)) }

// AppendMap appends the header of a map of n pairs; in RESP2, of an array of 2n elements.
func AppendMap(dst []byte, n, proto int) []byte {
	if proto >= 3 {
		return appendHeader(dst, '%', int64(n))
	}
	return appendHeader(dst, '*', int64(2*n))
}

// AppendSet appends the header of a set of n elements; in RESP2, of an array.
func AppendSet(dst []byte, n, proto int) []byte { return appendAggregate(dst, '~', n, proto) }

// AppendPush appends the header of a push message of n elements; in RESP2, of an array.
func AppendPush(dst []byte, n, proto int) []byte { return appendAggregate(dst, '>', n, proto) }

func appendAggregate(dst []byte, kind byte, n, proto int) []byte {
	if proto < 3 {
		kind = '*'
	}
	return appendHeader(dst, kind, int64(n))
}

// AppendAttribute appends the header of an attribute of n pairs. RESP2 has none.
func AppendAttribute(dst []byte, n int) []byte { return appendHeader(dst, '|', int64(n)) }

// AppendDouble appends a double; in RESP2, a bulk string.
func AppendDouble(dst []byte, f float64, proto int) []byte {
	if proto >= 3 {
		dst = FormatDouble(append(dst, ','), f)
		return append(dst, '\r', '\n')
	}
	var buf [32]byte
	return AppendBulk(dst, FormatDouble(buf[:0], f))
}

// FormatDouble appends f as redis-server 7.0 writes scores: "%.17g" of C, so that 0.1 is 0.10000000000000001.
func FormatDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case math.IsNaN(f):
		return append(dst, "nan"...)
	}
	// Most scores are small integers.
	if n := int64(f); float64(n) == f && n > -1e15 && n < 1e15 && (n != 0 || !math.Signbit(f)) {
		return strconv.AppendInt(dst, n, 10)
	}
	return strconv.AppendFloat(dst, f, 'g', 17, 64)
}

// AppendBool appends a boolean; in RESP2, the integer 1 or 0.
func AppendBool(dst []byte, b bool, proto int) []byte {
	switch {
	case proto >= 3 && b:
		return append(dst, "#t\r\n"...)
	case proto >= 3:
		return append(dst, "#f\r\n"...)
	case b:
		return append(dst, ":1\r\n"...)
	}
	return append(dst, ":0\r\n"...)
}

// AppendVerbatim appends a verbatim string of a format of three letters, such as "txt"; in RESP2, a bulk string.
func AppendVerbatim(dst []byte, format, s string, proto int) []byte {
	if proto < 3 {
		return AppendBulkString(dst, s)
	}
	dst = appendHeader(dst, '=', int64(len(format)+1+len(s)))
	dst = append(append(dst, format...), ':')
	return append(append(dst, s...), '\r', '\n')
}

// AppendBigNumber appends an integer of any size, given in decimal; in RESP2, a bulk string.
func AppendBigNumber(dst []byte, decimal string, proto int) []byte {
	if proto < 3 {
		return AppendBulkString(dst, decimal)
	}
	return appendLine(append(dst, '('), decimal)
}

// AppendCommand appends a request: an array of bulk strings.
func AppendCommand(dst []byte, args ...[]byte) []byte {
	dst = AppendArray(dst, len(args))
	for _, a := range args {
		dst = AppendBulk(dst, a)
	}
	return dst
}

// AppendCommandString is AppendCommand for strings.
func AppendCommandString(dst []byte, args ...string) []byte {
	dst = AppendArray(dst, len(args))
	for _, a := range args {
		dst = AppendBulkString(dst, a)
	}
	return dst
}
