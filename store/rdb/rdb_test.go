package rdb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"respmesh/store/rdb"
)

// sample has every type, with contents that are hard on encodings.
func sample() []rdb.Entry {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	var out []rdb.Entry
	add := func(db int, key string, expireAt int64, v rdb.Value) {
		out = append(out, rdb.Entry{DB: db, Key: []byte(key), ExpireAt: expireAt, Value: v})
	}
	texts := []string{"", "0", "-0", "00", "1", "-1", "127", "128", "-128", "-129", "32767", "32768", "-32769",
		"2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808",
		"+1", " 1", "1 ", "1.5", "x", strings.Repeat("a", 63), strings.Repeat("b", 64), strings.Repeat("c", 16383),
		strings.Repeat("d", 16384), strings.Repeat("repeat me ", 1000), string(all), string(random(5000))}
	for i, s := range texts {
		add(0, fmt.Sprintf("string:%d", i), 0, rdb.String(s))
	}
	add(0, string(all), 0, rdb.String("binary key"))
	add(0, "", 0, rdb.String("empty key"))
	add(0, "12345", 0, rdb.String("integer key"))
	add(0, "big", 0, rdb.String(random(300<<10)))
	add(0, "later", 4102444800123, rdb.String("expires in 2100"))
	for _, n := range []int{1, 3, 100, 600} {
		var list rdb.List
		var set rdb.Set
		var ints rdb.Set
		var hash rdb.Hash
		var zset rdb.ZSet
		for i := range n {
			s := []byte(texts[i%len(texts)])
			name := append(strconv.AppendInt(nil, int64(i), 10), s...)
			list = append(list, s)
			set = append(set, name)
			ints = append(ints, strconv.AppendInt(nil, int64(i)*int64(n)-5, 10))
			hash = append(hash, rdb.Field{Name: name, Value: s})
			zset = append(zset, rdb.Member{Name: name, Score: float64(i-n/2) / 3})
		}
		zset[0].Score = math.Inf(-1)
		zset[n-1].Score = math.Inf(1)
		add(3, fmt.Sprintf("list:%d", n), 0, list)
		add(3, fmt.Sprintf("set:%d", n), 4102444800000+int64(n), set)
		add(3, fmt.Sprintf("ints:%d", n), 0, ints)
		add(9, fmt.Sprintf("hash:%d", n), 4102444800000+int64(n), hash)
		add(9, fmt.Sprintf("zset:%d", n), 0, zset)
	}
	small := rdb.ZSet{}
	for i, f := range []float64{0, -1, 1e300, 3.141592653589793, 5e-324, math.MaxFloat64, 17, -4096, 1 << 40} {
		small = append(small, rdb.Member{Name: []byte{byte('a' + i)}, Score: f})
	}
	add(9, "zset:scores", 0, small)
	edges := rdb.List{}
	for _, n := range []int64{0, 12, 13, 127, 128, 4095, 4096, -4096, -4097, 32767, -32768, 8388607, -8388608, 8388608,
		math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		edges = append(edges, strconv.AppendInt(nil, n, 10))
	}
	add(9, "list:edges", 0, edges)
	return out
}

