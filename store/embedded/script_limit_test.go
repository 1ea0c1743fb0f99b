package embedded

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/resp/command"
)

// eval runs a script on a Conn.
func eval(c *Conn, script string, rest ...string) string {
	args := [][]byte{[]byte("eval"), []byte(script)}
	if len(rest) == 0 {
		rest = []string{"0"}
	}
	for _, a := range rest {
		args = append(args, []byte(a))
	}
	return string(c.Do(context.Background(), nil, []command.Request{request(args...)}))
}

// runaway starts a script that doesn't end by itself, and waits until others are answered BUSY.
func runaway(t *testing.T, e *Engine, script string) (other *Conn, reply func() string) {
	t.Helper()
	c := newConn(e)
	var wg sync.WaitGroup
	var out string
	wg.Go(func() { out = eval(c, script) })
	other = newConn(e)
	deadline := time.Now().Add(20 * time.Second)
	for got := ""; !strings.HasPrefix(got, "-BUSY"); got = run(t, other, "get k") {
		if time.Now().After(deadline) {
			t.Fatalf("not busy: %q", got)
		}
	}
	return other, func() string { wg.Wait(); return out }
}

func TestScriptKill(t *testing.T) {
	e := newEngine(t, Options{ScriptTimeLimit: 20 * time.Millisecond})
	for _, script := range []string{
		"while true do end",
		"while true do pcall(function() while true do end end) end",
		"while true do coroutine.wrap(function() while true do redis.call('get','k') end end)() end",
		"return string.find(string.rep('a',40),string.rep('a*',30)..'b')",
		"local function f() return pcall(f) end while true do f() end",
		"while true do table.sort({1,2,3,4},function() while true do end end) end",
	} {
		other, reply := runaway(t, e, script)
		for _, step := range [][2]string{
			{"ping", "-" + errScriptBusy + "\r\n"}, {"nope", "-ERR unknown command 'nope', with args beginning with: \r\n"},
			{"get", "-ERR wrong number of arguments for 'get' command\r\n"}, {"multi", "+OK\r\n"}, {"set k v", "-" + errScriptBusy + "\r\n"},
			{"discard", "+OK\r\n"}, {"script kill", "+OK\r\n"},
		} {
			if got := run(t, other, step[0]); got != step[1] {
				t.Fatalf("%s during %s: %q, want %q", step[0], script, got, step[1])
			}
		}
		if got := reply(); !strings.HasPrefix(got, "-ERR Script killed by user with SCRIPT KILL... script: "+shaOf([]byte(script))) {
			t.Fatalf("%s: %q", script, got)
		}
		if got := run(t, other, "set k v"); got != "+OK\r\n" {
			t.Fatalf("after %s: %q", script, got)
		}
	}
	if got := run(t, newConn(e), "script kill"); got != "-"+errNotBusy+"\r\n" {
		t.Fatal(got)
	}
}

// TestScriptUnkillable: what has written can't be killed, but the engine can be closed.
func TestScriptUnkillable(t *testing.T) {
	e := New(Options{ScriptTimeLimit: 20 * time.Millisecond})
	other, reply := runaway(t, e, "redis.call('set','k',1) while true do end")
	if got := run(t, other, "script kill"); got != "-"+errUnkillable+"\r\n" {
		t.Fatal(got)
	}
	e.Close()
	if got := reply(); !strings.HasPrefix(got, "-ERR "+errScriptClosed.Error()) {
		t.Fatal(got)
	}
}

