package embedded

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strings"

	"respmesh/resp/frame"
)

// Errors that many commands share, word for word Redis's.
const (
	errWrongType  = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errSyntax     = "ERR syntax error"
	errNotInt     = "ERR value is not an integer or out of range"
	errNotFloat   = "ERR value is not a valid float"
	errNoSuchKey  = "ERR no such key"
	errOutOfRange = "ERR index out of range"
	errOverflow   = "ERR increment or decrement would overflow"
	errNaN        = "ERR increment would produce NaN or Infinity"
	errTooLong    = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
)

func (x *call) ok()                       { x.out = append(x.out, "+OK\r\n"...) }
func (x *call) simple(s string)           { x.out = frame.AppendSimple(x.out, s) }
func (x *call) int(n int64)               { x.out = frame.AppendInt(x.out, n) }
func (x *call) bulk(b []byte)             { x.out = frame.AppendBulk(x.out, b) }
func (x *call) bulkString(s string)       { x.out = frame.AppendBulkString(x.out, s) }
func (x *call) null()                     { x.out = frame.AppendNull(x.out, x.proto) }
func (x *call) nullArray()                { x.out = frame.AppendNullArray(x.out, x.proto) }
func (x *call) array(n int)               { x.out = frame.AppendArray(x.out, n) }
func (x *call) mapHeader(pairs int)       { x.out = frame.AppendMap(x.out, pairs, x.proto) }
func (x *call) setHeader(n int)           { x.out = frame.AppendSet(x.out, n, x.proto) }
func (x *call) double(f float64)          { x.out = frame.AppendDouble(x.out, f, x.proto) }
func (x *call) verbatim(format, s string) { x.out = frame.AppendVerbatim(x.out, format, s, x.proto) }

// boolean replies 1 or 0 as an integer, as Redis does for nearly everything that is a yes or no.
func (x *call) boolean(b bool) {
	if b {
		x.int(1)
	} else {
		x.int(0)
	}
}

// err replies an error; the text starts with its code ("ERR …") and has no line breaks.
func (x *call) err(text string) { x.errCounted(text, false) }

// errCounted is err; an error that a command in a script has replied is counted already.
func (x *call) errCounted(text string, counted bool) {
	x.failed = true
	if !counted && x.e != nil {
		x.e.errors.add(text)
	}
	x.out = frame.AppendError(x.out, text)
}

// errf formats as Redis does in C: an argument ends at its first zero byte, and line breaks become spaces but for those
// at the end, which go.
func (x *call) errf(format string, args ...any) {
	for i, a := range args {
		if b, ok := a.([]byte); ok {
			args[i], _, _ = bytes.Cut(b, []byte{0})
		}
	}
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\r\n")
	x.err(strings.NewReplacer("\r", " ", "\n", " ").Replace(text))
}

func (x *call) wrongType() { x.err(errWrongType) }
func (x *call) syntax()    { x.err(errSyntax) }

// bulkOf replies the value of a string object.
func (x *call) bulkOf(o *object) {
	if o.enc != encInt {
		x.bulk(o.raw())
		return
	}
	var scratch [24]byte
	x.bulk(o.appendString(scratch[:0]))
}

// --- reading arguments: ok=false has replied the error ---

func (x *call) argInt(b []byte) (n int64, ok bool) {
	if n, ok = frame.ParseInt(b); !ok {
		x.err(errNotInt)
	}
	return n, ok
}

func (x *call) argFloat(b []byte) (f float64, ok bool) {
	if f, ok = parseFloat(b); !ok {
		x.err(errNotFloat)
	}
	return f, ok
}

// argTimeout reads a blocking command's time-out in seconds as ms, rounded up. It is a long double in Redis, and one
// that an int64 can't hold turns negative.
func (x *call) argTimeout(b []byte) (ms int64, ok bool) {
	if n, ok := frame.ParseInt(b); ok && n >= 0 && n <= math.MaxInt64/1000 {
		return n * 1000, true
	}
	f, ok := parseLongDouble(b)
	if !ok {
		x.err("ERR timeout is not a float or out of range")
		return 0, false
	}
	f.Mul(f, big.NewFloat(1000))
	ms, accuracy := f.Int64() // towards zero
	if accuracy == big.Below && ms < math.MaxInt64 && f.Sign() > 0 {
		ms++
	} else if accuracy == big.Below {
		ms = -1
	}
	if ms < 0 {
		x.err("ERR timeout is negative")
		return 0, false
	}
	return ms, true
}

// is compares an option word case-insensitively; word is upper case.
func is(arg []byte, word string) bool {
	if len(arg) != len(word) {
		return false
	}
	for i, b := range arg {
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		if b != word[i] {
			return false
		}
	}
	return true
}
