package embedded

import (
	"fmt"
	"strings"
	"testing"
)

// join makes one command of many arguments.
func join(n int, format string) string {
	var b strings.Builder
	for i := range n {
		b.WriteByte(' ')
		b.WriteString(strings.ReplaceAll(format, "%", fmt.Sprint(i)))
	}
	return b.String()
}

func TestHashes(t *testing.T) {
	long := strings.Repeat("x", 65)
	vectors(t,
		"hset h a 1 b 2 c three", "hset h a 1 d 4", "hset h a", "hset h a 1 b", "hmset h a 1 b", "hmset h e 5", "hget h a", "hget h nope", "hget none a",
		"~ hgetall h", "hgetall none", "~ hkeys h", "~ hvals h", "hkeys none", "hvals none", "hlen h", "hlen none", "hmget h a nope c", "hmget none a b",
		"hexists h a", "hexists h z", "hexists none a", "hstrlen h c", "hstrlen h a", "hstrlen h z", "hstrlen none a", "hsetnx h a 9", "hsetnx h new 9", "hsetnx h2 a 1",
		"hdel h new nope", "hdel none a", "hdel h2 a", "exists h2", "object encoding h", "hset h "+long+" v", "object encoding h", "hget h "+long, "~ hgetall h",
		"hincrby h a 5", "hincrby h a x", "hincrby h c 1", "hincrby h a 9223372036854775807", "hincrby h fresh -3", "hincrby n f 1", "hincrby n f 1.5",
		"hset o m -9223372036854775808", "hincrby o m -1", "hincrby o m 9223372036854775807", "hset o sp \" 1\"", "hincrby o sp 1", "hset o z 007", "hincrby o z 1",
		"hincrbyfloat h a 0.1", "hincrbyfloat h f 3.0e3", "hincrbyfloat h f 200", "hincrbyfloat h c 1", "hincrbyfloat h a x", "hincrbyfloat h a inf", "hincrbyfloat h a nan",
		"hincrbyfloat h t 0.1", "hincrbyfloat h t 0.2", "hincrbyfloat hf x -1.5", "hget h f", "hset h e \"\"", "hget h e", "hincrby h e 1", "hincrbyfloat h e 1", "hset h \"\" empty", "hget h \"\"",
		"set s v", "hget s a", "hset s a 1", "hgetall s", "hdel s a", "hlen s", "hincrby s a 1", "hincrbyfloat s a 1", "hmget s a", "hsetnx s a 1", "hexists s a", "hstrlen s a", "hrandfield s", "hrandfield s 1",
		"hset one f v", "hrandfield one", "hrandfield one 1", "hrandfield one 5", "hrandfield one -3", "hrandfield one 5 withvalues", "hrandfield one -2 withvalues", "hrandfield one 0", "hrandfield one 0 withvalues",
		"hrandfield none", "hrandfield none 3", "hrandfield none -3 withvalues", "hrandfield one x", "hrandfield one 1 foo", "hrandfield one 1 withvalues x", "hrandfield one -9223372036854775808", "hrandfield one -9223372036854775807 withvalues", "hrandfield one 9223372036854775807",
		"~ hrandfield h 100 withvalues", "? hrandfield h 2", "hscan one 0", "hscan one 0 match f*", "hscan one 0 match x*", "hscan one 0 count 0", "hscan one 0 count x", "hscan one 0 foo", "hscan one x", "hscan none 0", "hscan none 0 foo", "hscan s 0", "hscan s x",
		"! hset big"+join(129, "f% v%"), "hlen big", "object encoding big", "hget big f77", "hset big f77 z", "hget big f77", "! hdel big"+join(128, "f%"), "hgetall big", "object encoding big", "hincrby big f128 1", "hdel big f128", "exists big", "! hset huge"+join(513, "f% v%"), "object encoding huge", "hlen huge", "hget huge f500", "~ hgetall huge", "! hdel huge"+join(510, "f%"), "~ hgetall huge", "object encoding huge",
		"! hset edge"+join(512, "f% %"), "object encoding edge", "hincrby edge f3 4", "hset edge last 1", "object encoding edge", "hincrby edge f3 4", "hincrbyfloat edge f3 0.5", "hget edge f3",
		"hget", "hset h", "hset h a", "hgetall", "hdel h", "hrandfield", "hscan h", "hincrby h a",
	)
}

