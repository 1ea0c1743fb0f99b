package embedded

import (
	"strconv"
	"testing"
)

// evals makes EVAL commands without keys of scripts.
func evals(scripts ...string) []string {
	var lines []string
	for _, s := range scripts {
		lines = append(lines, "eval "+strconv.Quote(s)+" 0")
	}
	return lines
}

func TestScriptErrors(t *testing.T) {
	vectors(t, evals(
		`error()`, `error(nil)`, `error(12)`, `error("x",0)`, `error("x",2)`, `error({err=1})`, `error({err="My Err"})`,
		`x=1`, `return x`, `redis.call=1`, `rawset(_G,"a",1)`, `getmetatable("").__index=nil`, `getmetatable("").a=1`,
		`return type(getmetatable(_G))`, `setmetatable(_G,{})`, `return setmetatable(redis,{})`, `table.insert(redis,1)`, `string.x=1`,
		`return {tostring(getmetatable(redis)),tostring(rawget(redis,"nope"))}`, `KEYS=1`, `KEYS[1]="a" return KEYS[1]`, `local function f() y=1 end f()`,
		`function f() return 1 end`, `a,b = 1`, `local t={} t.x.y.z=1`, `_G.x=1`, `return _G.x`, `for k,v in pairs(redis) do if k=="call" then v.x=1 end end`,
		`local a=nil; a.b=1`, `local a=nil; return a.b`, `return 1+nil`, `return "a"..nil`, `return {}..1`, `local x = {} return x.y.z`,
		`f()`, `local f; f()`, `local t={} t.f()`, `local t={} t:g()`, `return #nil`, `return -{}`, `return 1 < "a"`, `return {} < {}`,
		`for i=1,"x" do end`, `local function f() return f()+1 end f()`, `local function f() f() end f()`,
		`local t={} t[nil]=1`, `local t={} t[0/0]=1`, `return rawset({},nil,1)`, `local a = 1 a.b = 2`, `return ("x").y.z`, `return nil..nil`,
		`local a,b="x",{} return a..b`, `local t={x={}} return "a"..t.x`, `local a = {} return a < 1`, `return nil > 1`,
		`local u local function f() return u.x end f()`, `local t={} return t[1][2]`, `local t={} return -t.x`, `local t={} return #t.x`,
		`return redis.nope()`, `for k in 5 do end`, `return ("x"):nope()`, `local a="x" return a+1`, `local t={} return 1+t.x`, "\n\nlocal a\nreturn a.b",
		`local ok,e=pcall(function() error("x") end) return {tostring(ok),e}`, `local ok,e=pcall(function() local a a.b=1 end) return e`,
		`return {pcall(error)}`, `local ok,e=pcall(error,{err="a"}) return e.err`, `return {xpcall(function() error("x") end, function(e) return "H"..e end)}`,
		`return select(2,xpcall(function() error("x") end, function(e) return "H"..e end))`, `return {pcall(function(...) return ... end,1,2)}`,
		`return coroutine.wrap(function() error("zz") end)()`, `return coroutine.wrap(function() redis.call("nope") end)()`,
		`return assert(false)`, `return assert(nil,"msg")`, `return assert(false,{err="x"})`, `return __redis__err__handler("x")`,
		`local t=setmetatable({},{__index=function(t,k) return k.."!" end}) return t.foo`, `return loadstring("return 1")()`, `return load(function() return nil end)()`,
		`local f,e=loadstring("return x y") return e`, `local f,e=loadstring("return x y","=chunk") return e`, `local f,e=loadstring("x\ny z") return e`,
		`return loadstring("local a a.b=1")()`, `loadstring("x=1")()`, `return type(string.dump)`, `return load("\27Lua")`, `os.exit()`, `io.open("x")`, `require("x")`,
		`print(1)`, `dofile("x")`, `setfenv(1,{})`, `getfenv()`, `newproxy()`, `module("x")`, `debug.getinfo(1)`, `return package.path`,
		`return unpack({},1,1e8)`, `return tostring()`, `return type()`, `return select(0)`, `return ipairs()`, `return pairs(nil)`, `return ipairs(1)`,
		`return next({},"x")`, `return getmetatable(setmetatable({},{__metatable="p"}))`, `setmetatable(setmetatable({},{__metatable="p"}),{})`,
		`return setmetatable({},1)`, `return rawequal(1)`, `return tonumber()`, `return tonumber("1",99)`,
	)...)
}

