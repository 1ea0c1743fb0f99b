package embedded

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"respmesh/resp/command"
)

// loading is code that runs while a library is loaded, after a function keep has been registered.
var loading = []string{
	`x=1`, `error('boo')`, `return redis.error_reply('x')`, `local a = KEYS[1]`, `redis.pcall('get','x')`, `redis.set_repl(1)`, `print(1)`,
	`redis.register_function()`, `math.random()`, `redis.x=1`, `redis.log(redis.LOG_DEBUG,'x')`, `redis.setresp(3)`, `redis.REDIS_VERSION='a'`,
	`redis.register_function{function_name='keep2',callback=function() end,description=5}`,
	`redis.register_function{function_name='keep3',callback=function() end,flags={1}}`, `redis.register_function{'a','b'}`,
	`redis.register_function{function_name='keep4',callback=function() end,flags={}}`, `redis.register_function({})`,
	`redis.register_function('keep', function() end)`,
	`redis.register_function('a b', function() end)`, `redis.register_function('', function() end)`, `redis.register_function('a')`,
	`redis.register_function{foo=1}`, `redis.register_function{function_name=1}`, `redis.register_function{function_name={}}`,
	`redis.register_function{function_name='q',callback=function() end,flags={'foo'}}`,
	`redis.register_function{function_name='q',callback=function() end,flags='foo'}`, `redis.register_function{function_name='q'}`,
	`redis.register_function{function_name='q',callback=5}`, `redis.register_function{callback=function() end}`,
	`redis.register_function{function_name='q',callback=function() end,description={}}`, `redis.register_function(1,2,3)`,
	`redis.register_function('q', 5)`, `redis.register_function({}, function() end)`, `redis.register_function(5, function() end)`,
	`redis.register_function{[{}]=1}`, `x`, `local function f() f() end f()`, `local t = nil; t.x = 1`, `local a = 'a' .. {}`, ``,
}

// called is the body of functions f6(k, a), called with one key and an argument.
var called = []string{
	`return tostring(KEYS)`, `x=1`, `return {#k,#a,k[1],a[1]}`, `error('boo')`, `error({err='boo'})`, `return redis.error_reply('My err')`,
	`redis.register_function('q',function() end)`, `return redis.call('fcall','f6','0')`, `return redis.call('set', k[1], a[1])`,
	`return redis.call('get', k[1])`, `redis.setresp(3) return redis.call('hgetall','h')`, `k[1]='x' return k`, `redis.x=1`,
	`return redis.sha1hex('x')`, `return redis.call('lpush', k[1], 1)`, `return redis.pcall('lpush', k[1], 1)`, `return redis.call('nosuch')`,
	`return 'a' .. nil`, `return loadstring('return KEYS')()`, `return redis.breakpoint()`, `return redis.replicate_commands()`, `return {1,2,nil,3}`,
	`return 3.9`, `return true`, `return false`, `return {ok='fine'}`, `return {double=1.5}`, `return cjson.encode({1,2})`, `return redis.REDIS_VERSION`,
	`local t={} for n in pairs(redis) do t[#t+1]=n end table.sort(t) return table.concat(t,' ')`, `return select('#', ...)`, `return redis.call()`,
}

func TestFunctionsAnswerAsRedis(t *testing.T) {
	load := func(name, options, code string) string {
		return fmt.Sprintf("function load %s %q", options, "#!lua name="+name+"\n"+code)
	}
	lines := []string{"! function flush", "! hset h a 1", "! del s"}
	for _, code := range loading {
		lines = append(lines, load("zz", "replace", "redis.register_function('keep', function() return 1 end)\n"+code), "fcall keep 0")
	}
	for _, body := range called {
		lines = append(lines, load("zz", "REPLACE", "redis.register_function('f6', function(k, a) "+strings.ReplaceAll(body, "...", "k, a")+" end)"),
			"fcall f6 1 s v", "fcall_ro f6 1 s v")
	}
	lines = append(lines,
		load("zz", "replace", "local n=0 redis.register_function('f6', function(k,a) n=n+1 return n end)"), "fcall f6 0", "fcall F6 0", "fcall f6 0",
		load("zz", "", "redis.register_function('f6', function() end)"), load("yy", "", "redis.register_function('f6', function() end)"),
		load("yy", "", "redis.register_function{function_name='g', callback=function() return 'g' end, description='says g', flags={'no-writes','allow-oom'}}"),
		load("ro", "", "redis.register_function{function_name='w', callback=function(k) return redis.call('set',k[1],1) end, flags={'no-writes'}}"),
		"fcall w 1 k", "fcall_ro w 1 k", "fcall_ro g 0", "function list libraryname y*", "function list libraryname Y* withcode", "function list withcode libraryname nothing",
		"function stats", "fcall nosuch 0", "fcall g x", "fcall g -1", "fcall g 2 a", "fcall g", "fcall g 0 a b",
		"function list withcode foo", "function list libraryname", "function list foo", "function list withcode withcode", "function load x", `function load "#!lua"`,
		`function load "#!lua\nreturn 1"`, `function load "#! lua name=x\nreturn 1"`, `function load "#!lua name=a.b\nreturn 1"`, `function load "#!lua name=ab\nx"`,
		`function load "#!lua name=ab\nreturn 1"`, `function load "#!lua name=ab foo=1\nreturn 1"`, `function load "#!js name=ab\nreturn 1"`,
		`function load "#!lua name=ab name=cd\nreturn 1"`, `function load "#!LUA NAME=ab\nredis.register_function('ab', function() return 1 end)"`, "fcall ab 0",
		"function load bogus x", "function load", "function delete x", "function delete", "function delete yy", "fcall g 0", "function flush x", "function flush async x",
		"function dump x", "function kill", "function restore x", "function restore x y z", "function nosuch", "function", "function help",
		"function flush sync", "function stats", "function list",
	)
	vectors(t, lines...)
}

