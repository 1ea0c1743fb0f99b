package embedded

import (
	"strings"
	"testing"
)

// TestEdgesOfArguments: what only hostile or careless clients send.
func TestEdgesOfArguments(t *testing.T) {
	long := strings.Repeat("x", 70)
	vectors(t,
		`set k v`, `expire k 1 "*1\r\n"`, `expire k 1 "\x00"`, `expire k 1 "a\x00b"`, `pexpireat k 1 "\r\nx\ny\r\n"`,
		`object "no\r\n" k`, `client list type "a\x00b"`, `hello 9 "x\r\n"`,
		`swapdb 16 abc`, `swapdb -1 abc`, `swapdb abc 16`, `swapdb -1 1`, `swapdb 1 16`, `swapdb 1 9999999999`, `swapdb 1 1`,
		`pexpireat k 9223372036854775807`, `expiretime k`, `pexpiretime k`, `copy k k2`, `expiretime k2`, `flushall`,
		`scan ""`, `scan "\x00"`, `scan "0\x00z"`, `scan " 0"`, `scan "0 "`, `scan -`, `scan -0`, `scan +0`, `scan 0x0`,
		`scan 99999999999999999999`, `scan -99999999999999999999`, `scan 0 count 9223372036854775807`,
		`sscan s ""`, `hscan s "\x00"`, `zscan s " "`, `zscan s "" count 0`,
		`blpop q 99999999999999999999`, `blpop q inf`, `blpop q -inf`, `blpop q nan`, `blpop q 9223372036854776`, `blpop q 1e400`,
		`blpop q -1`, `blpop q ""`, `blpop q 1x`, `blpop q -0.5`, `blpop q " 1"`, `blpop q -1e400`, `brpoplpush a b 1e400`,
		`blmpop abc 0 q LEFT`, `blmpop abc abc q LEFT`, `blmpop -1 1 q FOO`, `blmpop -1 1 q LEFT COUNT 0`, `blmpop abc 5 q LEFT`,
		`blmpop abc 1 q LEFT`, `blmpop -1 1 q LEFT`, `blmpop abc 1 q LEFT COUNT 1 COUNT 1`, `blmpop abc 1 q LEFT FOO`, `blmpop 1 -1 q`,
		`bzmpop abc 0 z MIN`, `bzmpop -1 1 z FOO`, `bzmpop -1 1 z MIN COUNT 0`, `bzmpop abc 1 z MIN`, `lmpop 1 q LEFT COUNT`, `lmpop 1 q`,
		`blmpop 0.01 2 q`, `blmpop 0.01 1 q LEFT COUNT abc`, `zmpop 0 z MIN`, `zmpop 9223372036854775807 z MIN`,
		`bzpopmin z abc`, `bzpopmin z 1e400`, `blmove a b LEFT FOO x`, `blmove a b LEFT LEFT x`,
		`rpush l a b a`, `lpos l a RANK -9223372036854775808`, `lpos l a RANK -9223372036854775807`,
		`lpos l a RANK -9223372036854775808 COUNT 0`, `lpos l a COUNT -1 RANK 0`, `lrem l -9223372036854775808 a`, `lrange l 0 -1`,
		`set k v`, `bitcount k 0`, `bitcount no 0`, `bitcount no a b`, `bitcount l 0`, `bitcount k a b FOO`, `bitcount k a b c d`,
		`bitcount l a b c d`, `bitcount no 0 1 FOO`, `bitcount k 0 a FOO`, `bitcount k 0 a BIT`, `bitcount k 0 1 FOO`,
		`bitpos no 1 a`, `bitpos k 1 a`, `bitpos k 1 0 a FOO`, `bitpos k 1 a 0 FOO`, `bitpos l 1 a`, `bitpos k 1 0 a BIT`,
		`bitfield bf overflow sat set i5 #3 -9223372036854775808`, `get bf`, `bitfield bf overflow sat set i5 0 -9223372036854775793 set i8 8 -9223372036854775000 set i64 16 -9223372036854775808`,
		`get bf`, `bitfield bf overflow fail set i5 0 -9223372036854775808`, `bitfield bf overflow sat incrby i5 0 -9223372036854775808 incrby i5 0 9223372036854775807`, `bitfield bf set i5 0 -9223372036854775808 overflow sat set u5 8 -9223372036854775808`, `get bf`,
		`zadd z -0 a`, `zscore z a`, `zincrby z -0 b`, `zscore z b`, `zadd z2 -0 a`, `zadd z2 1 `+long, `zscore z2 a`, `zadd z2 -0 new`,
		`zscore z2 new`, `zrange z 0 -1 withscores`, `zadd z3 0 a`, `zadd z3 -0 a`, `zscore z3 a`, `zadd z5 incr -0 a`, `zscore z5 a`,
		`zunion 1 z withscores`, `zunion 2 z z2 weights -1 -1 withscores`, `zunionstore u 1 z weights -1`, `zrange u 0 -1 withscores`,
		`zadd z6 -0 `+long, `zscore z6 `+long, `zinterstore i 1 z6`, `zscore i `+long, `zadd z7 -0 a 1 b`, `zincrby z7 -0 a`, `zscore z7 a`,
		`zpopmin z7`, `zdiff 1 z2 withscores`, `zrangestore d z2 0 0`, `zrange d 0 -1 withscores`, `~ zmscore z2 a new`, `zadd z6 0 `+long, `zscore z6 `+long,
	)
}