func TestScriptSyntax(t *testing.T) {
	vectors(t, evals(
		`return a b`, `goto x`, `return 5 //2`, `if x then`, `x = = 1`, `return "abc`, `return [[abc`, `break`, `for`, `local function`, `return 1 return 2`,
		`return 0x`, `return 3..2`, `return 12abc`, `x = }`, `return "\400"`, `@`, `f(`, `local a <`, `a.b:c = 1`, `1 = 2`, `return ...`,
		`function f() return ... end`, `local function f() return ... end`, `x`, `return {`, `return {1,2`, `a = function(`, `--[[ unfinished`, `return 1 ~ 2`,
		`while true do`, `repeat`, `if 1 then else`, `local 1`, `return not`, `return a.1`, `function a.b.c:d.e() end`, "return \"a\nb\"", "f\n(1)",
		"if 1 then\nx(\n", `for i=1 do end`, `for a,b do end`, `a,1 = 2`, `f() = 1`, `return return`, `(f)`, `local a = {x=1,2;3`, `return #`, `function () end`,
		`for 1=1,2 do end`, `local x = function x() end`, `return f "a" {`, `x:y`, `return {[1]}`, `until x`, "if 1 then\n\n", "f(\n1\n", "x = {\n1\n",
		"\x01", "return [==[a]]", "[=a", "return 1 -- x\n+2", "--[==[ a ]] ]==] return 2", `return "\x41"`, `return 1e`, `return 1e+`, `return .5`, `return 010`,
		`local x <const> = 1`, `a.b.c`, `a:b() = 1`, `local a, = 1`, `function a(b,) end`, `for a in b, do end`, `while 1 do break 2 end`, `return;x`,
		"#!lua", "#!lua flags=x\nreturn 1", "#!lua name=a\nreturn 1", "#!js\nreturn 1", "#!lua\nreturn 7", "#!lua flags=no-writes\nreturn redis.call('set','a','b')",
		"#!lua flags=no-writes,allow-oom\nreturn redis.call('get','a')", "#!lua foo\nreturn 1", "#! lua\nreturn 1", "#!lua flags=\nreturn 1", "#!lua\nx y",
		"#!lua\n\nerror('x')", "#!lua flags=no-writes flags=allow-oom\nreturn 3", "#!\nreturn 1",
	)...)
}

