package frame

import (
	"math"
	"strings"
	"testing"
)

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		resp2, resp3 string
		f            func(proto int) []byte
	}{
		{"+OK\r\n", "", func(int) []byte { return AppendSimple(nil, "OK") }},
		{"-ERR a  b\r\n", "", func(int) []byte { return AppendError(nil, "ERR a\r\nb") }},
		{":0\r\n", "", func(int) []byte { return AppendInt(nil, 0) }},
		{":9\r\n", "", func(int) []byte { return AppendInt(nil, 9) }},
		{":-1\r\n", "", func(int) []byte { return AppendInt(nil, -1) }},
		{":9223372036854775807\r\n", "", func(int) []byte { return AppendInt(nil, math.MaxInt64) }},
		{"$0\r\n\r\n", "", func(int) []byte { return AppendBulk(nil, nil) }},
		{"$11\r\nhello world\r\n", "", func(int) []byte { return AppendBulk(nil, []byte("hello world")) }},
		{"$1\r\nx\r\n", "", func(int) []byte { return AppendBulkString(nil, "x") }},
		{"$-1\r\n", "_\r\n", func(p int) []byte { return AppendNull(nil, p) }},
		{"*-1\r\n", "_\r\n", func(p int) []byte { return AppendNullArray(nil, p) }},
		{"*12\r\n", "", func(int) []byte { return AppendArray(nil, 12) }},
		{"*4\r\n", "%2\r\n", func(p int) []byte { return AppendMap(nil, 2, p) }},
		{"*2\r\n", "~2\r\n", func(p int) []byte { return AppendSet(nil, 2, p) }},
		{"*2\r\n", ">2\r\n", func(p int) []byte { return AppendPush(nil, 2, p) }},
		{"|1\r\n", "", func(int) []byte { return AppendAttribute(nil, 1) }},
		{"$3\r\n1.5\r\n", ",1.5\r\n", func(p int) []byte { return AppendDouble(nil, 1.5, p) }},
		{"$4\r\n-inf\r\n", ",-inf\r\n", func(p int) []byte { return AppendDouble(nil, math.Inf(-1), p) }},
		{":1\r\n", "#t\r\n", func(p int) []byte { return AppendBool(nil, true, p) }},
		{":0\r\n", "#f\r\n", func(p int) []byte { return AppendBool(nil, false, p) }},
		{"$2\r\nab\r\n", "=6\r\ntxt:ab\r\n", func(p int) []byte { return AppendVerbatim(nil, "txt", "ab", p) }},
		{"$2\r\n12\r\n", "(12\r\n", func(p int) []byte { return AppendBigNumber(nil, "12", p) }},
		{"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "", func(int) []byte { return AppendCommand(nil, []byte("GET"), []byte("k")) }},
		{"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "", func(int) []byte { return AppendCommandString(nil, "GET", "k") }},
	} {
		if got := string(tt.f(2)); got != tt.resp2 {
			t.Errorf("RESP2: %q, want %q", got, tt.resp2)
		}
		want := tt.resp3
		if want == "" {
			want = tt.resp2
		}
		if got := string(tt.f(3)); got != want {
			t.Errorf("RESP3: %q, want %q", got, want)
		}
	}
}

func TestParseInt(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "-1": -1, "10": 10, "-10": -10,
		"9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
	} {
		if n, ok := ParseInt([]byte(in)); n != want || !ok {
			t.Errorf("%q = %d, %v", in, n, ok)
		}
	}
	for _, in := range []string{
		"", "-", "+1", "01", "-0", "-01", "00", " 1", "1 ", "1.0", "0x1", "1e3", "a", "1\x00",
		"9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999",
		"-99999999999999999999", strings.Repeat("1", 21),
	} {
		if n, ok := ParseInt([]byte(in)); ok {
			t.Errorf("%q = %d, want it refused", in, n)
		}
	}
}

func TestFormatDouble(t *testing.T) {
	for want, f := range map[string]float64{
		"0": 0, "1": 1, "-1": -1, "10": 10, "100000": 1e5, "1.5": 1.5, "-0": math.Copysign(0, -1),
		"0.10000000000000001": 0.1, "3.1400000000000001": 3.14, "1e+17": 1e17, "1e+100": 1e100,
		"10000000000000000": 1e16, "1234567890123456.8": 1234567890123456.75,
		"0.0001": 0.0001, "1.0000000000000001e-05": 0.00001, "1.7976931348623157e+308": math.MaxFloat64,
		"4.9406564584124654e-324": math.SmallestNonzeroFloat64, "inf": math.Inf(1), "-inf": math.Inf(-1), "nan": math.NaN(),
	} {
		if got := string(FormatDouble(nil, f)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
