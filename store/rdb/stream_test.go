package rdb_test

import (
	"bytes"
	"errors"
	"testing"

	"respmesh/store/rdb"
)

// streamSample is a stream of two entries, one of them deleted and one with fields of its own, and a group.
func streamSample() *rdb.Stream {
	pack := "\x01\x01\x01\x01\x01\x01\x81f\x02\x00\x01" + // 1 entry, 1 deleted, the field f
		"\x03\x01\x00\x01\x00\x01\x81v\x02\x04\x01" + // deleted, 0-0, v
		"\x00\x01\x00\x01\x01\x01\x01\x01\x81g\x02\xf1\xd2\x04\x03\x06\x01" // 0-1, 1 field, g 1234
	pack = string([]byte{byte(len(pack) + 7), 0, 0, 0, 17, 0}) + pack + "\xff"
	id := rdb.StreamID{MS: 5, Seq: 1}
	return &rdb.Stream{
		Nodes: []rdb.StreamNode{{Master: rdb.StreamID{MS: 5}, Pack: []byte(pack)}}, Length: 1, Last: id, First: id, MaxDeleted: rdb.StreamID{MS: 5}, Added: 2,
		Groups: []rdb.StreamGroup{{
			Name: []byte("g"), Last: id, Read: -1, Pending: []rdb.StreamPending{{ID: id, Delivered: 1700000000000, Count: 3}},
			Consumers: []rdb.StreamConsumer{{Name: []byte("c"), Seen: 1700000000001, Pending: []rdb.StreamID{id}}, {Name: []byte("idle")}},
		}},
	}
}

// Whatever byte of a stream is wrong, reading ends with a value or an error.
func TestDamagedStream(t *testing.T) {
	file := write(t, []rdb.Entry{{Key: []byte("s"), Value: streamSample()}})
	if _, err := readAll(rdb.NewReader(bytes.NewReader(file))); err != nil {
		t.Fatal(err)
	}
	clear(file[len(file)-8:]) // no checksum
	for i := range file {
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[i] ^= 1 << bit
			_, _ = readAll(rdb.NewReader(bytes.NewReader(bad)))
		}
	}
	for name, spoil := range map[string]func(s *rdb.Stream){
		"count":             func(s *rdb.Stream) { s.Length = 2 },
		"order":             func(s *rdb.Stream) { s.Nodes = append(s.Nodes, s.Nodes[0]) },
		"unknown pending":   func(s *rdb.Stream) { s.Groups[0].Consumers[1].Pending = []rdb.StreamID{{MS: 9}} },
		"pending twice":     func(s *rdb.Stream) { s.Groups[0].Consumers[1].Pending = s.Groups[0].Consumers[0].Pending },
		"pending of nobody": func(s *rdb.Stream) { s.Groups[0].Consumers[0].Pending = nil },
		"consumer twice":    func(s *rdb.Stream) { s.Groups[0].Consumers[1].Name = []byte("c") },
		"entries":           func(s *rdb.Stream) { s.Nodes[0].Pack[6] = 2 },
		"elements":          func(s *rdb.Stream) { s.Nodes[0].Pack[4]++ },
		"length backwards":  func(s *rdb.Stream) { s.Nodes[0].Pack[14] = 1 },
	} {
		s := streamSample()
		spoil(s)
		_, err := readAll(rdb.NewReader(bytes.NewReader(write(t, []rdb.Entry{{Key: []byte("s"), Value: s}}))))
		if !errors.Is(err, rdb.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