func TestScriptValues(t *testing.T) {
	vectors(t, evals(
		`return {1,2,nil,4}`, `return {ok="fine"}`, `return {err="bad"}`, `return {err=1}`, `return {ok=1}`, `return 3.99`, `return -3.99`, `return true`, `return false`,
		`return nil`, `return`, `return ""`, `return {}`, `return {{},{{1}}}`, `return {double=3.5}`, `return {double=1e100}`, `return {map={a=1}}`, `return {set={a=true}}`,
		`return {big_number="123"}`, `return {big_number="12\r\n3"}`, `return {verbatim_string={format="txt",string="abc"}}`, `return {verbatim_string={format="markdown",string="abc"}}`,
		`return {double="x"}`, `return {err="x\r\ny"}`, `return {ok="x\r\ny"}`, `return {err=""}`, `return {ok="a",err="b"}`, `return 2^53`, `return 2^63`, `return -2^63`, `return 0/0`, `return 1/0`,
		`return print`, `return redis`, `return cjson.null`, `return {1,cjson.null,false,true}`, `return math.huge`, `return {map={[1]={2}}}`, `return {[1]=1,[3]=3}`,
		`redis.setresp(3) return true`, `redis.setresp(3) return false`, `redis.setresp(3) return nil`, `redis.setresp(3) return {1,true,false}`,
		`redis.setresp(4)`, `redis.setresp()`, `return redis.setresp(3)`, `redis.setresp(3) return redis.call("get","nokey")`,
		`redis.setresp(3) redis.call("hset","h","a","1") local r=redis.call("hgetall","h") return {type(r.map),r.map.a}`,
		`redis.setresp(3) redis.call("sadd","s","a") local r=redis.call("smembers","s") return tostring(r.set.a)`,
		`redis.setresp(3) redis.call("zadd","z",1.5,"a") local r=redis.call("zscore","z","a") return {r.double,tostring(r.double)}`,
		`redis.setresp(3) return redis.call("hgetall","h")`, `redis.setresp(3) return redis.call("zrange","z",0,-1,"withscores")`, `return redis.call("hgetall","h")`,
		`return redis.call("zrange","z",0,-1,"withscores")`, `return tostring(redis.call("get","nokey"))`, `return type(redis.call("ping").ok)`, `return redis.call("ping")`,
		`return redis.call("get")`, `return redis.call("nope")`, `return redis.call()`, `return redis.call({})`, `return redis.call("get",nil)`, `redis.call("lpush",KEYS[1])`,
		`return redis.pcall("nope")`, `return redis.pcall()`, `return redis.pcall({})`, `return redis.pcall("nope").err`, `return redis.error_reply("a b")`, `return redis.error_reply("-ERR x")`, `return redis.error_reply(1)`,
		`return redis.error_reply()`, `return redis.error_reply("MY")`, `return redis.error_reply("")`, `return redis.error_reply("-")`, `return {err="-x y"}`, `return redis.error_reply("x\r\n")`,
		`return redis.status_reply("x")`, `return redis.status_reply("x\r\ny")`, `return redis.status_reply("")`, `return redis.status_reply(1)`,
		`return redis.call("blpop","a",0)`, `return redis.call("subscribe","a")`, `return redis.call("eval","return 1",0)`, `return redis.call("multi")`, `return redis.call("debug","sleep",0)`,
		`return redis.call("config","get","maxmemory")`, `return redis.call("config","nope")`, `return redis.call("script","load","x")`, `return redis.call("hello")`, `return redis.call("client","nope")`,
		`return redis.call("get","a","b","c")`, `return redis.call("set","a",1,2,3)`, `redis.call("set","str","x") return redis.call("lpush","str","a")`,
		`return redis.pcall("lpush","str","a")`, `local e=redis.pcall("lpush","str","a") local t={} for k,v in pairs(e) do t[#t+1]=k..tostring(v) end table.sort(t) return t`,
		`local ok,e=pcall(redis.call,"lpush","str","a") return {tostring(ok),type(e),e.err,tostring(e.source),tostring(e.line),tostring(e.ignore_error_stats_update)}`,
		`redis.call("set","n",3.5) return redis.call("get","n")`, `redis.call("set","n",1/3) return redis.call("get","n")`, `redis.call("set","n",2^53) return redis.call("get","n")`,
		`redis.call("set","n",1e20) return redis.call("get","n")`, `redis.call("set","n",-0) return redis.call("get","n")`, `redis.call("set","n",0/0) return redis.call("get","n")`,
		`redis.call("set","n",-1e-7) return redis.call("get","n")`, `redis.call("set","n",0.1+0.2) return redis.call("get","n")`, `redis.call("set","n",2^53-1) return redis.call("get","n")`,
		`redis.call("select",3) redis.call("set","in3",1) return redis.call("dbsize")`, `return redis.call("exists","in3")`, `return redis.call("incr","cnt") + redis.call("incr","cnt")`,
		`return redis.sha1hex()`, `return redis.sha1hex(12)`, `return redis.sha1hex("")`, `return redis.sha1hex(nil)`, `return redis.REDIS_VERSION`, `return redis.REDIS_VERSION_NUM`,
		`return redis.log(redis.LOG_DEBUG,"x",1)`, `redis.log()`, `redis.log("x","y")`, `redis.log(9,"y")`, `redis.set_repl(9)`, `redis.set_repl()`, `return redis.set_repl(redis.REPL_NONE)`,
		`return redis.replicate_commands()`, `return redis.breakpoint()`, `return redis.debug("a")`, `return redis.acl_check_cmd("get","a")`, `return redis.acl_check_cmd("foo","a")`, `return redis.acl_check_cmd()`,
		`return _VERSION`, `return tostring(cjson.null)`, `local t={} for k in pairs(_G) do t[#t+1]=k end table.sort(t) return t`,
		`local t={} for _,l in ipairs{"redis","string","table","math","coroutine","bit","struct","cjson","cmsgpack"} do for k,v in pairs(_G[l]) do t[#t+1]=l.."."..k.."="..type(v) end end table.sort(t) return t`,
	)...)
	vectors(t,
		`eval "return {KEYS[1],KEYS[2],ARGV[1],ARGV[2],#KEYS,#ARGV}" 2 a b c d`, `eval "return KEYS" 3 a b c`, `eval "return ARGV" 0 "\x00\xff"`,
		`eval "return 1" -1`, `eval "return 1" 1`, `eval "return 1" a`, `eval`, `eval x`, `evalsha "return 1" 0`, `evalsha e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0`,
		`script exists e0e1f9fabfc9d4800c877a703b823ac0578ff8db a`, `script load "return 1"`, `script exists e0e1f9fabfc9d4800c877a703b823ac0578ff8db a`, `evalsha E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0`,
		`evalsha_ro e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0`, `script load "a b"`, `script flush foo`, `script kill`, `script help`, `script foo`, `script flush async a`, `script flush`, `script exists e0e1f9fabfc9d4800c877a703b823ac0578ff8db`,
		`eval_ro "return redis.call('set','a','b')" 0`, `eval_ro "return redis.pcall('set','a','b').err" 0`, `eval_ro "return redis.call('publish','a','b')" 0`, `eval_ro "return redis.call('get','a')" 0`, `eval_ro "return redis.pcall('pfcount','a')" 0`,
		`eval_ro "#!lua\nreturn 1" 0`, `eval_ro "#!lua flags=no-writes\nreturn 1" 0`, `script load "#!lua flags=q\nreturn 1"`,
		`multi`, `eval "return redis.call('incr','x')" 0`, `get x`, `eval "x=1" 0`, `evalsha a 0`, `exec`, `set k v px 100000`, `eval "return redis.call('pttl',KEYS[1])>0" 1 k`,
		`watch w`, `eval "return redis.call('set',KEYS[1],1)" 1 w`, `multi`, `ping`, `exec`,
	)
}

