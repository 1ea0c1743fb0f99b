package rdb_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"respmesh/store/rdb"
)

// Files of ours, in the hands of the real thing.
func TestServerLoadsOurs(t *testing.T) {
	dir := t.TempDir()
	want := sample()
	path := filepath.Join(dir, "dump.rdb")
	file := write(t, want, rdb.Aux{Key: "redis-ver", Value: "7.0.15"}, rdb.Aux{Key: "redis-bits", Value: "64"})
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if check, err := exec.LookPath("redis-check-rdb"); err != nil {
		t.Log("redis-check-rdb is not installed")
	} else if out, err := exec.Command(check, path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("RDB looks OK")) {
		t.Errorf("redis-check-rdb: %v\n%s", err, out)
	}
	r := startRedis(t, dir)
	equalEntries(t, r.contents(), want)
}

// contents asks the server for everything, command by command.
func (r *redis) contents() []rdb.Entry {
	r.t.Helper()
	var out []rdb.Entry
	for db := range 16 {
		r.do("SELECT", strconv.Itoa(db))
		for _, k := range r.list("KEYS", "*") {
			e := rdb.Entry{DB: db, Key: []byte(k)}
			at := r.reply("PEXPIRETIME", k)
			if n, _ := at.Int(); n > 0 {
				e.ExpireAt = n
			}
			switch typ := string(r.do("TYPE", k)); typ {
			case "string":
				e.Value = rdb.String(r.do("GET", k))
			case "list":
				e.Value = rdb.List(bytesOf(r.list("LRANGE", k, "0", "-1")))
			case "set":
				e.Value = rdb.Set(bytesOf(r.list("SMEMBERS", k)))
			case "hash":
				var h rdb.Hash
				for l := r.list("HGETALL", k); len(l) > 0; l = l[2:] {
					h = append(h, rdb.Field{Name: []byte(l[0]), Value: []byte(l[1])})
				}
				e.Value = h
			case "zset":
				var z rdb.ZSet
				for l := r.list("ZRANGE", k, "0", "-1", "WITHSCORES"); len(l) > 0; l = l[2:] {
					f, err := strconv.ParseFloat(l[1], 64)
					if err != nil {
						r.t.Fatal(err)
					}
					z = append(z, rdb.Member{Name: []byte(l[0]), Score: f})
				}
				e.Value = z
			default:
				r.t.Fatalf("type %s", typ)
			}
			out = append(out, e)
		}
	}
	r.do("SELECT", "0")
	return out
}

func bytesOf(l []string) [][]byte {
	out := make([][]byte, len(l))
	for i, s := range l {
		out[i] = []byte(s)
	}
	return out
}

// fill gives a server the sample data by commands, so that it picks the encodings.
func (r *redis) fill(entries []rdb.Entry) {
	r.t.Helper()
	for _, e := range entries {
		r.do("SELECT", strconv.Itoa(e.DB))
		k := string(e.Key)
		switch v := e.Value.(type) {
		case rdb.String:
			r.do("SET", k, string(v))
		case rdb.List:
			for _, b := range v {
				r.do("RPUSH", k, string(b))
			}
		case rdb.Set:
			for _, b := range v {
				r.do("SADD", k, string(b))
			}
		case rdb.Hash:
			for _, f := range v {
				r.do("HSET", k, string(f.Name), string(f.Value))
			}
		case rdb.ZSet:
			for _, m := range v {
				r.do("ZADD", k, strconv.FormatFloat(m.Score, 'g', 17, 64), string(m.Name))
			}
		}
		if e.ExpireAt != 0 {
			r.do("PEXPIREAT", k, strconv.FormatInt(e.ExpireAt, 10))
		}
	}
	r.do("SELECT", "0")
}

// Files of the real thing, in ours, with its default encodings, without
// compression, and with hash tables and plain nodes throughout.
func TestWeLoadServers(t *testing.T) {
	want := sample()
	for name, args := range map[string][]string{
		"default":      nil,
		"uncompressed": {"--rdbcompression", "no", "--rdbchecksum", "no"},
		"compact": {"--hash-max-listpack-entries", "5000", "--hash-max-listpack-value", "20000",
			"--zset-max-listpack-entries", "5000", "--zset-max-listpack-value", "20000",
			"--list-max-listpack-size", "5000", "--list-compress-depth", "1", "--set-max-intset-entries", "5000"},
		"plain": {"--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0",
			"--list-max-listpack-size", "1", "--set-max-intset-entries", "0", "--maxmemory-policy", "allkeys-lfu"},
		"lru": {"--maxmemory-policy", "allkeys-lru"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRedis(t, t.TempDir(), args...)
			r.fill(want)
			in := rdb.NewReader(bytes.NewReader(r.save()))
			got, err := readAll(in)
			if err != nil {
				t.Fatal(err)
			}
			equalEntries(t, got, want)
			if v, _ := in.Aux("redis-ver"); v == "" {
				t.Error("no redis-ver")
			}
		})
	}
}

