package conformance

// step is one command on one of the two connections of a run.
type step struct {
	conn int
	args []string
}

// The grammar. A line is a weight and a template. In a template $x is drawn from a pool, [a|b] is one of them or
// nothing, (a|b) one of them, x*N one to N repetitions; inside brackets and repetitions "_" separates words. Pools that
// name keys are right most of the time and otherwise of another type.
var grammar = parseGrammar(`
6 SET $s $v
2 SET $s $v [NX|XX] [GET] [EX_$ttl|PX_$ttl|EXAT_$at|PXAT_$atms|KEEPTTL]
1 SET $n $i
1 SET $k $v [$hostile] [$hostile]
1 SETNX $s $v
1 (SETEX|PSETEX) $s $ttl $v
4 GET $s
1 GET $k
1 GETSET $s $v
1 GETDEL $s
1 GETEX $s [EX_$ttl|PX_$ttl|EXAT_$at|PXAT_$atms|PERSIST]
2 MGET $k*4
1 MSET $s_$v*3
1 MSETNX $s_$v*3
1 STRLEN $s
2 APPEND $s $v
2 (GETRANGE|SUBSTR) $s $i $i
1 SETRANGE $s $off $v
2 (INCR|DECR) $n
2 (INCRBY|DECRBY) $n $i
2 INCRBYFLOAT $n $f
1 SETBIT $s $off (0|1|2)
1 GETBIT $s $off
1 BITCOUNT $s [$i_$i] [BIT|BYTE]
1 BITPOS $s (0|1) [$i] [$i] [BIT|BYTE]
1 BITOP (AND|OR|XOR|NOT) $s $s*3
1 BITFIELD_RO $s [GET_(u8|i5|u63)_$off]*3
1 FUNCTION FLUSH [SYNC|ASYNC|$hostile]
1 BITFIELD $s [OVERFLOW_(WRAP|SAT|FAIL)] (GET_(u8|i5|u63|i64|u64)_$off|SET_(u8|i5)_#3_$i|INCRBY_(u4|i8)_$off_$i)*3
1 LCS $s $s [LEN|IDX] [MINMATCHLEN_2] [WITHMATCHLEN]
4 HSET $h $field_$v*4
1 HMSET $h $field_$v*3
1 HSETNX $h $field $v
3 HGET $h $field
1 HMGET $h $field*4
2 HGETALL $h
1 (HKEYS|HVALS|HLEN) $h
1 HSTRLEN $h $field
1 HEXISTS $h $field
2 HDEL $h $field*3
2 HINCRBY $h (num|num2|$field) $i
2 HINCRBYFLOAT $h (num|num2|$field) $f
1 HRANDFIELD $h [$few] [WITHVALUES]
1 HSCAN $h 0 COUNT 1000 [MATCH_f*]
1 HSET $h $manyfield_$v*140
5 (LPUSH|RPUSH) $l $v*4
1 (LPUSHX|RPUSHX) $l $v*2
2 (LPOP|RPOP) $l [$few]
1 LLEN $l
3 LRANGE $l $i $i
1 LINDEX $l $i
1 LSET $l $i $v
1 LINSERT $l (BEFORE|AFTER) $v $v
1 LREM $l $i $v
1 LTRIM $l $i $i
1 LPOS $l $v [RANK_$i] [COUNT_$few] [MAXLEN_$few]
1 (LMOVE|BLMOVE) $l $l (LEFT|RIGHT) (LEFT|RIGHT)
1 RPOPLPUSH $l $l
1 LMPOP $cnt $l*2 (LEFT|RIGHT) [COUNT_$few]
1 (BLPOP|BRPOP) $l*2 0.01
1 BLMOVE $l $l (LEFT|RIGHT) (LEFT|RIGHT) 0.01
1 BRPOPLPUSH $l $l 0.01
1 BLMPOP 0.01 $cnt $l*2 (LEFT|RIGHT) [COUNT_$few]
1 RPUSH $l $v*140
5 SADD $t $m*4
1 SADD $t $i*4
2 SREM $t $m*3
2 SMEMBERS $t
1 SISMEMBER $t $m
1 SMISMEMBER $t $m*3
1 SCARD $t
1 SMOVE $t $t $m
1 SPOP $t (1000|$hostile)
1 SRANDMEMBER $t [$few]
2 (SINTER|SUNION|SDIFF) $t*3
1 SINTERCARD $cnt $t*2 [LIMIT_$few]
2 (SINTERSTORE|SUNIONSTORE|SDIFFSTORE) $t $t*3
1 SSCAN $t 0 COUNT 1000 [MATCH_a*]
1 SADD $t $manyint*140
5 ZADD $z $sc_$m*4
3 ZADD $z [NX|XX] [GT|LT] [CH] [INCR] $sc_$m*2
2 ZINCRBY $z $sc $m
1 ZSCORE $z $m
1 ZMSCORE $z $m*3
1 ZCARD $z
1 ZCOUNT $z $bound $bound
3 ZADD $x 0_$m*4
1 ZLEXCOUNT $x $lex $lex
1 (ZRANK|ZREVRANK) $z $m
2 (ZRANGE|ZREVRANGE) $z $i $i [WITHSCORES]
2 ZRANGE $z $bound $bound BYSCORE [REV] [LIMIT_$i_$i] [WITHSCORES]
1 ZRANGE $x $lex $lex BYLEX [REV] [LIMIT_$i_$i]
1 ZRANGE $z $i $i [BYSCORE|BYLEX] [REV] [LIMIT_$i_$i] [WITHSCORES]
1 (ZRANGEBYSCORE|ZREVRANGEBYSCORE) $z $bound $bound [WITHSCORES] [LIMIT_$i_$i]
1 (ZRANGEBYLEX|ZREVRANGEBYLEX) $x $lex $lex [LIMIT_$i_$i]
1 ZRANGESTORE $z $z $i $i [BYSCORE] [REV] [LIMIT_0_$few]
1 ZREM $z $m*3
1 ZREMRANGEBYRANK $z $i $i
1 ZREMRANGEBYSCORE $z $bound $bound
1 ZREMRANGEBYLEX $x $lex $lex
1 (ZPOPMIN|ZPOPMAX) $z [$few]
1 ZMPOP $cnt $z*2 (MIN|MAX) [COUNT_$few]
1 (BZPOPMIN|BZPOPMAX) $z*2 0.01
1 BZMPOP 0.01 $cnt $z*2 (MIN|MAX) [COUNT_$few]
2 (ZUNION|ZINTER) $cnt $z*3 [WEIGHTS_$f*3] [AGGREGATE_(SUM|MIN|MAX)] [WITHSCORES]
2 (ZUNIONSTORE|ZINTERSTORE) $z $cnt $zt*3 [WEIGHTS_$f*3] [AGGREGATE_(SUM|MIN|MAX)]
1 ZDIFF $cnt $z*3 [WITHSCORES]
1 ZDIFFSTORE $z $cnt $zt*3
1 ZINTERCARD $cnt $z*3 [LIMIT_$few]
1 ZRANDMEMBER $z [$few] [WITHSCORES]
1 ZSCAN $z 0 COUNT 1000
1 ZADD $z $manyint_$manyfield*140
4 GEOADD $g [NX|XX] [CH] (13.361389_38.115556_a|15.087269_37.502669_b|2.35_48.85_c|-73.98_40.75_d|151.2_-33.87_1|15.1_37.6_f1|-179.9_1_2)*3
1 GEOADD $g ($hostile|181|$f) (86|$hostile) $m
1 GEODIST $g $m $m [m|km|ft|mi|$hostile]
1 (GEOPOS|GEOHASH) $g $m*3
3 GEOSEARCH $g (FROMMEMBER_$m|FROMLONLAT_15_37|FROMLONLAT_$f_$f) (BYRADIUS_$size_$unit|BYBOX_$size_$size_$unit) [ASC|DESC] [COUNT_$few_[ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
1 GEOSEARCHSTORE $g $g (FROMMEMBER_$m|FROMLONLAT_15_37) (BYRADIUS_$size_$unit|BYBOX_$size_$size_$unit) [ASC|DESC] [COUNT_$few] [STOREDIST]
1 (GEORADIUS|GEORADIUS_RO) $g (14|$f) (38|$f) $size $unit [ASC|DESC] [COUNT_$few_[ANY]] [WITHCOORD] [WITHDIST] [WITHHASH] [STORE_$g|STOREDIST_$g]
1 (GEORADIUSBYMEMBER|GEORADIUSBYMEMBER_RO) $g $m $size $unit [ASC|DESC] [COUNT_$few] [WITHDIST] [STORE_$g|STOREDIST_$g]
3 PFADD $p $v*4
1 PFADD $p $manyfield*140
1 PFADD $p
2 PFCOUNT $p*3
1 PFMERGE $p $p*3
1 GET $p
6 XADD $e $newid $field_$v*3
3 XADD $e [NOMKSTREAM] [MAXLEN_[~|=]_$few_[LIMIT_$few]|MINID_[~|=]_$id_[LIMIT_$few]] $newid $field $v
1 XADD $e $id $field $v
1 XADD $e $id $field_$v*2 [$hostile]
2 XTRIM $e (MAXLEN_[~|=]_$few|MINID_[~|=]_$id) [LIMIT_$few]
2 XDEL $e $id*3
1 XLEN $e
2 (XRANGE|XREVRANGE) $e $id $id [COUNT_$few]
1 XRANGE $e - + [COUNT_$few]
2 XREAD [COUNT_$few] STREAMS $e $id
1 XREAD [COUNT_$few] [BLOCK_10] STREAMS $e $e $id $id
3 XGROUP CREATE $e $grp ($id|0|0) [MKSTREAM] [ENTRIESREAD_$i]
1 XGROUP SETID $e $grp $id [ENTRIESREAD_$i]
1 XGROUP (DESTROY|NOSUCH) $e $grp
1 XGROUP (CREATECONSUMER|DELCONSUMER) $e $grp $con
5 XREADGROUP GROUP $grp $con [COUNT_$few] [NOACK] STREAMS $e (>|>|>|$id)
1 XREADGROUP GROUP $grp $con [COUNT_$few] [BLOCK_10] [NOACK] STREAMS $e $e (>|$id) >
2 XACK $e $grp $id*4
2 XPENDING $e $grp
2 XPENDING $e $grp [IDLE_100000] $id $id $i [$con]
1 XPENDING $e $grp - + 10 [$con]
2 XCLAIM $e $grp $con (0|0|100000|$hostile) $id*3 [FORCE] [JUSTID] [IDLE_$i|TIME_$i] [RETRYCOUNT_$few] [LASTID_$id]
2 XAUTOCLAIM $e $grp $con (0|0|100000|$hostile) $id [COUNT_$few] [JUSTID]
1 XSETID $e ($id|5000) [ENTRIESADDED_$i] [MAXDELETEDID_$id]
1 XINFO STREAM $e [FULL_[COUNT_$few]]
1 XINFO (GROUPS|CONSUMERS|NOSUCH|STREAM) $e [$grp]
2 (DEL|UNLINK|EXISTS|TOUCH) $k*3
2 TYPE $k
1 KEYS (*|s*|?1|[ab]*|[^s]*|\*|nothing)
1 SCAN 0 COUNT 1000 [MATCH_s*] [TYPE_(string|list|hash|zset|set|stream|foo)]
2 (RENAME|RENAMENX) $k $k
2 COPY $k $k [DB_$db] [REPLACE]
1 MOVE $k $db
1 DBSIZE
1 RANDOMKEY
2 (EXPIRE|PEXPIRE) $k $ttl [NX|XX|GT|LT] [$hostile]
1 EXPIREAT $k $at [NX|XX|GT|LT]
1 PEXPIREAT $k $atms [NX|XX|GT|LT]
3 (TTL|PTTL|EXPIRETIME|PEXPIRETIME) $k
1 PERSIST $k
1 SORT (l3|z3) [BY_nosort] [LIMIT_$i_$i] [GET_#] [ASC|DESC] [STORE_$l]
1 SORT $lz [BY_w_*] [LIMIT_$i_$i] [GET_#|GET_w_*|GET_h1->num] [ASC|DESC] [STORE_$l]
1 SORT $lt [LIMIT_$i_$i] [ASC|DESC] ALPHA [STORE_$l]
1 SORT_RO $lt [BY_w_*] [LIMIT_$i_$i] [GET_#|GET_w_*] [ASC|DESC]
1 MSET w_1 3 w_2 2 w_a 1
1 OBJECT (ENCODING|FREQ|nosuch) $k
2 SELECT $db
1 SWAPDB $db $db
1 MULTI
1 MULTI
2 EXEC
1 DISCARD
1 WATCH $k*2
1 UNWATCH
1 PING [$v]
1 ECHO $v
1 (FLUSHDB|FLUSHALL) [ASYNC|SYNC|$hostile]
3 EVAL $script 1 $k $v
1 EVAL $script (0|1|2|-1|abc) [$k] [$v]
1 EVAL_RO $script 1 $k $v
2 (EVALSHA|EVALSHA_RO) $sha 1 $k $v
1 SCRIPT (LOAD_$script|EXISTS_$sha*3|FLUSH_[SYNC|ASYNC|$hostile]|KILL|HELP|nosuch)
2 FUNCTION LOAD [REPLACE] $lib
1 FUNCTION LOAD [$hostile] $lib [$hostile]
3 (FCALL|FCALL_RO) $fn 1 $k $v
1 (FCALL|FCALL_RO) $fn (0|1|2|-1|abc) [$k] [$v]
1 FUNCTION LIST [WITHCODE] [LIBRARYNAME_(lib*|LIB1|$hostile)]
1 FUNCTION (DELETE_(lib1|lib2|$hostile)|STATS|KILL|HELP|DUMP|RESTORE_$hostile_[APPEND|REPLACE|FLUSH|$hostile]|nosuch)
1 CONFIG GET $setting*3
2 CONFIG SET $setting ($hostile|$i|yes|no|100mb|1k|KEA|AKE|gKEm|allkeys-lru|allkeys-lfu|volatile-ttl|noeviction)
1 CONFIG SET $setting $i $setting $i
1 CONFIG (RESETSTAT|REWRITE|HELP|nosuch|SET|GET)
2 SLOWLOG GET [$i]
1 SLOWLOG (LEN|RESET|HELP|nosuch|GET_-1)
1 LATENCY (LATEST|RESET|RESET_a_b|HISTORY_command|HISTOGRAM_nosuch|HELP|nosuch|HISTORY)
1 MEMORY (DOCTOR|HELP|nosuch|USAGE_$k_[SAMPLES_$i])
1 INFO (commandstats|errorstats|nosuch|keyspace)
1 CLIENT (GETNAME|GETREDIR|TRACKINGINFO|UNPAUSE|HELP|nosuch|ID_x|INFO_x)
1 CLIENT SETNAME $v
1 CLIENT NO-EVICT (ON|OFF|$hostile)
1 CLIENT TRACKING (OFF|$hostile) [BCAST] [OPTIN] [OPTOUT] [NOLOOP] [REDIRECT_$big] [PREFIX_$v]
1 CLIENT TRACKING ON ([BCAST]_OPTIN_OPTOUT|BCAST_OPTIN|PREFIX_a|REDIRECT_$big|$hostile|BCAST_PREFIX_a_PREFIX_ab)
1 CLIENT CACHING (YES|NO|$hostile)
1 CLIENT KILL (ID_$big|ADDR_nosuch:1|TYPE_(master|replica|$hostile)|USER_$hostile|SKIPME_$hostile|LADDR_nosuch:1|$hostile)*3
1 CLIENT KILL $hostile
1 CLIENT LIST (TYPE_$hostile|ID_$hostile|$hostile)
1 CLIENT PAUSE $hostile [ALL|WRITE|$hostile]
1 CLIENT UNBLOCK $big [TIMEOUT|ERROR|$hostile]
1 (PUBLISH|SPUBLISH) $v $v
1 PUBSUB (CHANNELS|CHANNELS_$v|NUMSUB_$v*3|SHARDCHANNELS|SHARDNUMSUB_$v|NUMPAT|HELP|nosuch)
1 RESTORE $k $ttl $hostile [REPLACE] [ABSTTL] [IDLETIME_$i] [FREQ_$i]
1 AUTH $v [$v]
1 WAIT 0 0
1 (LASTSAVE|SAVE|MONITOR) x
1 BGSAVE $hostile
1 OBJECT (ENCODING|REFCOUNT|FREQ|IDLETIME) $k
1 (OBJECT|XGROUP|XINFO|COMMAND|LATENCY) HELP
1 COMMAND (COUNT|INFO_(get|nosuch)|GETKEYS_set_a_b|LIST_FILTERBY_PATTERN_zran*)
1 (ROLE|TIME|SLOWLOG|CLIENT|FUNCTION|SCRIPT|CONFIG)
1 (NOSUCHCOMMAND|get|Set|hset|LRANGE|zadd|object|client|Memory|EXEC) $hostile $v
`)