// TestScriptBusyReal compares the answers of a real server with a script that doesn't end.
func TestScriptBusyReal(t *testing.T) {
	runner, real := dialReal(t), dialReal(t)
	real.do(t, words(t, "config set busy-reply-threshold 20"))
	defer real.do(t, words(t, "config set busy-reply-threshold 5000"))
	e := newEngine(t, Options{ScriptTimeLimit: 20 * time.Millisecond})
	const script = "\nwhile true do end"
	other, reply := runaway(t, e, script)
	runner.Write(request([]byte("eval"), []byte(script), []byte("0")).Raw)
	for deadline := time.Now().Add(20 * time.Second); !strings.HasPrefix(string(real.do(t, words(t, "get k"))), "-BUSY"); {
		if time.Now().After(deadline) {
			t.Fatal("the server isn't busy")
		}
	}
	for _, line := range []string{
		"ping", "nope", "get", "multi", "get k", "eval x 0", "discard", "unwatch", "exec", "multi", "exec", "script load x", "script exists x", "hello 9", "auth a b", "script kill",
	} {
		want := string(real.do(t, words(t, line)))
		if got := run(t, other, line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if want, got := string(runner.reply(t)), reply(); got != want {
		t.Errorf("the script: %q, want %q", got, want)
	}
}

// TestScriptMemory: a script that takes ever more memory is ended, and the process lives.
func TestScriptMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes memory")
	}
	e := newEngine(t, Options{ScriptTimeLimit: time.Hour, ScriptMemory: 64 << 20})
	c := newConn(e)
	for _, script := range []string{
		"local t={} while true do t[#t+1]={} end",
		"local s='x' while true do s=s..s end",
		"local t={} while true do t[#t+1]=string.rep('x',1000000)..#t end",
		"return ('x'):rep(1e9)",
		"return ('x'):rep(1e6):gsub('.',('y'):rep(1e6))",
		"local t={} for i=1,1000 do t[i]=('x'):rep(1e6) end return table.concat(t)..table.concat(t)",
		"local t={} while true do t[#t+1]=coroutine.wrap(function() coroutine.yield() end) end",
		"local function f(x) local a,b,c,d,e,f2 return 1+f(x) end return f(1)",
		"local t={} for i=1,300 do t[i]={} t[i][1000000]=1 end",
		"local t={} for i=1,100 do t={t} end return cjson.encode(t)..cmsgpack.pack(t)",
	} {
		got := eval(c, script)
		if got[0] != '-' && !strings.HasPrefix(script, "local t={} for i=1,100 ") {
			t.Errorf("%s: %.60q", script, got)
		}
		if got := eval(c, "return 1"); got != ":1\r\n" {
			t.Fatalf("after %s: %q", script, got)
		}
	}
}