func TestScriptLibraries(t *testing.T) {
	vectors(t, evals(
		`return tostring(nil)..tostring(1e15)..(1/3)..(0/0)..(2^53)`, `return tostring(1e100)..tostring(-1/0)..tostring(100)..tostring(0.1)`, `return 1 ..2`, `return "a"..1 .."b"..2.5`,
		`return "010"+0`, `return "0x10"+0`, `return "10"*"2"`, `return -"3"`, `return "7"%4`, `return 5.5%2`, `return -5%3`, `return 2^0.5 ..""`, `return "abc"<"abd"`, `return 1e3`, `return 0xff`,
		`math.randomseed(7) return {math.random()*1000000,math.random(10),math.random(3,9)}`, `math.randomseed(42) return tostring(math.random())`, `math.randomseed(-1) return tostring(math.random())`,
		`return math.random(0)`, `return math.random(1,2,3)`, `return math.random(5,1)`, `return math.max()`, `return math.floor("a")`, `return {math.floor(-3.5),math.ceil(1.2),math.abs(-3),math.max(1,5,2),math.min(4,2)}`,
		`return {tostring(math.modf(3.7)),tostring(select(2,math.modf(-3.7))),math.fmod(7,3),tostring(math.sqrt(2)),math.pow(2,10),tostring(math.pi),math.frexp(8)}`, `return tostring(math.huge)..tostring(-math.huge)`,
		`return tonumber("0x10")..tonumber("10",2)..tostring(tonumber("z",36))..tostring(tonumber("1e1"))..tostring(tonumber(" 10 "))..tostring(tonumber("10a"))..tostring(tonumber(""))..tostring(tonumber("inf"))..tostring(tonumber("nan"))..tostring(tonumber("1_0"))..tostring(tonumber("0b1"))`,
		`return tostring(tonumber("-ff",16))..tostring(tonumber("8",8))..tostring(tonumber({}))`, `return {select("#",1,2),select(-1,1,2)}`, `return {select(2,"a","b","c")}`, `return {1,2,3,unpack({4,5})}`, `return {unpack({1,2,3},2)}`, `return {unpack({1,2,3},2,5)}`,
		`return table.concat({1,2,{}},",")`, `return table.concat({1,"a",2.5},"-")`, `return table.concat({1,2,3},",",2,3)`, `table.sort({3,1,"x"})`, `local t={3,1,2} table.sort(t) return t`, `local t={"b","a"} table.sort(t,function(a,b) return a>b end) return t`,
		`local t={1,2,3} table.insert(t,2,9) return t`, `local t={1} table.insert(t,2) return t`, `local t={1,2,3} return {table.remove(t),table.remove(t,1),#t}`, `return table.remove({})`, `table.insert({1},2,3,4)`, `return table.getn({1,2})`, `return table.maxn({[5]=1})`, `table.setn({},1)`,
		`local s=0 table.foreach({1,2},function(k,v) s=s+k*v end) return s`, `return table.foreachi({1,2},function(k,v) if v==2 then return "x" end end)`, `return #"abc"`, `local t={1,2,nil} return #t`,
		`return ("%5.2f|%d|%s|%q|%x|%g|%c|%5s|%-5s|%i|%u|%e"):format(1.234,3.99,"a","b\n\0\"",255,1e20,65,"ab","ab",7,8,12345.678)`, `return ("%d"):format("x")`, `return ("%y"):format(1)`, `return ("%d"):format()`, `return ("%123d"):format(1)`,
		`return ("%05d|%+d|%-5d|% d|%.3d|%X|%#x|%o|%%|%.2s|%5.1f|%G"):format(42,42,42,42,7,255,255,8,"abc",2.25,1e-10)`, `return string.format("%s",nil)`, `return string.format("%s")`, `return string.format("%10.4f|",math.pi)`, `return string.format("%d",-1)`, `return string.format("%u",-1)`, `return ("%s"):format(true)`, `return ("%"):format(1)`, `return ("%5"):format(1)`, `return ("%g %g"):format(0/0,1/0)`, `return ("%d"):format(2^31)`,
		`return {("hello world"):find("o w")}`, `return {("k=v, a=b"):gsub("(%w+)=(%w+)","%2=%1")}`, `return ("abc"):gsub("%","")`, `return ("abc"):find("[a")`, `return ("abc"):find("(a")`, `return ("abc"):find("a)")`, `return ("abc"):gsub("a","%2")`, `return ("abc"):find("%f")`, `return ("abc"):find("[]")`, `return ("abc"):find("[^]")`, `return ("abc"):match("%1")`, `return ("abc"):find("%b")`,
		`return {("THE (quick) fox"):find("%((%a+)%)")}`, `return {("x = 10"):match("^(%w+)%s*=%s*(%d+)$")}`, `local t={} for w in ("one two three"):gmatch("%a+") do t[#t+1]=w end return t`, `return {("abc"):gsub("","-")}`, `return {("hello"):gsub("l+",{ll="LL"})}`, `return {("hello"):gsub("l",function(c) return c:upper() end,1)}`, `return {("abc"):find("b",1,true)}`, `return {("a.b"):find(".",1,true)}`, `return {("THE (a(b)c) x"):match("%b()")}`, `return {("THE quick"):find("%f[%a]%a+",2)}`, `return {("aXb"):match("()X()")}`, `return {("äö"):len(),("x"):rep(3),("abc"):reverse(),("aBc"):upper(),("aBc"):lower(),("abc"):sub(-2),("abc"):sub(2,10),("abc"):sub(0)}`, `return ("abc"):gsub("b",true)`, `return {("abc"):gsub("b",function() return {} end)}`, `return {("a-b"):gsub("%-","%%")}`, `return ("aaa"):match("a-$")`, `return {("  trim "):match("^%s*(.-)%s*$")}`, `return {("abc"):find("",10)}`, `return {("abc"):find("c",-1)}`, `return {("x"):byte(10)}`, `return {string.byte("abc",1,-1)}`, `return string.char(72,105)`, `return string.char(256)`, `return string.char()`, `string.rep()`, `string.rep("x",{})`, `return string.rep("ab",3)`, `return ("x"):rep(-1)`,
		`local co=coroutine.create(function(a,b) local c=coroutine.yield(a+b) return c*2 end) local r={} r[1]=select(2,coroutine.resume(co,1,2)) r[2]=select(2,coroutine.resume(co,10)) r[3]=coroutine.status(co) r[4]=select(2,coroutine.resume(co)) return r`, `local f=coroutine.wrap(function() for i=1,3 do coroutine.yield(i) end end) return {f(),f(),f()}`, `coroutine.yield(1)`, `return coroutine.create(1)`, `return tostring(coroutine.running())`,
		`local t=setmetatable({},{__add=function(a,b) return 5 end,__concat=function() return "c" end,__eq=function() return true end,__lt=function() return true end,__call=function(s,a) return a end,__unm=function() return "neg" end,__tostring=function() return "ts" end}) return {t+1,1+t,t.."x","x"..t,t(7),-t,tostring(t),tostring(t<t)}`,
		`return collectgarbage("count")>0`, `return collectgarbage()`, `return collectgarbage("x")`, `return rawequal("a","a")`, `return {type(nil),type(1),type("x"),type({}),type(print or type),type(cjson.null)}`,
		`local a={} for i=1,300 do a[i]=i end return #a`, `local t={} t[1]=1 t[2]=2 t[4]=4 return #t`, `local s=0 for i=10,1,-3 do s=s+i end return s`, `local i=0 repeat i=i+1 until i>=5 return i`, `local function f(...) return select("#",...) end return f(nil,nil)`, `local function f(...) local a,b=... return b end return f(1,2)`, `return (function(...) return ... end)(1,2)`, `local t={f=function(self,x) return x end} return t:f(4)`,
	)...)
}