func TestLists(t *testing.T) {
	big := strings.Repeat("b", 9000)
	vectors(t,
		"lpush l a b c", "rpush l d 1 -5 \"\"", "lrange l 0 -1", "llen l", "llen none", "lpushx l z", "rpushx l z", "lpushx none z", "rpushx none a b", "lrange none 0 -1", "lrange l 2 4", "lrange l -3 -1",
		"lrange l 5 2", "lrange l -100 100", "lrange l 100 200", "lrange l x 1", "lrange l 1 x", "lindex l 0", "lindex l -1", "lindex l 100", "lindex l -100", "lindex l x", "lindex none 0", "lindex none x",
		"lset l 0 Z", "lset l -1 Y", "lset l 100 a", "lset l x a", "lset none 0 a", "lset none x a", "linsert l before d new", "linsert l after d new2", "linsert l before nope x", "linsert none before a x", "linsert l foo d x", "linsert l before -5 8", "lrange l 0 -1",
		"lpop l", "rpop l", "lpop none", "rpop none", "lpop l 2", "rpop l 2", "lpop l 0", "lpop none 0", "lpop none 5", "lpop l -1", "lpop l x", "lpop l 1 2", "lrange l 0 -1", "rpop l 100", "exists l",
		"rpush r a b a c a b a", "lrem r 2 a", "lrange r 0 -1", "lrem r -1 a", "lrange r 0 -1", "lrem r 0 b", "lrange r 0 -1", "lrem r 0 nope", "lrem r x a", "lrem none 1 a", "lrem r 0 c", "lrem r 0 a", "exists r",
		"rpush p a b c 1 2 3 c c", "lpos p c", "lpos p c rank 2", "lpos p c rank -1", "lpos p c rank -2", "lpos p c count 0", "lpos p c count 2", "lpos p c rank -1 count 0", "lpos p c rank 5 count 0", "lpos p c maxlen 2", "lpos p c count 0 maxlen 7", "lpos p c rank -1 maxlen 1",
		"lpos p nope", "lpos p nope count 0", "lpos none a", "lpos none a count 1", "lpos p c rank 0", "lpos p c rank x", "lpos p c count -1", "lpos p c maxlen -1", "lpos p c foo 1", "lpos p c rank", "lpos p 2", "lpos p c rank 1 rank 2",
		"ltrim p 1 -2", "lrange p 0 -1", "ltrim p 0 -1", "ltrim p 5 1", "exists p", "ltrim none 0 1", "ltrim none x 1",
		"rpush m 1 2 3", "lmove m m left right", "lrange m 0 -1", "lmove m d right left", "lmove m d left left", "lmove m d LEFT foo", "lmove none d left left", "lrange d 0 -1", "rpoplpush m d", "exists m", "rpoplpush m d", "lrange d 0 -1", "rpoplpush d d", "lrange d 0 -1",
		"set s v", "lpush s a", "rpush s a", "lpushx s a", "lpop s", "lpop s 0", "llen s", "lrange s 0 1", "lindex s 0", "lset s 0 a", "linsert s before a b", "ltrim s 0 1", "lrem s 0 a", "lpos s a", "lmove s d left left", "lmove d s left left", "rpoplpush d s", "blpop s 1", "blmove s d left left 0", "blmove d s left left 0", "lmpop 1 s left", "lmpop 2 none s left",
		"lmpop 1 d left", "rpush d a b c d e", "lmpop 2 none d right count 2", "lmpop 1 none left", "lmpop 0 d left", "lmpop x d left", "lmpop 2 d left", "lmpop 1 d foo", "lmpop 1 d left count 0", "lmpop 1 d left count", "lmpop 1 d left count 1 count 2", "lmpop 1 d left count 100", "exists d", "lmpop 1 d left foo", "lmpop 9223372036854775807 d left",
		"rpush b 1 2 3 4 5 6", "blpop none b 0", "brpop b 0", "blmove b c left right 0", "brpoplpush b c 0", "blmpop 0 2 none b left count 2", "lrange c 0 -1", "exists b", "blpop b x", "blpop b -1", "blpop none 0.01", "brpoplpush none c 0.01", "blmove none c left right 0.01", "blmpop 0.01 1 none left", "blmpop x 1 none left", "blmpop x 0 none left", "blmpop -1 1 none left", "blmove none c foo right 1", "blmove none c left right x",
		"multi", "blpop none 0", "brpoplpush none c 0", "blmove none c left right 0", "blmpop 0 1 none left", "exec",
		"rpush e 1", "object encoding e", "rpush e "+big, "object encoding e", "lindex e 1", "lset e 0 "+big, "linsert e after "+big+" mid", "lrange e 0 -1", "! rpush huge"+join(3000, "element-%"), "llen huge", "lindex huge 1500", "lindex huge -700", "lrange huge 1000 1010", "linsert huge before element-1500 new", "lset huge 2000 "+big, "lpos huge element-2999", "lrem huge 0 element-2500", "lrange huge 1995 2005", "ltrim huge 100 -100", "lrange huge 0 3", "lrange huge -3 -1", "lpop huge 1000", "rpop huge 900", "lrange huge 0 -1",
		"lpush", "lpush l", "rpoplpush l", "lmove l", "blpop l", "lmpop 1", "lpos l", "linsert l before a", "blmpop 1 1 l",
	)
}

