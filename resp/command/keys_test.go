package command

import (
	"slices"
	"strings"
	"testing"

	"respmesh/resp/frame"
)

// examples have at least one line for every command with keys. An underscore stands for an empty argument.
const examples = `
append k v
bitcount k
bitcount k 0 -1
bitfield k get u8 0
bitfield k set u8 0 1
bitfield k overflow fail incrby u8 0 1
bitfield k overflow sat get u8 0 get u8 1
bitfield k get u8
bitfield k nonsense
bitfield_ro k get u8 0
bitop and d a b c
bitop NOT d a
bitpos k 1
blmove a b left right 0
blmpop 0 2 a b left count 3
blpop a 0
blpop a b c 0
brpop a b 0
brpoplpush a b 0
bzmpop 1.5 1 a min
bzmpop 0 3 a b c max
bzpopmax a b 0
bzpopmin a 0
copy a b replace
decr k
decrby k 2
del a
del a b c
dump k
eval s 2 a b c
eval s 0
eval s 0 arg
eval_ro s 1 a
evalsha abc 1 a
evalsha_ro abc 3 a b c
exists a b
expire k 1
expireat k 1 nx
expiretime k
fcall f 1 a
fcall_ro f 2 a b c
geoadd k 1 2 m
geodist k a b
geohash k a
geopos k a b
georadius k 1 2 3 m
georadius k 1 2 3 m store d
georadius k 1 2 3 m withcoord count 5 STOREDIST d
georadius k 1 2 3 m store a storedist b
georadius_ro k 1 2 3 m
georadiusbymember k m 3 km
georadiusbymember k m 3 km store d
georadiusbymember_ro k m 3 km
geosearch k frommember m byradius 1 m
geosearchstore d k frommember m byradius 1 m
get k
GET K
getbit k 1
getdel k
getex k ex 1
getrange k 0 1
getset k v
hdel k f
hexists k f
hget k f
hgetall k
hincrby k f 1
hincrbyfloat k f 1
hkeys k
hlen k
hmget k f g
hmset k f v
hrandfield k
hscan k 0
hset k f v g w
hsetnx k f v
hstrlen k f
hvals k
incr k
incrby k 1
incrbyfloat k 1
lcs a b
lindex k 0
linsert k before a b
llen k
lmove a b left right
lmpop 2 a b left
lpop k
lpos k e
lpush k a b
lpushx k a
lrange k 0 1
lrem k 0 a
lset k 0 a
ltrim k 0 1
memory usage k
mget a
mget a b c
migrate h 1 k 0 100
migrate h 1 k 0 100 copy replace auth keys
migrate h 1 _ 0 100 keys a b c
migrate h 1 _ 0 100 copy auth2 u keys keys a b
move k 1
mset a 1
mset a 1 b 2 c 3
msetnx a 1 b 2
object encoding k
object freq k
object idletime k
object refcount k
persist k
pexpire k 1
pexpireat k 1
pexpiretime k
pfadd k a
pfcount a b
pfdebug encoding k
pfmerge d a b
psetex k 1 v
pttl k
rename a b
renamenx a b
restore k 0 v
restore-asking k 0 v
rpop k 2
rpoplpush a b
rpush k a
rpushx k a
sadd k a b
scard k
sdiff a b
sdiffstore d a b
set k v
set k v ex 10 nx
set k v nx GET
set get get
setbit k 0 1
setex k 1 v
setnx k v
setrange k 0 v
sinter a b
sintercard 2 a b limit 3
sinterstore d a b
sismember k a
smembers k
smismember k a b
smove a b m
sort k
sort k limit 0 10 desc alpha
sort k store d
sort k by store store d
sort k STORE a store b
sort k get store get # limit store store store d
sort k store
sort_ro k
sort_ro k by w_*
spop k
srandmember k
srem k a
sscan k 0
strlen k
substr k 0 1
sunion a b
sunionstore d a b
touch a b
ttl k
type k
unlink a b
watch a b
xack k g 1-1
xadd k * f v
xautoclaim k g c 0 0
xclaim k g c 0 1-1
xdel k 1-1
xgroup create k g $
xgroup createconsumer k g c
xgroup delconsumer k g c
xgroup destroy k g
xgroup setid k g $
xinfo consumers k g
xinfo groups k
xinfo stream k full
xlen k
xpending k g
xrange k - +
xread streams k 0
xread count 2 block 0 STREAMS a b c 0 0 0
xread streams streams 0
xreadgroup group g c streams k >
xreadgroup group streams c count 1 noack streams a b > >
xrevrange k + -
xsetid k 1-1
xtrim k maxlen 1
zadd k 1 m
zcard k
zcount k 0 1
zdiff 2 a b withscores
zdiffstore d 2 a b
zincrby k 1 m
zinter 1 a
zintercard 2 a b limit 1
zinterstore d 3 a b c weights 1 2 3
zlexcount k - +
zmpop 2 a b min
zmscore k a b
zpopmax k
zpopmin k 2
zrandmember k
zrange k 0 1
zrangebylex k - +
zrangebyscore k 0 1
zrangestore d k 0 1
zrank k m
zrem k a b
zremrangebylex k - +
zremrangebyrank k 0 1
zremrangebyscore k 0 1
zrevrange k 0 1
zrevrangebylex k + -
zrevrangebyscore k 1 0
zrevrank k m
zscan k 0
zscore k m
zunion 2 a b weights 1 2
zunionstore d 2 a b aggregate max
`