func TestScriptJSON(t *testing.T) {
	vectors(t, evals(
		`return cjson.encode({})`, `return cjson.encode({1,2,{a=1.5}})`, `return cjson.encode(1/3)`, `return cjson.encode({[1]=1,[20]=2})`, `return cjson.encode(0/0)`, `return cjson.encode(1e100)`, `return cjson.encode(1e14)..cjson.encode(123456789012345678)`,
		`return cjson.encode("a/b\"\\\1\127é\n\t\b\f\r")`, `return cjson.encode(function() end)`, `return cjson.encode({[true]=1})`, `return cjson.encode({[1.5]=1})`, `return cjson.encode(cjson.null)`, `return cjson.encode(nil)`, `return cjson.encode()`, `return cjson.encode(1,2)`,
		`return cjson.encode({[0]=1})`, `return cjson.encode({[-1]=1})`, `return cjson.encode({1,nil,3})`, `return cjson.encode({[3]=3})`, `return cjson.encode({[10]=3})`, `return cjson.encode({[11]=3})`, `return cjson.encode(true)..cjson.encode(false)`, `return cjson.encode({a=cjson.null})`,
		`local t={} for i=1,1001 do t={t} end return cjson.encode(t)`, `local t={} for i=1,999 do t={t} end return #cjson.encode(t)`, `return cjson.decode(string.rep("[",1001))`, `return cjson.decode("[1,2,")`, `return cjson.decode("")`, `return cjson.decode("{\"a\":1,}")`, `return cjson.decode("nope")`, `return cjson.decode("[1 2]")`,
		`return cjson.decode("{1:2}")`, `return cjson.decode("{\"a\" 1}")`, `return cjson.decode("[1]x")`, `return cjson.decode("\"abc")`, `return cjson.decode("\"\\u12\"")`, `return cjson.decode("\"\\ud800\"")`, `return cjson.decode("\"\\ud83d\\ude00\\u00e9\\u20ac\"")`, `return cjson.decode("\"\\q\"")`, `return cjson.decode("[nan,1]")`, `return cjson.decode("-")`, `return cjson.decode("0x1F")`, `return cjson.decode("01")`, `return cjson.decode("1e5")`, `return cjson.decode("-Infinity")`, `return cjson.decode("1.")`, `return cjson.decode("-1.5e-2")*1000`, `return cjson.decode(".5")`, `return cjson.decode("+1")`, `return cjson.decode("1e")`,
		`return cjson.decode("{\"a\":[1,null,true]}").a`, `return cjson.decode("[[],{},\"x\",false]")`, `return cjson.decode(1)`, `return cjson.decode({})`, `return cjson.decode()`, `cjson.decode("[1]",2)`, `return cjson.decode(" [ 1 , 2 ] ")`, `return cjson.decode("[1,,2]")`, `return cjson.decode("{")`, `return cjson.decode("{\"a\":}")`, `return cjson.decode("tru")`, `return cjson.decode("\"\\n\\t\\\"\\/\\\\\\b\"")`, `return cjson.decode("\0\0")`, `return cjson.decode("[1,\0")`,
		`return cjson.encode_max_depth()`, `return {cjson.encode_sparse_array()}`, `return cjson.encode_number_precision()`, `return cjson.encode_keep_buffer()`, `return cjson.encode_invalid_numbers()`, `return cjson.decode_invalid_numbers()`, `cjson.encode_max_depth(0)`, `cjson.encode_number_precision(15)`, `cjson.encode_number_precision(3)`, `return cjson.encode(1/3)..cjson.encode(123456)`, `cjson.encode_number_precision(14)`,
		`cjson.encode_invalid_numbers("null") return cjson.encode(0/0)`, `cjson.encode_invalid_numbers(true) return cjson.encode({0/0,1/0})`, `return cjson.encode_invalid_numbers(false)`, `return cjson.encode_invalid_numbers("bad")`, `cjson.encode_sparse_array(true) return cjson.encode({[20]=1})`, `cjson.encode_sparse_array(false)`, `cjson.decode_max_depth(2) return cjson.decode("[[[1]]]")`, `return cjson.decode_max_depth(1000)`, `cjson.decode_invalid_numbers(false) return cjson.decode("nan")`, `return cjson.decode("0x1")`, `cjson.decode_invalid_numbers(true)`, `cjson.encode_max_depth(1,2)`, `local c=cjson.new() c.encode_max_depth(1) return c.encode({{1}})`, `return cjson.encode({{1}})`, `cjson.x=1`,
	)...)
}