func TestSets(t *testing.T) {
	long := strings.Repeat("x", 65)
	vectors(t,
		"sadd s a b c a", "sadd s a", "scard s", "scard none", "sismember s a", "sismember s z", "sismember none z", "smismember s a z c", "smismember none a b", "~ smembers s", "smembers none", "srem s a nope", "srem none a", "~ smembers s", "object encoding s",
		"sadd i 3 1 2", "object encoding i", "~ smembers i", "sadd i 100000 -5 9999999999", "object encoding i", "~ smembers i", "sismember i -5", "sismember i 4", "sismember i abc", "srem i 100000", "sadd i abc", "object encoding i", "~ smembers i", "sismember i 9999999999", "sadd i 007 7", "scard i", "sismember i 007", "sismember i 7", "sadd i \"\"", "sismember i \"\"", "sadd i "+long, "sismember i "+long,
		"! sadd ints"+join(512, "%"), "object encoding ints", "sadd ints 512", "object encoding ints", "scard ints", "sismember ints 300", "! sadd strs"+join(100, "m%"), "scard strs", "sismember strs m50", "! srem strs"+join(99, "m%"), "smembers strs", "srem strs m99", "exists strs",
		"sadd a 1 2 3 x y", "sadd b 2 3 y z", "sadd c 3 y q", "~ sinter a b c", "~ sinter a", "~ sunion a b c", "~ sdiff a b", "~ sdiff a b c", "sinter a none", "sdiff none a", "~ sunion none a", "sinter none", "sdiff none", "sunion none none2", "~ sinter a a", "sdiff a a",
		"sinterstore d a b c", "~ smembers d", "sunionstore d a b", "~ smembers d", "sdiffstore d a b", "~ smembers d", "sinterstore d a none", "exists d", "sdiffstore d none a", "sunionstore a a b", "~ smembers a", "set str v", "sinterstore str b c", "type str", "sunionstore str none", "exists str", "sadd num1 1 2 3", "sadd num2 2 3", "sinterstore num3 num1 num2", "object encoding num3",
		"sintercard 2 a b", "sintercard 2 a b limit 1", "sintercard 2 a b limit 0", "sintercard 2 a b limit -1", "sintercard 2 a b limit x", "sintercard 0 a", "sintercard x a", "sintercard 3 a b", "sintercard 1 a foo", "sintercard 1 a limit", "sintercard 1 none", "sintercard 2 a b limit 1 limit 2",
		"smove a b 1", "smove a b nope", "smove none b 1", "smove a a 2", "smove a a nope", "smove b fresh z", "~ smembers fresh", "sadd one 1", "smove one two 1", "exists one", "smove none str2 1",
		"set s2 v", "smove a s2 2", "smove s2 a 2", "smove none s2 2", "sadd s2 a", "srem s2 a", "scard s2", "sismember s2 a", "smismember s2 a", "smembers s2", "sinter a s2", "sinter none s2", "sunion s2 a", "sdiff a s2", "sinterstore d a s2", "sinterstore s2 a nope", "spop s2", "sadd ok 1", "spop ok 0",
		"spop ok", "exists ok", "spop none", "spop none 2", "spop none 0", "spop none x", "spop none -1", "spop a 1 2", "sadd ok 5", "spop ok 3", "exists ok", "? spop b 1",
		"sadd r 1", "srandmember r", "srandmember r 1", "srandmember r 5", "srandmember r -3", "srandmember r 0", "srandmember none", "srandmember none 2", "srandmember none -2", "srandmember r x", "srandmember r 1 2", "srandmember r -9223372036854775808", "srandmember r 9223372036854775807", "~ srandmember a 100", "? srandmember a 2", "? srandmember a -20",
		"sscan r 0", "sscan r 0 match 1", "sscan r 0 match 2", "sscan none 0", "sscan r x", "sscan r 0 count 0", "sscan r 0 type set", "sscan str 0", "sscan r 0 count 5 match *",
		"sadd", "sadd s", "smove a b", "sinter", "sinterstore d", "sintercard 1", "sscan a", "smismember a",
	)
}