func TestServersFunctionsAndStreams(t *testing.T) {
	r := startRedis(t, t.TempDir())
	lib := "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
	r.do("FUNCTION", "LOAD", lib)
	in := rdb.NewReader(bytes.NewReader(r.save()))
	if _, err := readAll(in); err != nil {
		t.Fatal(err)
	}
	if f := in.Functions(); len(f) != 1 || string(f[0]) != lib {
		t.Errorf("functions %q", f)
	}
	for i := range 250 {
		r.do("XADD", "s", fmt.Sprint(i+1), "a", strings.Repeat("b", i), "c", strconv.Itoa(i*i))
	}
	r.do("XDEL", "s", "7", "8")
	r.do("XTRIM", "s", "MAXLEN", "220")
	r.do("XGROUP", "CREATE", "s", "g", "0")
	r.do("XREADGROUP", "GROUP", "g", "c", "COUNT", "20", "STREAMS", "s", ">")
	got, err := readAll(rdb.NewReader(bytes.NewReader(r.save())))
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	s, ok := got[0].Value.(*rdb.Stream)
	if !ok || s.Length != 220 || s.Added != 250 || s.MaxDeleted.MS != 8 || len(s.Groups) != 1 || len(s.Groups[0].Consumers[0].Pending) != 20 {
		t.Errorf("stream %+v", s)
	}
	again, err := readAll(rdb.NewReader(bytes.NewReader(write(t, got))))
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("written and read again: %v", err)
	}
}

// compactSamples are values in the encodings of older servers, as type, key and
// body: what 7.0 still reads and doesn't write any more.
func compactSamples() map[string][]byte {
	lp := func(s string) string { return string([]byte{byte(len(s))}) + s } // of less than 64 bytes
	zl := ziplist("a", "12", "13", "127", "-200", "70000", "8388607", "-8388608", "99999999999",
		strings.Repeat("m", 100), strings.Repeat("n", 300))
	zl64 := func(s string) string { return string(appendLen(nil, len(s))) + s }
	return map[string][]byte{
		"list ziplist":   []byte("\x0a\x01k" + zl64(zl)),
		"hash ziplist":   []byte("\x0d\x01k" + lp(ziplist("f", "1", "g", "x"))),
		"zset ziplist":   []byte("\x0c\x01k" + lp(ziplist("m", "-5", "n", "2.5"))),
		"list quicklist": []byte("\x0e\x01k\x02" + zl64(zl) + lp(ziplist("last"))),
		"hash zipmap":    []byte("\x09\x01k" + lp("\x02\x01f\x01\x00x\x01g\x02\x01yz.\xff")),
		"zset text":      []byte("\x03\x01k\x02\x01a\x032.5\x01b\xff"),
	}
}

func appendLen(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
}

// ziplist encodes as old servers did.
func ziplist(elems ...string) string {
	var b []byte
	prev, tail := 0, 10
	for _, s := range elems {
		start := len(b)
		if prev < 254 {
			b = append(b, byte(prev))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(prev))
		}
		n, err := strconv.ParseInt(s, 10, 64)
		switch {
		case err == nil && n >= 0 && n <= 12:
			b = append(b, 0xf1+byte(n))
		case err == nil && n == int64(int8(n)):
			b = append(b, 0xfe, byte(n))
		case err == nil && n == int64(int16(n)):
			b = binary.LittleEndian.AppendUint16(append(b, 0xc0), uint16(n))
		case err == nil && n >= -1<<23 && n < 1<<23:
			b = append(b, 0xf0, byte(n), byte(n>>8), byte(n>>16))
		case err == nil && n == int64(int32(n)):
			b = binary.LittleEndian.AppendUint32(append(b, 0xd0), uint32(n))
		case err == nil:
			b = binary.LittleEndian.AppendUint64(append(b, 0xe0), uint64(n))
		case len(s) < 64:
			b = append(append(b, byte(len(s))), s...)
		default:
			b = append(append(b, 0x40|byte(len(s)>>8), byte(len(s))), s...)
		}
		tail = 10 + start
		prev = len(b) - start
	}
	h := binary.LittleEndian.AppendUint32(nil, uint32(10+len(b)+1))
	h = binary.LittleEndian.AppendUint32(h, uint32(tail))
	h = binary.LittleEndian.AppendUint16(h, uint16(len(elems)))
	return string(h) + string(b) + "\xff"
}

// The old encodings mean the same to us as to a real server.
func TestOldEncodings(t *testing.T) {
	r := startRedis(t, t.TempDir())
	for name, rec := range compactSamples() {
		t.Run(name, func(t *testing.T) {
			file := append([]byte("REDIS0004"), append(rec, 0xff)...)
			got, err := readAll(rdb.NewReader(bytes.NewReader(file)))
			if err != nil {
				t.Fatal(err)
			}
			r.do("FLUSHALL")
			payload := binary.LittleEndian.AppendUint16(append([]byte{rec[0]}, rec[3:]...), 9)
			payload = binary.LittleEndian.AppendUint64(payload, rdb.CRC64(0, payload))
			r.do("RESTORE", "k", "0", string(payload))
			equalEntries(t, got, r.contents())
			if len(got) != 1 {
				t.Error(fmt.Sprint(got))
			}
		})
	}
}