func TestScriptPacking(t *testing.T) {
	vectors(t, evals(
		`return cmsgpack.pack()`, `return cmsgpack.unpack("")`, `return cmsgpack.unpack("\193")`, `return cmsgpack.unpack("\146\1")`, `return {cmsgpack.unpack(cmsgpack.pack(1,"a",{1,2},{a=1},true,false,nil,1.5))}`,
		`return cmsgpack.pack(0,127,128,255,256,65535,65536,2^32-1,2^32,2^53,-1,-32,-33,-128,-129,-32768,-32769,-2^31,-2^31-1,-2^53,1.5,0.1,1e300)`, `return cmsgpack.pack("",("x"):rep(31),("x"):rep(32),("x"):rep(255),("x"):rep(256))`, `local t={} for i=1,16 do t[i]=i end return cmsgpack.pack(t,{},{1},{[1]=1,[3]=3})`, `return cmsgpack.pack(redis.call,cjson.null)`, `local t={} for i=1,20 do t={t} end return cmsgpack.pack(t)`,
		`return {cmsgpack.unpack_one(cmsgpack.pack(1,2,3))}`, `return {cmsgpack.unpack_one(cmsgpack.pack(1,2,3),2)}`, `return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2)}`, `return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),0)}`, `return cmsgpack.unpack_one("a",-1)`, `return cmsgpack.unpack_one("a",5)`, `return cmsgpack.unpack_limit("a",-1)`, `return {cmsgpack.unpack("\204\200\205\1\2\206\0\0\1\0\208\128\209\255\0\210\255\0\0\0\211\255\255\255\255\255\255\255\0")}`, `return cmsgpack.unpack("\220\255\255")`, `return cmsgpack.unpack("\221\127\255\255\255")`, `return cmsgpack.unpack("\129\192\1")`, `return cmsgpack.unpack("\196\1a")`, `return cmsgpack.unpack({})`,
		`return {bit.tohex(255,-4),bit.tohex(-1),bit.tohex(255,2),bit.tobit(2^31),bit.bnot(0),bit.band(255,15,7),bit.bor(1,2,4),bit.bxor(5,1),bit.lshift(1,31),bit.rshift(-1,28),bit.arshift(-16,2),bit.rol(305419896,4),bit.ror(305419896,4),bit.bswap(305419896),bit.tobit(1.5),bit.tobit(2.5),bit.tobit(2^40+1),bit.lshift(1,33)}`, `return bit.band()`, `return bit.band("x")`, `return bit.band("3",1)`, `return bit.tohex(10,0)`,
		`return struct.pack(">i4",1)`, `return struct.pack("<i2>i2",1,1)`, `return struct.pack("Z",1)`, `return struct.unpack("i4","a")`, `return struct.size("s")`, `return struct.pack("i33",1)`, `return struct.unpack(1)`, `return {struct.unpack(">i2","\1\2")}`, `return struct.pack("d","x")`, `return struct.pack("c0","abc")`, `return struct.pack("c5","abc")`, `return {struct.unpack("s","abc")}`, `return struct.pack("i3",1)`, `return struct.pack("!3i",1)`, `return struct.size("i5")`,
		`return struct.pack("bBhHlLTfdxs",-1,255,-2,65535,-3,4,5,1.5,2.5,"abc")`, `return {struct.unpack("bBhHlLT",struct.pack("bBhHlLT",-1,255,-2,65535,-3,4,5))}`, `return struct.pack("!4bi!8bd",1,2,3,4)`, `return struct.size("!8bd")`, `return {struct.unpack("bc0","\3abcd")}`, `return struct.unpack("c0","abc")`, `return {struct.unpack("i4","\1\0\0\0\2\0\0\0",5)}`, `return struct.unpack("i4","abcd",0)`, `return struct.pack("I8",2^53)`, `return struct.pack("i16",-1)`, `return {struct.unpack(">I3","\1\2\3")}`, `return struct.size("c0")`, `return struct.size("iq")`, `return struct.pack("i99999999999",1)`, `return struct.pack("c2","abc")`, `return struct.pack("i")`, `return struct.size(">i2 <i4")`, `return {struct.unpack("f",struct.pack("f",1.5))}`,
	)...)
}