func TestSortedSets(t *testing.T) {
	long := strings.Repeat("x", 65)
	vectors(t,
		"zadd z 1 a 2 b 3 c", "zadd z 1 a 2.5 b", "zadd z ch 1 a 3 b 9 d", "zadd z nx 5 a 6 e", "zadd z xx 5 a 6 f", "zadd z gt 1 a 7 g", "zadd z lt 1 a 8 g", "zadd z gt ch 100 a", "zadd z xx gt ch 1 a", "zadd z incr 5 a", "zadd z xx incr 5 nope", "zadd z nx incr 5 a", "zadd low -inf d", "zadd low nx incr +inf d", "zadd low incr +inf d", "zadd z gt incr -1 a", "zadd z lt incr -1 a",
		"zadd z nx xx 1 a", "zadd z gt lt 1 a", "zadd z nx gt 1 a", "zadd z incr 1 a 2 b", "zadd z x a", "zadd z 1 a x b", "zadd z 1", "zadd z 1 a 2", "zadd z nan a", "zadd z nx", "zadd none xx 1 a", "zadd none xx incr 1 a", "exists none", "zadd z 1 a b", "zadd z inf i", "zadd z -inf j", "zincrby z -inf i", "zadd z incr -inf i", "zadd z 1e400 big", "zadd z 0x10 hex", "zadd z -0 mz",
		"zrange z 0 -1 withscores", "zrange z 0 -1", "zrange z 1 2", "zrange z -2 -1", "zrange z 5 1", "zrange z x 1", "zrange z 0 -1 rev", "zrange z 0 1 rev withscores", "zrevrange z 0 1", "zrevrange z 0 -1 withscores", "zrange none 0 -1", "zrange z 0 1 foo", "zrange z 0 1 limit 0 1", "zrange z 0 1 limit 0 -1", "zrange z 0 -1 withscores withscores", "zrange z 0 1 limit x 1 byscore", "zrange z 0 1 limit 1",
		"zrange z 1 5 byscore", "zrange z (1 5 byscore withscores", "zrange z 5 1 byscore rev", "zrange z 1 5 byscore rev", "zrange z -inf +inf byscore limit 1 2", "zrange z +inf -inf byscore rev limit 1 2 withscores", "zrange z -inf inf byscore limit -1 2", "zrange z -inf inf byscore limit 100 2", "zrange z -inf inf byscore limit 0 -5", "zrange z -inf inf byscore limit 2 0", "zrange z a b byscore", "zrange z (x 1 byscore", "zrange z nan 1 byscore", "zrange z \"\" 5 byscore", "zrange z ( 5 byscore", "zrange z 1e400 5 byscore",
		"zrangebyscore z 1 5", "zrangebyscore z (1 (5 withscores", "zrangebyscore z 1 5 limit 0 1", "zrangebyscore z 1 5 rev", "zrangebyscore z 1 5 byscore", "zrevrangebyscore z 5 1", "zrevrangebyscore z 5 1 withscores limit 1 1", "zrevrangebyscore z 1 5", "zrangebyscore none 1 2", "zrangebyscore z x 1", "zcount z 1 5", "zcount z -inf +inf", "zcount z (1 5", "zcount z 5 1", "zcount z x 1", "zcount none 0 1",
		"zcard z", "zcard none", "zscore z a", "zscore z nope", "zscore none a", "zmscore z a nope i", "zmscore none a b", "zrank z a", "zrank z nope", "zrank none a", "zrevrank z a", "zrevrank z nope", "zincrby z 1.5 a", "zincrby z x a", "zincrby z 1 fresh", "zincrby new 0.1 a", "zincrby new 0.2 a", "zscore new a", "zincrby z nx 1 a", "zrem z fresh nope", "zrem none a", "zrem new a", "exists new",
		"zadd l 0 a 0 b 0 c 0 d 0 e 0 10 0 9", "zrangebylex l - +", "zrangebylex l [b (d", "zrangebylex l (b [d", "zrangebylex l - (c limit 1 2", "zrevrangebylex l + -", "zrevrangebylex l [d (a limit 0 2", "zrange l [b [d bylex", "zrange l [d [b bylex rev", "zrange l + - bylex rev", "zrange l [b [d bylex withscores", "zrange l b d bylex", "zrangebylex l + -", "zrangebylex l [b [b", "zrangebylex l (b (b", "zrangebylex l [b", "zrangebylex l - ++", "zrangebylex l ( +", "zlexcount l - +", "zlexcount l [b [d", "zlexcount l [z +", "zlexcount l x y", "zlexcount none - +", "zremrangebylex l [b (d", "zremrangebylex l x y", "zremrangebylex none - +", "zrange l 0 -1", "zremrangebylex l - +", "exists l",
		"zadd q 1 a 2 b 3 c 4 d 5 e 6 f", "zremrangebyrank q 0 1", "zremrangebyrank q -1 -1", "zremrangebyrank q 5 9", "zremrangebyrank q x 1", "zremrangebyscore q (3 4", "zremrangebyscore q x 4", "zremrangebyscore none 1 2", "zrange q 0 -1 withscores", "zremrangebyscore q -inf inf", "exists q",
		"zadd u1 1 a 2 b 3 c", "zadd u2 10 b 20 c 30 d", "sadd us a b x", "zunion 2 u1 u2", "zunion 2 u1 u2 withscores", "zunion 3 u1 u2 us withscores", "zunion 2 u1 u2 weights 2 3 withscores", "zunion 2 u1 u2 aggregate min withscores", "zunion 2 u1 u2 aggregate max weights 1 -1 withscores", "zinter 2 u1 u2 withscores", "zinter 2 u1 us withscores", "zinter 2 u1 u2 weights 0.5 2 aggregate min withscores", "zinter 2 u1 u1 withscores", "zinter 2 u1 none", "zdiff 2 u1 u2 withscores", "zdiff 2 u1 us", "zdiff 2 none u1", "zdiff 1 u1", "zdiff 2 u1 u1", "zunion 1 none", "zunion 1 us withscores",
		"zunion 0 u1", "zunion x u1", "zunion 5 u1", "zunion 2 u1 u2 weights 1", "zunion 2 u1 u2 weights 1 x", "zunion 2 u1 u2 aggregate foo", "zunion 2 u1 u2 foo", "zdiff 2 u1 u2 weights 1 2", "zdiff 0 u1", "zinter 0 u1", "zunionstore d 0 u1", "zunionstore d 2 u1 u2 withscores", "zunionstore d 2 u1 u2", "zrange d 0 -1 withscores", "zinterstore d 2 u1 u2 weights 2 2", "zrange d 0 -1 withscores", "zdiffstore d 2 u1 u2", "zrange d 0 -1 withscores", "zinterstore d 2 u1 none", "exists d", "zunionstore u1 2 u1 u2", "zrange u1 0 -1 withscores", "zadd inf1 inf a", "zadd inf2 -inf a", "zunion 2 inf1 inf2 withscores", "zunion 1 inf1 weights 0 withscores", "zinter 2 inf1 inf2 withscores", "zadd f1 0.1 a", "zadd f2 0.2 a", "zunion 2 f1 f2 withscores",
		"zintercard 2 u1 u2", "zintercard 2 u1 u2 limit 1", "zintercard 2 u1 u2 limit 0", "zintercard 2 u1 u2 limit -1", "zintercard 0 u1", "zintercard x u1", "zintercard 3 u1 u2", "zintercard 1 u1 foo", "zintercard 1 u1 limit", "zintercard 2 u1 none", "zintercard 2 us u1",
		"zrangestore d u1 0 1", "zrange d 0 -1 withscores", "zrangestore d u1 (1 20 byscore limit 0 2", "zrange d 0 -1 withscores", "zrangestore d u1 [a [c bylex", "zrangestore d u1 0 0 rev", "zrange d 0 -1", "zrangestore d none 0 1", "exists d", "zrangestore d u1 0 -1 withscores", "zrangestore d u1 5 1", "zrangestore u2 us 0 1",
		"zadd p 1 a 2 b 3 c 4 d 5 e 6 f 7 g", "zpopmin p", "zpopmax p", "zpopmin p 2", "zpopmax p 1", "zpopmin p 0", "zpopmin p -1", "zpopmin p x", "zpopmin none", "zpopmin none 2", "zpopmin p 1 2", "zmpop 1 p min", "zmpop 2 none p max count 10", "exists p", "zmpop 1 p min", "zmpop 0 p min", "zmpop 1 p foo", "zmpop 1 p min count 0", "zmpop 2 p min", "zmpop 1 p min count 1 count 2", "zadd p 1 a 2 b 3 c 4 d", "bzpopmin none p 0", "bzpopmax p 0", "bzmpop 0 1 p min", "bzmpop 0 2 none p max count 5", "bzpopmin p 0.01", "bzmpop 0.01 1 p min", "bzpopmin p x", "bzpopmin p -1", "bzmpop x 1 p min", "bzmpop x 1 p foo", "multi", "bzpopmin p 0", "bzmpop 0 1 p max", "exec",
		"zadd r 1 a", "zrandmember r", "zrandmember r 1", "zrandmember r 5", "zrandmember r -3", "zrandmember r 5 withscores", "zrandmember r -2 withscores", "zrandmember r 0", "zrandmember none", "zrandmember none 2", "zrandmember none -2 withscores", "zrandmember r x", "zrandmember r 1 foo", "zrandmember r 1 withscores x", "zrandmember r -9223372036854775808", "~ zrandmember u1 100 withscores", "? zrandmember u1 2",
		"zscan r 0", "zscan r 0 match a", "zscan r 0 match b", "zscan none 0", "zscan r x", "zscan r 0 count 0", "zadd fr 0.1 a 1e20 b inf c", "zscan fr 0",
		"set s v", "zadd s 1 a", "zincrby s 1 a", "zrange s 0 1", "zrem s a", "zscore s a", "zmscore s a", "zcard s", "zrank s a", "zcount s 0 1", "zlexcount s - +", "zremrangebyrank s 0 1", "zremrangebyscore s 0 1", "zunion 2 u1 s", "zunion 1 s foo", "zinterstore s 1 u1", "type s", "zrangestore d us 0 1", "zpopmin us", "zpopmin us 0", "zmpop 1 us min", "bzpopmin us 0", "zrandmember us", "zrandmember us 2", "zscan us 0", "zintercard 1 str",
		"object encoding u1", "zadd u1 1 "+long, "object encoding u1", "zrange u1 0 -1 withscores", "! zadd big"+join(129, "% m%"), "object encoding big", "zrank big m77", "zrevrank big m77", "zrange big 60 65 withscores", "zrange big 65 60 byscore rev withscores", "zadd big 500 m3", "zrank big m3", "zremrangebyrank big 10 120", "zrange big 0 -1 withscores", "zpopmin big 3", "zpopmax big 3", "zadd big -0 neg", "zscore big neg", "zcount big 5 10", "zunion 2 big r withscores",
		"zadd", "zadd z", "zadd z 1", "zrange z 0", "zunion", "zunion 1", "zincrby z 1", "zrangestore d", "zmpop 1 z", "bzmpop 0 1 z", "zlexcount z -",
	)
}

