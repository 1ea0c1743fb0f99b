package conformance

import (
	"crypto/sha1"
	"encoding/hex"
)

// Code for scripts and functions: what matters is how it meets the data, the language has tests of its own.
var scripts = []string{
	`return redis.call('set', KEYS[1], ARGV[1])`, `return redis.call('get', KEYS[1])`, `return redis.pcall('incr', KEYS[1])`,
	`redis.call('lpush', KEYS[1], ARGV[1], 'x') return redis.call('lrange', KEYS[1], 0, -1)`, `return redis.call('del', KEYS[1])`,
	`return {redis.call('type', KEYS[1]), redis.call('exists', KEYS[1]), 1.5, true, false, 'x'}`, `return redis.call('hgetall', KEYS[1])`,
	`local r = redis.pcall('zadd', KEYS[1], 1, ARGV[1]) return r`, `redis.call('set', KEYS[1], 'a') error('after a write')`,
	`redis.setresp(3) return redis.call('hgetall', KEYS[1])`, `return redis.call('expire', KEYS[1], 1000)`, `return redis.error_reply('MY ' .. (ARGV[1] or ''))`,
	`return redis.status_reply('fine')`, `return redis.call('nosuch')`, `return redis.call('get')`, `return redis.call('blpop', KEYS[1], 0)`,
	`for i = 1, 3 do redis.call('sadd', KEYS[1], i) end return redis.call('scard', KEYS[1])`, `return redis.call('spop', KEYS[1], 1000)`,
	`return redis.call('xadd', KEYS[1], '99999-*', 'f', ARGV[1])`, `syntax error here`, `return nosuch`, `return #KEYS + #ARGV`,
	"#!lua\nreturn redis.call('set', KEYS[1], 1)", "#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 1)",
	"#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])", "#!lua flags=nosuch\nreturn 1", "#!js\nreturn 1",
}

func scriptSHA(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

var libraries = []string{
	"#!lua name=lib1\nredis.register_function('setit', function(keys, args) return redis.call('set', keys[1], args[1]) end)",
	"#!lua name=lib1\nredis.register_function('setit', function(keys, args) return redis.call('append', keys[1], args[1]) end)",
	"#!lua name=lib2\nlocal n = 0\nredis.register_function{function_name='getit', flags={'no-writes'}, description='reads', callback=function(keys) return redis.call('get', keys[1]) end}",
	"#!lua name=lib2\nredis.register_function{function_name='getit', flags={'no-writes'}, callback=function(keys) return redis.call('incr', keys[1]) end}",
	"#!lua name=lib3\nredis.register_function('getit', function() return 1 end)", "#!lua name=lib3\nredis.call('get', 'a')", "#!lua name=lib3\nreturn 1",
	"#!lua name=bad-name\nreturn 1", "#!lua\nreturn 1", "no shebang", "#!js name=x\nreturn 1", "#!lua name=lib3\nsyntax error", "",
	"#!lua name=lib4\nredis.register_function('fails', function(keys) redis.call('set', keys[1], 1) error('after a write') end)",
}

var functionNames = []string{"setit", "SetIt", "getit", "fails", "nosuch", ""}

// Settings that both servers have and that change nothing about how commands of others are answered.
var settings = []string{"maxmemory-policy", "maxmemory-samples", "slowlog-max-len", "latency-monitor-threshold", "latency-tracking",
	"tracking-table-max-keys", "notify-keyspace-events", "databases", "nosuch", "", "lfu-log-factor", "MaxMemory-Policy"}