// TestScannedScores: ZSCAN shows how a small set keeps its scores.
func TestScannedScores(t *testing.T) {
	var lines []string
	for _, s := range strings.Fields("0 -0 1e15 4503599627370496 9007199254740993 1e17 -1e17 4e18 4611686018427387904 -4611686018427387904 " +
		"4611686018427388928 9e18 -9e18 1e19 1e21 0.1 3e-7 123456789012345678 inf -inf 2.5") {
		lines = append(lines, "del z", "zadd z "+s+" a", "zscan z 0", "zscore z a", "zrange z 0 -1 withscores", "zadd z 0 "+strings.Repeat("x", 70),
			"zadd z 7 a", "zadd z "+s+" a", "zscore z a")
	}
	vectors(t, lines...)
}

// TestEncodings: when small values become big ones.
func TestEncodings(t *testing.T) {
	long := strings.Repeat("x", 65)
	limit := strings.Repeat("x", 64)
	lines := []string{
		"zadd z 1 " + limit, "object encoding z", "zadd z xx 1 " + long, "object encoding z", "zadd z 1 " + long, "object encoding z",
		"zrem z " + long, "object encoding z", "zadd z1 xx 1 " + long, "object encoding z1", "zadd z2 nx 1 a 2 " + long, "object encoding z2",
		"zincrby z3 1 " + long, "object encoding z3", "zunionstore z4 1 z", "object encoding z4", "zrangestore z5 z2 0 -1", "object encoding z5",
		"zrangestore z6 z2 0 0", "object encoding z6", "sort z6 alpha", "object encoding z6", "copy z6 z7", "object encoding z7",
		"hset h a " + limit, "object encoding h", "hset h a " + long, "object encoding h", "hincrby h2 " + long + " 1", "object encoding h2",
		"hincrbyfloat h3 " + long + " 1", "object encoding h3", "hsetnx h4 " + long + " 1", "object encoding h4",
		"hset h5 a 1", "hsetnx h5 a " + long, "object encoding h5", "hdel h a", "hset h a 1", "object encoding h",
		"sadd s 1 2 3", "object encoding s", "sadd s a", "object encoding s", "srem s a", "object encoding s", "sinterstore t s s", "object encoding t",
		"sunionstore u s t", "object encoding u", "sadd v a", "srem v a", "sadd v 1", "object encoding v", "sadd w x 1", "object encoding w",
		"set a 1", "object encoding a", "append a 2", "object encoding a", "set b " + strings.Repeat("y", 44), "object encoding b",
		"set b " + strings.Repeat("y", 45), "object encoding b", "set c 01", "object encoding c", "incrbyfloat c 1", "object encoding c",
		"incr c", "object encoding c", "setrange c 0 7", "object encoding c", "set d 9223372036854775808", "object encoding d", "getset d 5", "object encoding d",
		"setbit e 1 1", "object encoding e", "bitop not f e", "object encoding f", "mset g 12", "object encoding g", "hset hh n 1", "rpush l 1", "object encoding l",
	}
	var many, fields, ints []string
	for i := range 128 {
		many = append(many, "1 m"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	for i := range 512 {
		fields = append(fields, "f"+string(rune('a'+i%26))+string(rune('a'+i/26))+" 1")
		ints = append(ints, "1"+string(rune('0'+i%10))+string(rune('0'+i/10%10))+string(rune('0'+i/100)))
	}
	lines = append(lines, "del z h s", "zadd z "+strings.Join(many, " "), "object encoding z", "zadd z xx 2 maa", "object encoding z",
		"zunionstore y 1 z", "object encoding y", "zadd z 1 other", "object encoding z", "zrem z other", "object encoding z",
		"zunionstore y 1 z", "object encoding y", "zrangestore y z 0 -1", "object encoding y",
		"hset h "+strings.Join(fields, " "), "object encoding h", "hset h faa 2", "object encoding h", "hset h other 1", "object encoding h",
		"sadd s "+strings.Join(ints, " "), "object encoding s", "sadd s 1", "object encoding s")
	vectors(t, lines...)
}