// write encodes entries, which are ordered by database.
func write(t testing.TB, entries []rdb.Entry, aux ...rdb.Aux) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := rdb.NewWriter(&buf, aux...)
	db := -1
	for _, e := range entries {
		if e.DB != db {
			db = e.DB
			_ = w.SelectDB(db, len(entries), 0)
		}
		if err := w.WriteEntry(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func readAll(r *rdb.Reader) ([]rdb.Entry, error) {
	var out []rdb.Entry
	for {
		e, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r },
		"half":  iotest.HalfReader,
		"bytes": iotest.OneByteReader,
		"err":   iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			want := sample()
			if name == "bytes" {
				want = want[:30] // it's slow
			}
			file := write(t, want, rdb.Aux{Key: "redis-ver", Value: "7.0.15"}, rdb.Aux{Key: "repl-stream-db", Value: "3"})
			r := rdb.NewReader(wrap(bytes.NewReader(file)))
			got, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			equalEntries(t, got, want)
			if v, ok := r.Aux("repl-stream-db"); !ok || v != "3" {
				t.Errorf("aux = %q, %v", v, ok)
			}
			if r.Version() != rdb.Version || r.Offset() != int64(len(file)) {
				t.Errorf("version %d, offset %d of %d", r.Version(), r.Offset(), len(file))
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

func TestBufferedAfterEnd(t *testing.T) {
	file := append(write(t, sample()[:3]), "*1\r\n$4\r\nPING\r\n"...)
	r := rdb.NewReader(bytes.NewReader(file))
	if _, err := readAll(r); err != nil {
		t.Fatal(err)
	}
	if string(r.Buffered()) != "*1\r\n$4\r\nPING\r\n" {
		t.Errorf("buffered %q", r.Buffered())
	}
}

func TestCRC64(t *testing.T) {
	if got := rdb.CRC64(0, []byte("123456789")); got != 0xe9c6d914c4b8d9ca {
		t.Errorf("check value is %016x", got)
	}
	b := write(t, sample()[:40])
	whole := rdb.CRC64(0, b)
	for _, cut := range []int{1, 7, 8, 9, 100, len(b) - 1} {
		if got := rdb.CRC64(rdb.CRC64(0, b[:cut]), b[cut:]); got != whole {
			t.Errorf("cut at %d: %016x, not %016x", cut, got, whole)
		}
	}
}

// canonical orders what has no order.
func canonical(v rdb.Value) rdb.Value {
	switch v := v.(type) {
	case rdb.Set:
		v = slices.Clone(v)
		slices.SortFunc(v, bytes.Compare)
		return v
	case rdb.Hash:
		v = slices.Clone(v)
		slices.SortFunc(v, func(a, b rdb.Field) int { return bytes.Compare(a.Name, b.Name) })
		return v
	case rdb.ZSet:
		v = slices.Clone(v)
		slices.SortFunc(v, func(a, b rdb.Member) int { return bytes.Compare(a.Name, b.Name) })
		return v
	}
	return v
}

func equalEntries(t *testing.T, got, want []rdb.Entry) {
	t.Helper()
	index := func(es []rdb.Entry) map[string]rdb.Entry {
		m := map[string]rdb.Entry{}
		for _, e := range es {
			e.Value = canonical(e.Value)
			m[fmt.Sprintf("%d/%s", e.DB, e.Key)] = e
		}
		return m
	}
	g, w := index(got), index(want)
	for _, k := range slices.Sorted(maps.Keys(w)) {
		if e, ok := g[k]; !ok {
			t.Errorf("%.40q is missing", k)
		} else if !reflect.DeepEqual(e, w[k]) {
			t.Errorf("%.40q: got %.200v, want %.200v", k, e, w[k])
		}
		delete(g, k)
	}
	for k := range g {
		t.Errorf("%.40q is one too many", k)
	}
}

func TestDamage(t *testing.T) {
	file := write(t, append(sample()[:24], rdb.Entry{Key: []byte("l"), Value: rdb.List{[]byte("a"), []byte("b")}}))
	for n := range file {
		_, err := readAll(rdb.NewReader(bytes.NewReader(file[:n])))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x41
		_, err := readAll(rdb.NewReader(bytes.NewReader(bad)))
		if err == nil {
			t.Fatalf("byte %d changed: no error", i)
		}
		if !errors.Is(err, rdb.ErrCorrupt) && !errors.Is(err, rdb.ErrUnsupported) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	bad := bytes.Clone(file)
	bad[len(bad)-1] ^= 1
	_, err := readAll(rdb.NewReader(bytes.NewReader(bad)))
	var fe *rdb.FormatError
	if !errors.As(err, &fe) || fe.Offset != int64(len(file)) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("wrong checksum: %v", err)
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		kind       error
		text       string
	}{
		{"magic", "RUBIS0010\xff", rdb.ErrCorrupt, "magic"},
		{"version text", "REDIS00x0\xff", rdb.ErrCorrupt, "version"},
		{"version 0", "REDIS0000\xff", rdb.ErrCorrupt, "version"},
		{"version 12", "REDIS0012\xff", rdb.ErrUnsupported, "version 12"},
		{"stream node with a short id", "REDIS0010\x0f\x01k\x01\x02ab", rdb.ErrCorrupt, "id of 2 bytes"},
		{"stream node that ends early", "REDIS0010\x0f\x01k\x01\x100123456789abcdef\x09\x09\x00\x00\x00\x01\x00\x01\x01\xff", rdb.ErrCorrupt, "damaged"},
		{"stream without its entries", "REDIS0010\x0f\x01k\x00\x05\x00\x00\x00", rdb.ErrCorrupt, "has 0"},
		{"module", "REDIS0010\x07\x01k", rdb.ErrUnsupported, "type 7 (module)"},
		{"hash with field expiry", "REDIS0010\x16\x01k", rdb.ErrUnsupported, "type 22"},
		{"module data", "REDIS0010\xf7", rdb.ErrUnsupported, "opcode 247"},
		{"odd opcode", "REDIS0010\xf4\x00\x00\x00\xf3\x01k", rdb.ErrUnsupported, "type 243"},
		{"huge string", "REDIS0010\x00\x01k\x81\x00\x00\x00\x7f\xff\xff\xff\xff", rdb.ErrCorrupt, "string of"},
		{"long string that isn't there", "REDIS0010\x00\x01k\x80\xff\xff\xff\xff", io.ErrUnexpectedEOF, "byte 17"},
		{"long list that isn't there", "REDIS0010\x01\x01k\x81\x00\xff\xff\xff\xff\xff\xff\xff", io.ErrUnexpectedEOF, "byte 21"},
		{"LZF bomb", "REDIS0010\x00\x01k\xc3\x02\x80\xff\xff\xff\xff\x00a", rdb.ErrCorrupt, "LZF"},
		{"NaN", "REDIS0010\x03\x01k\x01\x01m\xfd", rdb.ErrCorrupt, "not a number"},
		{"odd listpack", "REDIS0010\x10\x01k\x09\x09\x00\x00\x00\x01\x00\x05\x01\xff", rdb.ErrCorrupt, "odd number"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := readAll(rdb.NewReader(strings.NewReader(tc.file)))
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOldFiles(t *testing.T) {
	// Version 4 has no checksum; 3 scores as text; a key without elements is passed over, with its expiry.
	file := "REDIS0004\xfe\x02\xfd\x10\x00\x00\x00\x03\x01z\x03\x01a\xff\x01b\x041e10\x01c\xfe" +
		"\xfd\x10\x00\x00\x00\x01\x05empty\x00\x00\x01k\x01v\xff"
	got, err := readAll(rdb.NewReader(strings.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	equalEntries(t, got, []rdb.Entry{
		{DB: 2, Key: []byte("z"), ExpireAt: 16000, Value: rdb.ZSet{{Name: []byte("a"), Score: math.Inf(-1)},
			{Name: []byte("b"), Score: 1e10}, {Name: []byte("c"), Score: math.Inf(1)}}},
		{DB: 2, Key: []byte("k"), Value: rdb.String("v")},
	})
}

func TestWriterMisuse(t *testing.T) {
	key := []byte("k")
	for name, use := range map[string]func(w *rdb.Writer){
		"short":      func(w *rdb.Writer) { _ = w.BeginList(key, 0, 2); _ = w.Elem(key) },
		"long":       func(w *rdb.Writer) { _ = w.BeginList(key, 0, 1); _ = w.Elem(key); _ = w.Elem(key) },
		"other":      func(w *rdb.Writer) { _ = w.BeginHash(key, 0, 1); _ = w.Elem(key) },
		"empty":      func(w *rdb.Writer) { _ = w.BeginSet(key, 0, 0) },
		"stray":      func(w *rdb.Writer) { _ = w.Member(key, 1) },
		"closed":     func(w *rdb.Writer) { _ = w.Close() },
		"unfinished": func(w *rdb.Writer) { _ = w.BeginZSet(key, 0, 1); _ = w.WriteString(key, 0, key) },
	} {
		w := rdb.NewWriter(io.Discard)
		use(w)
		if err := w.Close(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w := rdb.NewWriter(failing{})
	_ = w.WriteString(key, 0, make([]byte, 1<<20))
	if err := w.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write error: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriterMemory(t *testing.T) {
	elem := bytes.Repeat([]byte("x"), 100)
	w := rdb.NewWriter(io.Discard)
	if err := w.BeginList([]byte("big"), 0, 1_000_000); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = w.Elem(elem) }); n > 0 {
		t.Errorf("%v allocations an element", n)
	}
}

func FuzzReader(f *testing.F) {
	for _, e := range sample() {
		if file := write(f, []rdb.Entry{e}); len(file) < 20_000 {
			f.Add(file)
		}
	}
	f.Add(write(f, []rdb.Entry{{Key: []byte("s"), Value: streamSample()}}))
	for _, b := range compactSamples() {
		f.Add(append([]byte("REDIS0004"), b...))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := readAll(rdb.NewReader(bytes.NewReader(file)))
		size := 0
		for _, e := range got {
			size += len(e.Key)
			if s, ok := e.Value.(rdb.String); ok {
				size += len(s)
			}
		}
		if size > 100*len(file) {
			t.Errorf("%d bytes out of %d", size, len(file))
		}
		if err != nil {
			return
		}
		// What was read can be written and is the same when read again.
		slices.SortStableFunc(got, func(a, b rdb.Entry) int { return a.DB - b.DB })
		again, err := readAll(rdb.NewReader(bytes.NewReader(write(t, got))))
		if err != nil || len(again) != len(got) {
			t.Errorf("%d entries, then %d: %v", len(got), len(again), err)
		}
	})
}

func BenchmarkCRC64(b *testing.B) {
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		rdb.CRC64(0, p)
	}
}

func BenchmarkWriter(b *testing.B) {
	key, val := []byte("key:123456"), bytes.Repeat([]byte("v"), 64)
	w := rdb.NewWriter(io.Discard)
	b.ReportAllocs()
	b.SetBytes(int64(len(key) + len(val)))
	for b.Loop() {
		_ = w.WriteString(key, 0, val)
	}
}

func BenchmarkReader(b *testing.B) {
	var es []rdb.Entry
	for i := range 10000 {
		es = append(es, rdb.Entry{Key: fmt.Appendf(nil, "key:%d", i), Value: rdb.String(bytes.Repeat([]byte("v"), 64))})
	}
	file := write(b, es)
	b.ReportAllocs()
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := readAll(rdb.NewReader(bytes.NewReader(file))); err != nil {
			b.Fatal(err)
		}
	}
}
