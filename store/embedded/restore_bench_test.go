package embedded

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"respmesh/resp/command"
)

// BenchmarkRestore loads a snapshot of many strings, as a start and a full sync do.
func BenchmarkRestore(b *testing.B) {
	const n = 300_000
	from := newEngine(b, Options{})
	c := newConn(from)
	value := []byte(strings.Repeat("x", 64))
	for i := range n {
		c.Do(b.Context(), nil, []command.Request{request([]byte("SET"), fmt.Append(nil, "key:", i), value)})
	}
	var dump bytes.Buffer
	if err := from.Snapshot(&dump, nil); err != nil {
		b.Fatal(err)
	}
	if err := from.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(dump.Len()))
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		e := New(Options{Replica: true})
		if err := e.Restore(io.Reader(bytes.NewReader(dump.Bytes()))); err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/n, "cpu-ns/key")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}