func TestScriptPropagation(t *testing.T) {
	stream(t,
		`eval "return 1" 0`, `eval "return redis.call('set','a','b')" 0`, `eval "redis.call('set','a','1') redis.call('incr','a') return redis.call('get','a')" 0`, `eval "redis.call('set','x','y','ex',100)" 0`,
		`eval "redis.call('select',2) redis.call('set','q',1)" 0`, `set after x`, `multi`, `eval "redis.call('set','m',1)" 0`, `eval "redis.call('set','m',2) redis.call('publish','c','d')" 0`, `incr m`, `exec`,
		`eval "redis.set_repl(redis.REPL_NONE) redis.call('set','hidden',1) redis.set_repl(redis.REPL_ALL) redis.call('set','shown',1)" 0`, `eval "redis.set_repl(redis.REPL_AOF) redis.call('set','hidden',1)" 0`,
		`sadd s a`, `eval "return redis.call('spop','s')" 0`, `eval "redis.call('set','e',1) error('x')" 0`, `eval "redis.pcall('lpush','e',1) redis.call('incrbyfloat','e',1.5)" 0`, `script load "return 1"`, `script flush`,
		`rpush l 1`, `eval "redis.call('lpush','l',7) redis.call('del','l')" 0`, `eval "return redis.call('get','nokey')" 0`,
	)
}