// payloadOfFunctions is what FUNCTION DUMP says.
func payloadOfFunctions(t *testing.T, reply string) string {
	t.Helper()
	_, rest, ok := strings.Cut(reply, "\r\n")
	if !ok || reply[0] != '$' {
		t.Fatalf("FUNCTION DUMP: %q", reply)
	}
	return strings.TrimSuffix(rest, "\r\n")
}

func TestFunctionsMoveToAndFromRedis(t *testing.T) {
	real := dialReal(t)
	e := newEngine(t, Options{})
	c := newConn(e)
	lib := func(name string) string {
		return "#!lua name=" + name + "\nredis.register_function('" + name + "', function(keys, args) return '" + name + "' .. args[1] end)"
	}
	raw := func(args ...string) []byte {
		out := make([][]byte, len(args))
		for i, a := range args {
			out[i] = []byte(a)
		}
		return real.do(t, out)
	}
	ours := func(args ...string) string {
		out := make([][]byte, len(args))
		for i, a := range args {
			out[i] = []byte(a)
		}
		return string(c.Do(context.Background(), nil, []command.Request{request(out...)}))
	}
	raw("FUNCTION", "FLUSH")
	for _, n := range []string{"one", "two"} {
		if got := ours("FUNCTION", "LOAD", lib(n)); got != fmt.Sprintf("$3\r\n%s\r\n", n) {
			t.Fatalf("%q", got)
		}
	}
	dump := payloadOfFunctions(t, ours("FUNCTION", "DUMP"))
	if got := string(raw("FUNCTION", "RESTORE", dump)); got != "+OK\r\n" {
		t.Fatalf("redis-server doesn't take our FUNCTION DUMP: %q", got)
	}
	if got := string(raw("FCALL", "two", "0", "x")); got != "$4\r\ntwox\r\n" {
		t.Errorf("%q", got)
	}
	raw("FUNCTION", "LOAD", lib("three"))
	dump = payloadOfFunctions(t, string(raw("FUNCTION", "DUMP")))
	for _, tc := range []struct{ policy, want string }{
		{"", "-ERR Library "}, {"APPEND", "-ERR Library "}, {"NOSUCH", "-ERR Wrong restore policy"}, {"REPLACE", "+OK\r\n"}, {"FLUSH", "+OK\r\n"},
	} {
		args := []string{"FUNCTION", "RESTORE", dump}
		if tc.policy != "" {
			args = append(args, tc.policy)
		}
		if got := ours(args...); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %q", tc.policy, got)
		}
	}
	want(t, c, "fcall three 0 x", "$6\r\nthreex\r\n")
	want(t, c, "fcall one 0 x", "$4\r\nonex\r\n")

	// Snapshots have them.
	var file bytes.Buffer
	if err := e.Snapshot(&file, nil); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t, Options{})
	if err := other.Restore(&file); err != nil {
		t.Fatal(err)
	}
	want(t, newConn(other), "fcall three 0 x", "$6\r\nthreex\r\n")
	raw("FUNCTION", "FLUSH")
}

func TestFunctionsArePropagated(t *testing.T) {
	rec := &recorder{}
	e := newEngine(t, Options{Sink: rec})
	replica := newEngine(t, Options{Replica: true})
	c := newConn(e)
	want(t, c, `function load "#!lua name=lib\nredis.register_function('f', function(k,a) redis.call('set',k[1],a[1]) return redis.call('incr',k[1]) end)"`, "$3\r\nlib\r\n")
	want(t, c, "fcall f 1 k 5", ":6\r\n")
	want(t, c, "function delete lib", "+OK\r\n")
	applyStream(t, replica, rec.Bytes())
	r := newConn(replica)
	want(t, r, "get k", "$1\r\n6\r\n")
	want(t, r, "function list", "*0\r\n")
	if s := rec.String(); strings.Contains(s, "fcall") || !strings.Contains(s, "incr") {
		t.Errorf("effects %q", s)
	}
}

func TestFunctionKill(t *testing.T) {
	e := newEngine(t, Options{ScriptTimeLimit: 10 * time.Millisecond})
	c, other := newConn(e), newConn(e)
	want(t, c, `function load "#!lua name=lib\nredis.register_function('spin', function() while true do end end) redis.register_function('ok', function() return 1 end)"`, "$3\r\nlib\r\n")
	done := make(chan string)
	go func() { done <- run(t, c, "fcall spin 0") }()
	for !strings.HasPrefix(run(t, other, "get k"), "-BUSY") {
	}
	want(t, other, "get k", "-"+errFunctionBusy+"\r\n")
	want(t, other, "script kill", "-"+errFunctionBusy+"\r\n")
	if got := run(t, other, "function stats"); !strings.Contains(got, "spin") {
		t.Errorf("%q", got)
	}
	want(t, other, "function kill", "+OK\r\n")
	if got := <-done; !strings.Contains(got, "Script killed by user with FUNCTION KILL") {
		t.Errorf("%q", got)
	}
	want(t, c, "fcall ok 0", ":1\r\n") // in another interpreter
	want(t, c, `function load "#!lua name=slow\nwhile true do end"`, "-ERR Error registering functions: FUNCTION LOAD timeout\r\n")
	want(t, c, "fcall ok 0", ":1\r\n")
}
