package rdb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
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

// A real server loads a file with a stream, and dumps what we wrote.
func TestServerLoadsStream(t *testing.T) {
	dir := t.TempDir()
	sample := streamSample()
	file := write(t, []rdb.Entry{{Key: []byte("s"), Value: sample}, {Key: []byte("empty"), Value: &rdb.Stream{Last: rdb.StreamID{MS: 7}}}})
	if err := os.WriteFile(filepath.Join(dir, "dump.rdb"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	if check, err := exec.LookPath("redis-check-rdb"); err != nil {
		t.Log("redis-check-rdb is not installed")
	} else if out, err := exec.Command(check, filepath.Join(dir, "dump.rdb")).CombinedOutput(); err != nil {
		t.Errorf("redis-check-rdb: %v\n%s", err, out)
	}
	r := startRedis(t, dir)
	got, err := readAll(rdb.NewReader(bytes.NewReader(r.save())))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got {
		if s := e.Value.(*rdb.Stream); string(e.Key) == "s" && !reflect.DeepEqual(s, sample) {
			t.Errorf("got %+v\nwant %+v", s, sample)
		}
	}
	if len(got) != 2 {
		t.Error(got)
	}
}

// The types of Redis 5 and 7.2 hold the same stream, with less and with more about it.
func TestOtherStreamTypes(t *testing.T) {
	sample := streamSample()
	body := func(typ byte) []byte {
		b := append([]byte{typ, 1, 's', 1, 16}, rawIDs(sample.Nodes[0].Master)...)
		b = append(append(b, byte(len(sample.Nodes[0].Pack))), sample.Nodes[0].Pack...)
		b = append(b, 1, 5, 1)
		if typ != 15 {
			b = append(b, 5, 1, 5, 0, 2)
		}
		b = append(b, 1, 1, 'g', 5, 1)
		if typ != 15 {
			b = append(append(b, 0x81), bytes.Repeat([]byte{0xff}, 8)...)
		}
		b = append(append(b, 1), rawIDs(sample.Last)...)
		b = append(binary.LittleEndian.AppendUint64(b, 1700000000000), 3, 2)
		for _, c := range sample.Groups[0].Consumers {
			b = append(append(b, byte(len(c.Name))), c.Name...)
			b = binary.LittleEndian.AppendUint64(b, uint64(c.Seen))
			if typ == 21 {
				b = binary.LittleEndian.AppendUint64(b, 12345)
			}
			b = append(append(b, byte(len(c.Pending))), rawIDs(c.Pending...)...)
		}
		return b
	}
	for _, typ := range []byte{15, 19, 21} {
		file := append(append([]byte("REDIS0011"), body(typ)...), 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
		got, err := readAll(rdb.NewReader(bytes.NewReader(file)))
		if err != nil {
			t.Fatalf("type %d: %v", typ, err)
		}
		want := streamSample()
		if typ == 15 {
			want.Legacy, want.First, want.MaxDeleted, want.Added = true, rdb.StreamID{}, rdb.StreamID{}, 0
		}
		if !reflect.DeepEqual(got[0].Value, want) {
			t.Errorf("type %d: got %+v\nwant %+v", typ, got[0].Value, want)
		}
	}
}

func rawIDs(ids ...rdb.StreamID) (b []byte) {
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, id.MS), id.Seq)
	}
	return b
}