// TestScriptSandbox: what a script does to what it can reach isn't seen by the next.
func TestScriptSandbox(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	for _, attack := range []string{
		"rawset(_G,'leak',1)", "_G.leak=1", "leak=1", "getmetatable(_G).__index=function() return 1 end", "rawset(getmetatable(_G),'__index',nil)",
		"setmetatable(_G,nil)", "redis.call=nil", "rawset(redis,'call',nil)", "rawset(string,'len',nil)", "string.len=nil", "getmetatable('').__index=nil",
		"rawset(getmetatable(''),'__index',nil)", "table.insert(redis,1)", "table.insert(_G,1)", "table.sort(KEYS) KEYS[1]='x' ARGV.leak=1",
		"for k,v in pairs(redis) do redis[k]=nil end", "local t=next(redis) redis[t]=nil", "table.remove(_G)", "table.foreach(redis,function(k) redis[k]=nil end)",
		"local f=loadstring('leak=1') f()", "_G['(concat)']=nil", "rawset(_G,'(concat)',nil)", "local m=getmetatable(redis) m.__index=nil",
		"setmetatable(redis,{})", "coroutine.wrap(function() leak=1 end)()", "cjson.null.x=1", "local s='' s.x=1", "string.format=nil", "function redis.call() end", "function leak() end",
		"getmetatable('').__add=function() return 1 end", "_G._G=nil", "KEYS=nil", "local e=__redis__err__handler e('x')", "pairs=nil",
	} {
		eval(c, attack)
		eval(c, "pcall(function() "+attack+" end)")
		got := eval(c, "return {redis.call('ping').ok,tostring(rawget(_G,'leak')),('abc'):len(),#KEYS,tostring(ARGV.leak),'a'..1,type(pairs),type(_G),'1'+1}")
		const want = "*9\r\n$4\r\nPONG\r\n$3\r\nnil\r\n:3\r\n:0\r\n$3\r\nnil\r\n$2\r\na1\r\n$8\r\nfunction\r\n$5\r\ntable\r\n:2\r\n"
		if got != want {
			t.Fatalf("%s leaves %q", attack, got)
		}
		if got := eval(c, "return leak"); !strings.Contains(got, "nonexistent global variable 'leak'") {
			t.Fatalf("%s leaves %q", attack, got)
		}
	}
	// Nothing of the host is in reach.
	for _, name := range []string{"os", "io", "debug", "package", "require", "module", "dofile", "loadfile", "print", "setfenv", "getfenv", "newproxy", "channel"} {
		if got := eval(c, "return "+name); !strings.Contains(got, "nonexistent") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestScriptOddities: texts that could upset the interpreter rather than the script.
func TestScriptOddities(t *testing.T) {
	c := newConn(newEngine(t, Options{}))
	for _, script := range []string{
		strings.Repeat("(", 100000), "return " + strings.Repeat("{", 100000), strings.Repeat("do ", 100000), "return " + strings.Repeat("-", 50000) + "1",
		"return " + strings.Repeat("'a'..", 10000) + "'b'", "return " + strings.Repeat("1+", 100000) + "1", "local a=" + strings.Repeat("f(", 100000),
		"return {pcall(coroutine.wrap(function() pcall(coroutine.yield) end))}", "return pcall(coroutine.yield)",
		"local t=setmetatable({},{__index=function() coroutine.yield() end}) return coroutine.wrap(function() return t.x end)()",
		"local t={} setmetatable(t,{__index=t}) return t.x", "local t={} setmetatable(t,{__newindex=t}) t.x=1", "error(setmetatable({},{__tostring=error}))", "error({})",
		"return tostring(setmetatable({},{__tostring=function() error('x') end}))", "return select(-1)", "return select(1e300)", "return string.rep('x',1/0)", "return ('x'):sub(0/0)",
		"return table.concat({},'',1,1e15)", "return unpack({},-1e300,1e300)", "return table.insert({},1e300,1)", "local t={} t[1e300]=1 t[-1]=2 t[1.5]=3 return #t",
		"return math.random(1,2^60)", "return ('%99.99f'):format(1e300)", "return bit.tohex(1,-2^31)", "return struct.unpack('c0','abc',1e300)", "return struct.pack('i0',1)", "return struct.unpack('i0','a')", "return struct.size('!1e9i')",
		"return cmsgpack.unpack('" + strings.Repeat(`\145`, 5000) + "')", "return cjson.decode('" + strings.Repeat("[", 900) + strings.Repeat("]", 900) + "')",
		"local a = coroutine.create(function() end) return coroutine.resume(a,unpack({},1,7000))", "return xpcall(error,error)", "return xpcall(1,1)", "return pcall()", "return pcall(pcall)", "return pcall(1)",
		"return coroutine.resume(coroutine.running() or 1)", "local co co=coroutine.create(function() return coroutine.resume(co) end) return coroutine.resume(co)",
		"return load(function() error('x') end)", "return load(load)", "return loadstring('\\27Lua')", "return string.gsub('x','x','%')", "return ('x'):find('[%')", "return ('x'):find('%b')", "return ('x'):gmatch('(')()",
		"for k in pairs(_G) do redis.call('set',k,1) end return redis.call('dbsize')>0", "return next(_G,nil)", "return next(_G,'(concat)')", "return next(redis,'call')~=nil",
		"redis.call('eval','x',0)", "return redis.pcall(redis)", "return redis.call(unpack({},1,7000))", "return {redis.call('set','a',('x'):rep(1000))}", "return #redis.call('mget',unpack({'a','a'}))",
		"local t=setmetatable({},{__index=function(t,k) return t[k] end}) return t.x", "local t=setmetatable({},{__add=function(a,b) return a+b end}) return t+1",
		"local t t=setmetatable({},{__tostring=function() return tostring(t) end}) return tostring(t)", "local function f(s) return s:gsub('.',f) end return f('x')",
		"local function f() table.sort({2,1},f) end f()", "local function f() return pcall(f) end return f()", "local function f() return select(2,xpcall(f,f)) end return f()",
		"local function f() return coroutine.wrap(f)() end return f()", "local t={} t.__index=t t.__newindex=t setmetatable(t,t) t.x=1 return t.y", "local s='return 1' for i=1,5000 do s='return loadstring('..string.format('%q',s):sub(1,200)..')' end return s",
		"goto = 1", "::a:: goto a", "return 0b11", "return 1_000", "return \"\\u{41}\"", "return 5//2", "return 1<<2",
	} {
		got := eval(c, script)
		if len(got) < 3 || !strings.HasSuffix(got, "\r\n") {
			t.Errorf("%.60s: %.100q", script, got)
		}
		if got := eval(c, "return {1,'x'..2,redis.call('ping').ok}"); got != "*3\r\n:1\r\n$2\r\nx2\r\n$4\r\nPONG\r\n" {
			t.Fatalf("after %.60s: %q", script, got)
		}
	}
}

// TestScriptOOM: with memory full, scripts may read and delete.
func TestScriptOOM(t *testing.T) {
	e := newEngine(t, Options{MaxMemory: 1})
	c := newConn(e)
	e.SetMaxMemory(0)
	run(t, c, "set k v")
	e.SetMaxMemory(1)
	for _, step := range [][2]string{
		{"return redis.call('get','k')", "$1\r\nv\r\n"}, {"return redis.call('set','k',1)", "-OOM command not allowed when used memory > 'maxmemory'. script: "},
		{"#!lua\nreturn 1", "-OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'\r\n"},
		{"#!lua flags=allow-oom\nreturn redis.call('set','k',1)", "+OK\r\n"}, {"#!lua flags=no-writes\nreturn 1", ":1\r\n"},
		{"redis.call('del','k') return redis.call('set','k',1)", "+OK\r\n"},
	} {
		if got := eval(c, step[0]); !strings.HasPrefix(got, step[1]) {
			t.Errorf("%s: %q, want %q", step[0], got, step[1])
		}
	}
	r := newConn(newEngine(t, Options{Replica: true}))
	for _, step := range [][2]string{
		{"return redis.call('get','k')", "$-1\r\n"}, {"return redis.call('set','k',1)", "-READONLY You can't write against a read only replica. script: "},
		{"#!lua\nreturn 1", "-READONLY You can not run script with write flag on readonly replica.\r\n"}, {"#!lua flags=no-writes\nreturn 1", ":1\r\n"},
	} {
		if got := eval(r, step[0]); !strings.HasPrefix(got, step[1]) {
			t.Errorf("replica: %s: %q, want %q", step[0], got, step[1])
		}
	}
}

func BenchmarkEval(b *testing.B) {
	for _, bb := range []struct{ name, script string }{
		{"empty", "return 1"},
		{"get", "return redis.call('get',KEYS[1])"},
		{"incr", "local n=redis.call('incr',KEYS[1]) if n>1e15 then redis.call('del',KEYS[1]) end return n"},
		{"loop", "local s=0 for i=1,1000 do s=s+i end return s"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := newConn(newEngine(b, Options{}))
			reqs := []command.Request{request([]byte("eval"), []byte(bb.script), []byte("1"), []byte("key"))}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				out = c.Do(context.Background(), out[:0], reqs)
			}
			if out[0] == '-' {
				b.Fatalf("%s", out)
			}
		})
	}
}