func TestSort(t *testing.T) {
	vectors(t,
		"rpush l 3 1 2 10", "sort l", "sort l desc", "sort l alpha", "sort l alpha desc", "sort l limit 1 2", "sort l limit -1 2", "sort l limit 1 -1", "sort l limit 10 2", "sort l limit 0 0", "sort l limit x 1", "sort l limit 1", "sort none", "sort none store d", "sort l foo", "sort l by", "sort l by nosort", "sort l by nosort desc", "sort l by nosort desc limit 0 2", "sort l by nosort limit 1 2",
		"mset w_3 1 w_1 2 w_2 3 w_10 0", "sort l by w_*", "sort l by w_* desc", "sort l by w_* get #", "sort l by w_* get # get w_*", "sort l get nope_*", "sort l get w_* store d", "lrange d 0 -1", "sort l get nope_* get # store d", "lrange d 0 -1", "hset h_1 f 9", "hset h_2 f 8", "hset h_3 f 7", "sort l by h_*->f", "sort l by h_*->f get h_*->f", "sort l get h_*", "sort l get w_*->f", "sort l get h_*->", "sort l by x_*", "sort l by w_* alpha", "sort l by w_* alpha desc limit 0 2",
		"sadd s c a b", "sort s", "sort s alpha", "sort s alpha desc", "sort s by nosort store d", "lrange d 0 -1", "zadd z 3 a 2 b 1 c", "sort z alpha", "object encoding z", "sort z by nosort", "sort z by nosort desc", "sort z by nosort limit 0 2", "sort z by nosort desc limit 1 1 store d", "lrange d 0 -1", "sort z by nosort get #", "set str v", "sort str", "sort str foo", "hset h a 1", "sort h",
		"zadd z2 -0 a", "sort_ro z2 by x", "object encoding z2", "zadd z2 -0 b", "zrange z2 0 -1 withscores", "sort_ro l", "sort_ro l by w_* get # desc", "sort_ro l store d", "rpush f 1.5 1.25 -3 1e3 inf", "sort f", "rpush f nan", "sort f", "rpush g \"\" 1 \" 2\"", "sort g", "rpush e a b", "sort e", "sort e store d", "sort none store d", "exists d", "rpush eq b a c", "mset q_a 1 q_b 1 q_c 1", "sort eq by q_*", "sort eq by q_* desc", "sort eq by none_*", "sort eq by none_* alpha get #", "sort l get l get #", "sort", "sort_ro",
		"sort eq alpha store str", "type str", "sort l by w_* by nosort", "sort l asc desc asc",
	)
}

