package frame

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// repeat is an endless source of the same bytes.
type repeat struct {
	b  []byte
	at int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m := copy(p[n:], r.b[r.at:])
		n += m
		r.at = (r.at + m) % len(r.b)
	}
	return n, nil
}

func set3() []byte { return AppendCommandString(nil, "SET", "user:1000", "some value") }

func BenchmarkNextCommandSet(b *testing.B) {
	r := NewReader(&repeat{b: set3()})
	var c Command
	b.ReportAllocs()
	b.SetBytes(int64(len(set3())))
	for b.Loop() {
		for {
			ok, err := r.NextCommand(&c)
			if err != nil {
				b.Fatal(err)
			}
			if ok {
				break
			}
			if err := r.Fill(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkNextCommandInline(b *testing.B) {
	benchCommands(b, []byte("SET user:1000 'some value'\r\n"))
}

func BenchmarkNextCommand100Args(b *testing.B) {
	args := []string{"MSET"}
	for range 50 {
		args = append(args, "user:1000", "some value")
	}
	benchCommands(b, AppendCommandString(nil, args...))
}

func benchCommands(b *testing.B, frame []byte) {
	r := NewReader(&repeat{b: frame})
	var c Command
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if err := r.ReadCommand(&c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNextReply(b *testing.B) {
	for _, bb := range []struct {
		name  string
		frame []byte
	}{
		{"simple", AppendSimple(nil, "OK")},
		{"bulk", AppendBulkString(nil, "some value")},
		{"int", AppendInt(nil, 1234)},
		{"array10", append(AppendArray(nil, 10), bytes.Repeat(AppendBulkString(nil, "some value"), 10)...)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := NewReader(&repeat{b: bb.frame})
			var p Reply
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.frame)))
			for b.Loop() {
				if err := r.ReadReply(&p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// pieces hands out at most size bytes at a time.
type pieces struct {
	b    []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.b)
	p.b = p.b[n:]
	return n, nil
}

func Benchmark64MBInPieces(b *testing.B) {
	big := AppendCommandString(nil, "SET", "k", strings.Repeat("v", 64<<20))
	b.ReportAllocs()
	b.SetBytes(int64(len(big)))
	for b.Loop() {
		var c Command
		if err := NewReader(&pieces{big, 16 << 10}).ReadCommand(&c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendSet(b *testing.B) {
	k, v := []byte("user:1000"), []byte("some value")
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendCommand(dst[:0], []byte("SET"), k, v)
	}
}