// Malformed commands, on which the server sees no keys.
const malformed = `
zunion 0 a
zunion x a
zunion 3 a b
zunion -1 a
zunionstore d 9223372036854775807 a
eval s 2 a
eval s x
eval s -1
xread streams
xread count 2
blmpop 0 3 a left
`

func fields(line string) []string {
	args := strings.Fields(line)
	for i, a := range args {
		if a == "_" {
			args[i] = ""
		}
	}
	return args
}

func TestKeysMatchServer(t *testing.T) {
	srv := startServer(t, 2)
	seen := make(map[*Spec]bool)
	for line := range strings.Lines(strings.TrimSpace(examples)) {
		args := fields(line)
		s := Lookup(argv(args...))
		if s == nil || !s.ArityOK(len(args)) {
			t.Errorf("%s: no such command", line)
			continue
		}
		seen[s] = true
		want := ""
		reply := srv.do(append([]string{"COMMAND", "GETKEYSANDFLAGS"}, args...)...)
		if reply.IsError() {
			t.Errorf("%q: the server says %q", args, reply.Text())
			continue
		}
		for _, k := range children(reply) {
			e := children(k)
			want += string(e[0].Text()) + flagText(children(e[1])) + " "
		}
		keys, _ := s.AppendKeys(nil, argv(args...))
		got := ""
		for _, k := range keys {
			got += args[k.Index] + "[" + strings.Join(slices.Collect(k.Flags.Names()), " ") + "] "
			if k.Write != (k.Flags&(KeyRW|KeyOW|KeyRM) != 0) {
				t.Errorf("%q: Write is %v, flags %v", args, k.Write, k.Flags)
			}
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", args, got, want)
		}
	}
	for s := range All() {
		if s.hasKeys() != seen[s] {
			t.Errorf("%s: has keys: %v, has examples: %v", s.Name, s.hasKeys(), seen[s])
		}
	}

	for line := range strings.Lines(strings.TrimSpace(malformed)) {
		args := fields(line)
		reply := srv.do(append([]string{"COMMAND", "GETKEYS"}, args...)...)
		if !reply.IsError() && reply.Len() > 0 {
			t.Errorf("%q: the server sees %q", args, reply.Raw)
		}
		s := Lookup(argv(args...))
		if keys, ok := s.AppendKeys(nil, argv(args...)); len(keys) > 0 || ok {
			t.Errorf("%q: keys %v, all: %v", args, keys, ok)
		}
	}
}

func flagText(flags []frame.Reply) string {
	var names []string
	for _, f := range flags {
		names = append(names, string(f.Text()))
	}
	return "[" + strings.Join(names, " ") + "]"
}

func TestKeysKnown(t *testing.T) {
	for line, want := range map[string]bool{
		"get k": true, "mset a 1 b 2": true, "ping": true, "publish c m": true, "spublish c m": true, "subscribe c": true,
		"time": true, "pfmerge d": true, "select 1": true, "lolwut": true, "multi": true, "echo x": true, "info": true,
		"keys *": false, "scan 0": false, "dbsize": false, "randomkey": false, "flushall": false, "flushdb": false,
		"swapdb 0 1": false, "exec": false, "function load x": false, "debug sleep 0": false,
		"eval s 1 k": true, "eval s 0": false, "eval_ro s 0": false, "fcall f 0": false, "fcall f 1 k": true,
		"sort k": true, "sort k by nosort": true, "sort k by w_*": false, "sort k get #": true, "sort k get o_*": false,
		"sort_ro k by w_*": false, "sort k by": false, "sort k store d": true, "georadius k 1 2 3 m": true,
		"migrate h 1 _ 0 100 keys": false, "migrate h 1 k 0 100 keys a": false,
	} {
		args := argv(fields(line)...)
		s := Lookup(args)
		if _, ok := s.AppendKeys(nil, args); ok != want {
			t.Errorf("%s: keys known: %v, want %v", line, ok, want)
		}
	}
}

// Whatever the arguments, keys are within them.
func FuzzAppendKeys(f *testing.F) {
	for line := range strings.Lines(strings.TrimSpace(examples + strings.TrimSpace(malformed))) {
		f.Add(strings.TrimSpace(line))
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := argv(fields(line)...)
		s := Lookup(args)
		if s == nil {
			return
		}
		keys, _ := s.AppendKeys(nil, args)
		for _, k := range keys {
			if k.Index <= 0 || k.Index >= len(args) {
				t.Fatalf("%q: key %d", args, k.Index)
			}
		}
		UnknownError(args)
		AppendAnswer(nil, append(argv("COMMAND", "GETKEYS"), args...), 2)
	})
}