// What is written to the stream of replicas is what redis-server writes, including the rewritten forms.
func TestTypesStream(t *testing.T) {
	stream(t,
		"sadd s 1", "spop s", "sadd s 1 2 3", "spop s 5", "sadd s 1 2", "spop none", "spop none 3", "srem s 9", "smove s s2 9", "smove s s2 1", "sadd s2 1", "sinterstore d s none", "sunionstore d s s2", "sinterstore d s none",
		"rpush l a b c d e f g h i j", "blpop none l 0", "brpop l 0", "blmove l m LEFT RIGHT 0", "brpoplpush l m 0", "lmpop 2 none l LEFT COUNT 2", "blmpop 0 1 m RIGHT COUNT 10", "lpop l", "lpop l 1", "lpop none", "lpop l 0", "ltrim l 0 -1", "ltrim l 0 0", "lrem l 0 nope", "linsert l before nope x", "lset l 0 q", "rpoplpush l m", "lmove m l LEFT RIGHT", "sort l store sorted", "rpush nums 2 1", "sort nums store sorted", "sort none store sorted", "sort none store sorted",
		"hset h f 1", "hset h f 1", "hsetnx h f 2", "hincrbyfloat h f 0.5", "hincrby h g 2", "hdel h nope", "hdel h f g",
		"zadd z 1 a 2 b 3 c 4 d 5 e 6 f", "zadd z 1 a", "zadd z xx 1 nope", "zincrby z 0 a", "zincrby z 1 a", "zpopmin z", "zpopmax z 1", "bzpopmin none z 0", "bzpopmax z 0", "zmpop 1 z MIN COUNT 1", "bzmpop 0 1 z MAX COUNT 5", "zpopmin z", "zadd z 1 a 2 b", "zrangestore d z 0 0", "zrangestore d z 5 1", "zrangestore d z 5 1", "zunionstore d 2 z none", "zremrangebyscore z 9 9", "zremrangebyrank z 0 0", "zrem z nope",
		"multi", "sadd t 1", "spop t", "rpush l x", "blpop l 0", "exec",
	)
}

// TestCopiedHashIsItsOwn overwrites values, of the same length and of another, of a big hash and its copy.
func TestCopiedHashIsItsOwn(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	line := "hset h"
	for i := range hashPackEntries + 1 {
		line += fmt.Sprintf(" field:%d value:%d", i, i)
	}
	run(t, c, line)
	run(t, c, "copy h other")
	run(t, c, "hset h field:1 VALUE:1 field:2 longer:than:before")
	run(t, c, "hset other field:3 VALUE:3")
	for _, step := range [][2]string{
		{"hmget h field:1 field:2 field:3", "*3\r\n$7\r\nVALUE:1\r\n$18\r\nlonger:than:before\r\n$7\r\nvalue:3\r\n"},
		{"hmget other field:1 field:2 field:3", "*3\r\n$7\r\nvalue:1\r\n$7\r\nvalue:2\r\n$7\r\nVALUE:3\r\n"},
	} {
		if got := run(t, c, step[0]); got != step[1] {
			t.Errorf("%s: %q, want %q", step[0], got, step[1])
		}
	}
}
