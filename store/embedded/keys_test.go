package embedded

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestGlob tries random patterns on random keys.
func TestGlob(t *testing.T) {
	real := dialReal(t)
	rng := rand.New(rand.NewPCG(3, 4))
	random := func(alphabet string, n int) []byte {
		b := make([]byte, rng.IntN(n))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return b
	}
	for range 200 {
		key := random("abc-]^\\", 5)
		real.do(t, [][]byte{[]byte("flushall")})
		real.do(t, [][]byte{[]byte("set"), key, []byte("v")})
		for range 20 {
			pattern := random("aabcc*?[]^-\\", 9)
			if string(pattern) == "*" {
				continue // KEYS doesn't ask the matcher
			}
			got := fmt.Sprintf("*%d", 0)
			if match(pattern, key, false) {
				got = "*1"
			}
			if want := real.do(t, [][]byte{[]byte("keys"), pattern}); got != string(want[:2]) {
				t.Errorf("%q against %q: got %s, want %.2s", pattern, key, got, want)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	vectors(t,
		"set a 1", "del a b", "exists a", "set a 1", "set b 2", "exists a b a none", "touch a none", "type a", "type none", "unlink a", "dbsize",
		"rename none x", "rename b c", "get c", "set d 4", "renamenx c d", "renamenx c e", "rename e e", "renamenx e e", "renamenx none e",
		"set k v ex 100", "rename k k2", "ttl k2", "copy k2 k3", "ttl k3", "copy k2 k3", "copy k2 k3 replace", "copy k2 k2", "copy k2 k3 db 1", "copy k2 k2 db 99", "copy k2 k2 db x", "copy none k3", "copy k2 x foo",
		"move k2 1", "move k2 1", "select 1", "ttl k2", "dbsize", "move k2 x", "move k2 99", "move k2 1", "swapdb 0 1", "dbsize", "select 0", "dbsize", "swapdb 0 99", "swapdb x 1", "swapdb 1 x", "swapdb 0 0",
		"select x", "select 16", "select -1", "flushdb foo", "flushdb async", "dbsize", "flushall sync", "flushall a b", "randomkey",
		"set x 1", "randomkey", "~ keys *", "keys none*", "set y 2", "~ keys ?", "keys [x]", "keys [^x]", "keys [w-x]", "~ keys [x-w]", "keys x\\", "keys \\x", "keys [x", "~ keys [^", "set \"\" e", "~ keys **", "~ keys ?*", "del \"\"",
		"! scan 0", "! scan 0 count 1", "scan x", "scan 0 count 0", "scan 0 count x", "scan 0 match", "scan 0 match x", "scan 0 type string match x", "scan 0 type hash", "scan 0 foo bar", "scan 0 type STRING match y",
		"? scan -1", "scan \" 1\"", "scan 0x",
		"expire x 100", "ttl x", "expire none 10", "expire x x", "expire x 10 nx", "expire x 200 xx", "expire x 100 gt", "expire x 300 gt", "expire x 400 lt", "expire x 200 lt", "ttl x", "expire x 10 nx xx", "expire x 10 gt lt", "expire x 10 foo",
		"expire y 10 gt", "expire y 10 lt", "persist y", "persist y", "persist none", "expire x 9223372036854775807", "expire x -9223372036854775808", "pexpire x 9223372036854775807", "expireat x 99999999999", "expiretime x", "pexpireat x 9999999999999", "pexpiretime x", "ttl none", "pttl none", "pttl y", "expiretime y", "pexpiretime none",
		"expire x -1", "exists x", "expireat y 1", "dbsize", "pexpire none 10",
		"time x", "echo hi", "ping", "ping hi", "ping a b", "echo", "dbsize x", "del", "object idletime none", "config get maxmemory-policy", "config get", "~ config get maxmemory save", "config foo", "memory usage none", "memory usage none samples -1", "memory usage none foo",
		"role x", "command count", "command getkeys set a b", "command getkeys ping", "client foo", "client", "client getname", "client setname \"a b\"", "client setname me", "client getname", "client no-evict foo", "client no-evict on", "client unblock 99999", "client unblock 1 foo", "client unblock x", "client list type foo", "client list foo", "client list id x",
		"hello 4", "hello x", "hello 2 foo", "hello 2 setname \"a b\"", "hello 2 auth a", "auth x", "auth x y z", "readonly", "swapdb 1", "select", "reset", "get x",
	)
}

func TestMulti(t *testing.T) {
	vectors(t,
		"exec", "discard", "multi", "multi", "set a 1", "incr a", "get a", "watch a", "exec", "get a",
		"multi", "nosuch", "set a 5", "exec", "get a", "multi", "get", "exec", "multi", "set a 7", "discard", "get a",
		"multi", "exec", "watch a", "set a 9", "multi", "get a", "exec", "watch a", "unwatch", "set a 10", "multi", "get a", "exec",
		"watch none", "multi", "exec", "watch a b", "del a", "multi", "ping", "exec", "multi", "select 1", "set x 1", "exec", "dbsize", "select 0",
		"multi", "lpush l a", "incr l", "get l", "blpop none 0", "blpop l 0", "exec", "multi", "subscribe foo", "unsubscribe foo", "exec", "multi", "client foo", "exec",
		"watch f", "flushall", "multi", "ping", "exec", "set f 1", "watch f", "flushdb", "multi", "ping", "exec", "set f 1", "watch f", "swapdb 0 1", "multi", "ping", "exec",
		"watch", "multi x", "exec x", "multi", "reset", "exec",
	)
}

func TestPubSub(t *testing.T) {
	vectors(t,
		"publish c m", "unsubscribe", "punsubscribe", "sunsubscribe", "unsubscribe x", "pubsub channels", "pubsub numsub a b", "pubsub numpat", "pubsub foo", "pubsub help", "pubsub channels a b",
		"subscribe a", "get x", "client|id", "ping", "ping hi", "psubscribe a*", "unsubscribe a", "punsubscribe a*", "get x", "subscribe q", "reset", "ping",
		"ssubscribe s", "sunsubscribe s", "spublish s m", "subscribe", "psubscribe", "publish a",
	)
}

func TestStream(t *testing.T) {
	stream(t,
		"set a 1", "set a 1 ex 100", "set a 1 px 5000 nx", "set b 1 px 5000 nx", "set c 1 exat 9999999999", "set c 1 pxat 9999999999999", "set c 2 keepttl", "set c 3 get", "set d 3 get xx", "set d 3 get keepttl nx",
		"setex a 10 v", "psetex a 10000 v", "setnx e 1", "setnx e 1", "getset e 2", "getdel e", "getdel e", "set e 1", "getex e", "getex e ex 100", "getex e persist", "getex e persist", "getex e exat 1",
		"mset a 1 b 2", "msetnx a 1 z 2", "msetnx y 1 z 2", "append a 5", "setrange a 1 x", "setrange a 1 \"\"", "incr n", "decrby n 4", "incrbyfloat n 1.5", "setbit n 1 1", "bitop not m n", "bitop not nokey nokey2", "bitfield n get u8 0", "bitfield n set u8 0 1",
		"del nothing", "del a b nothing", "unlink z", "rename y yy", "rename nothing x", "copy yy y", "move y 1", "move nokey 1", "swapdb 0 1", "swapdb 0 1", "expire yy 100", "expire yy 100 nx", "pexpire yy 900000 gt", "set c 1 pxat 9999999999999 nx", "set fresh 1 pxat 9999999999999 nx", "expireat yy 9999999999", "pexpireat yy 9999999999999", "persist yy", "persist yy", "expire yy -1",
		"multi", "set a 1", "exec", "multi", "set a 1", "incr a", "get a", "exec", "multi", "exec", "multi", "get a", "exec", "multi", "select 3", "set q 1", "select 0", "set q 1", "exec", "select 2", "set r 1", "select 0", "publish ch m", "flushdb", "flushall", "multi", "nosuch", "exec",
		"multi", "publish ch m", "set a 1", "exec", "touch a", "set a 1 px 1 nx",
	)
}
