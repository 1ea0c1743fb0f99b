package embedded

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkSnapshotBigKey writes one key of a million elements, and tells how long the lock was held at most.
func BenchmarkSnapshotBigKey(b *testing.B) {
	const n = 1_000_000
	element := func(i int) []byte { return fmt.Appendf(nil, "element:%d", i) }
	for _, kind := range []struct {
		name string
		make func() payload
	}{
		{"string", func() payload { return stringPayload(bytes.Repeat([]byte("x"), 100*n)) }},
		{"hash", func() payload {
			h := newHash()
			for i := range n {
				h.set(element(i), element(i), 0)
			}
			return hashPayload(h)
		}},
		{"set", func() payload {
			s := newSet()
			for i := range n {
				s.add(element(i), 0)
			}
			return setPayload(s)
		}},
		{"zset", func() payload {
			z := newZSet()
			for i := range n {
				z.set(element(i), float64(i), 0)
			}
			return zsetPayload(z)
		}},
		{"list", func() payload {
			l := newList()
			for i := range n {
				l.pushBack(element(i))
			}
			return listPayload(l)
		}},
		{"stream", func() payload {
			s := newStream()
			for i := range n {
				s.add(streamID{uint64(i + 1), 0}, [][]byte{[]byte("field"), element(i)})
			}
			return streamPayload(s)
		}},
		{"pending", func() payload { // of a group; this isn't done in parts
			s := newStream()
			g := s.addGroup([]byte("group"), streamID{}, 0)
			c, _ := s.addConsumer(g, []byte("consumer"), 0)
			for i := range n {
				id := streamID{uint64(i + 1), 0}
				s.add(id, [][]byte{[]byte("field"), element(i)})
				s.deliver(g, c, id, 0)
			}
			return streamPayload(s)
		}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			e := newEngine(b, Options{})
			e.mu.Lock()
			e.dbs[0].add([]byte("big"), kind.make(), 0)
			e.mu.Unlock()
			var held stays
			for b.Loop() {
				var s *snapshot
				held.measure(func() { s = e.beginSnapshot(nil) })
				var buf bytes.Buffer
				for more := true; more; buf.Reset() {
					var err error
					held.measure(func() { more, err = e.snapshotSlice(s, &buf) })
					if err != nil {
						b.Fatal(err)
					}
				}
				held.measure(func() { e.endSnapshot(s) })
			}
			held.report(b)
		})
	}
}
