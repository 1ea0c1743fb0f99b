package embedded

import "testing"

func TestStrings(t *testing.T) {
	vectors(t,
		"get k", "set k v", "get k", "set k v nx", "set n v nx", "set none v xx", "set k v2 xx get", "set k v3 nx get",
		"set new v get", "set k v ex 0", "set k v ex -1", "set k v ex x", "set k v ex", "set k v ex 9223372036854775807",
		"set k v ex 10 px 10", "set k v keepttl ex 10", "set k v ex 10 keepttl", "set k v nx xx", "set k v foo",
		"set k v px 100000", "ttl k", "set k w keepttl", "ttl k", "set k w", "ttl k", "set k v exat 9999999999", "expiretime k",
		"set k v pxat 9999999999999", "pexpiretime k", "set k v exat 1", "get k",
		"setnx k a", "setnx k b", "setex k 10 v", "setex k 0 v", "setex k x v", "ttl k", "psetex k 10000 v", "psetex k -1 v", "ttl k",
		"getset k x", "getset none2 x", "getdel k", "getdel k", "getex none2", "getex none2 ex 100", "ttl none2", "getex none2 persist",
		"ttl none2", "getex none2 ex 0", "getex none2 foo", "getex none2 ex 10 persist", "getex none2 exat 1", "get none2", "getex gone ex 0",
		"mset a 1 b 2", "mset a", "mset a 1 b", "mget a b c", "msetnx c 1 a 2", "get c", "msetnx c 1 d 2", "msetnx c",
		"strlen a", "strlen none", "append a xyz", "append fresh 12", "get a", "object encoding fresh", "object encoding a",
		"getrange a 0 -1", "getrange a -3 -1", "getrange a 5 2", "getrange a -100 100", "getrange a -1 -5", "getrange none 0 1",
		"getrange a x 1", "substr a 0 1", "setrange a 1 ZZ", "get a", "setrange a 10 q", "get a", "setrange empty 0 \"\"",
		"exists empty", "setrange a -1 x", "setrange a 536870912 x", "setrange a 9223372036854775807 x", "setrange num 3 x", "get num",
		"set i 10", "incr i", "decr i", "incrby i 5", "decrby i 7", "incrby i x", "incrby i 9223372036854775807", "set i -9223372036854775808",
		"decr i", "decrby i -9223372036854775808", "incr newi", "object encoding i", "set s abc", "incr s", "set sp \" 1\"", "incr sp",
		"set z 007", "incr z", "set f 10.5", "incrbyfloat f 0.1", "incrbyfloat f -5", "incrbyfloat f 5.0e3", "incrbyfloat f inf", "incrbyfloat f nan",
		"incrbyfloat f x", "incrbyfloat s 1", "set f 3.0e3", "incrbyfloat f 2.0e2", "incrbyfloat g 3.1415926535897932384626", "get g",
		"incrbyfloat h 1e300", "incrbyfloat h 1e-17", "set t 0.1", "incrbyfloat t 0.2", "incrbyfloat t 1e18", "incrbyfloat nz -0.0",
		"set e \"\"", "incrbyfloat e 1", "incr e",
		"set l1 ohmytext", "set l2 mynewtext", "lcs l1 l2", "lcs l1 l2 len", "lcs l1 l2 idx", "lcs l1 l2 idx minmatchlen 4",
		"lcs l1 l2 idx minmatchlen 4 withmatchlen", "lcs l1 l2 idx len", "lcs l1 nope", "lcs l1 l2 foo", "lcs l1 l2 idx withmatchlen",
		"set long 012345678901234567890123456789012345678901234", "object encoding long",
		"set long 01234567890123456789012345678901234567890123", "object encoding long", "set i 99999999999999999999", "object encoding i",
		"set i 1", "object encoding i", "object refcount i", "object refcount long", "object encoding none", "object freq none", "object freq i", "object foo i", "object", "object help", "object encoding",
		"get", "get a b", "nosuch a b c", "set k", "GETRANGE a 0", "gEt a",
	)
}

func TestBitmaps(t *testing.T) {
	vectors(t,
		"setbit b 7 1", "getbit b 7", "getbit b 100", "setbit b 100 1", "strlen b", "setbit b -1 1", "setbit b 4294967296 1", "setbit b 1 2", "setbit b 1 x",
		"setbit b x 1", "get b", "bitcount b", "bitcount none", "bitcount b 0 0", "bitcount b 0 -1 bit", "bitcount b 5 9 bit", "bitcount b 1", "bitcount b 0 1 foo",
		"bitcount b x 1", "bitcount b -2 -1", "bitcount b -1 -2", "set s foobar", "bitcount s", "bitcount s 1 1", "bitcount s 5 30 bit", "bitcount s 0 -5 bit",
		"bitpos s 1", "bitpos s 0", "bitpos s 1 2", "bitpos s 0 2 -1", "bitpos none 1", "bitpos none 0", "bitpos s 2", "bitpos s x", "bitpos s 1 2 3 bit", "bitpos s 0 1 9 bit",
		`set ff "\xff\xff\xff"`, "bitpos ff 0", "bitpos ff 0 0 -1", "bitpos ff 0 1", "bitpos ff 1 10", `set zz "\x00\x00"`, "bitpos zz 1", "bitpos zz 0", "bitpos ff 1 0 1 foo", "bitpos ff 0 0 -1 bit",
		"bitop and d s ff", "get d", "bitop or d s zz ff", "get d", "bitop xor d s ff none", "get d", "bitop not d s", "get d", "bitop not d s ff", "bitop foo d s", "bitop and d none", "exists d",
		"object encoding b", "set i 12", "setbit i 0 1", "get i", "getbit i 1", "lpush l a", "setbit l 1 1", "bitcount l", "bitop and d l s", "getbit l 1",
		"bitfield f set u8 0 255", "bitfield f get u8 0 get i8 0 get u4 4", "bitfield f incrby u8 0 10", "bitfield f overflow sat incrby u8 0 300", "bitfield f overflow fail incrby u8 0 1",
		"bitfield f overflow foo incrby u8 0 1", "bitfield f get u64 0", "bitfield f get i65 0", "bitfield f get x8 0", "bitfield f get u0 0", "bitfield f set i64 0 -1", "bitfield f get i64 0", "bitfield f incrby i64 0 -9223372036854775808",
		"bitfield f overflow sat incrby i64 0 -9223372036854775808", "bitfield f set u8 #1 200", "bitfield f get u8 #1", "bitfield f get u8 #-1", "bitfield f get u8 -1", "bitfield f set u8 0 -1", "bitfield f overflow sat set u8 0 -1", "bitfield f overflow fail set i8 0 200",
		"bitfield f set i8 0 200", "bitfield f set u63 3 9223372036854775807", "bitfield f incrby u63 3 1", "bitfield f", "bitfield f get", "bitfield f get u8", "bitfield_ro f get u8 0", "bitfield_ro f set u8 0 1", "bitfield nokey get u8 0", "exists nokey",
		"bitfield f overflow wrap incrby i5 2 15 overflow fail incrby i5 2 15 incrby i5 2 1", "get f",
	)
}
