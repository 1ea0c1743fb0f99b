package embedded

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestScriptRandom runs scripts put together at random: whatever they are, there is an answer, they can be killed, and the next
// script runs.
func TestScriptRandom(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	parts := []string{
		"local a = ", "local b = ", "a", "b", "a.x", "b[1]", "a = ", "b.y = ", "return ", "if a then ", " end ", "for i = 1, 3 do ", "for k, v in pairs(", ") do ", "while b do ", "function() ",
		"function(x) return x end", "{}", "{1, 2}", "{x = 1}", "1", "-1", "1e300", "'s'", "nil", "true", "..", " + ", " - ", " == ", " < ", " and ", " or ", "not ", "#", "(", ")", ",", " ", "\n", ";",
		"pcall(", "xpcall(", "error(", "tostring(", "tonumber(", "setmetatable(a, b) ", "getmetatable(", "rawset(", "rawget(", "select(", "unpack(", "next(", "type(", "loadstring(", "load(",
		"coroutine.create(", "coroutine.wrap(", "coroutine.resume(", "coroutine.yield(", "table.insert(", "table.remove(", "table.sort(", "table.concat(", "string.rep(", "string.format(", "string.find(", "string.gsub(",
		"'%d+'", "'(.-)%1'", "'%b()'", "'%5.2f%s'", "redis.call(", "redis.pcall(", "'get'", "'set'", "'k'", "redis.setresp(3) ", "redis.error_reply(", "cjson.encode(", "cjson.decode(", "'[1,{}]'", "cmsgpack.pack(",
		"cmsgpack.unpack(", "struct.pack(", "struct.unpack(", "'>i4'", "bit.band(", "math.floor(", "math.random(", "KEYS", "ARGV", "_G", "redis", "string", "__index = ", "__call = ", "__tostring = ", "break ", "repeat ", "until ", "...",
	}
	e := newEngine(t, Options{ScriptTimeLimit: 20 * time.Millisecond})
	c, killer := newConn(e), newConn(e)
	ran := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		var b strings.Builder
		b.WriteString("local a, b = {}, {}\n")
		for range 2 + rng.IntN(12) {
			b.WriteString(parts[rng.IntN(len(parts))])
		}
		script := b.String()
		if open := strings.Count(script, "(") - strings.Count(script, ")"); open > 0 {
			script += strings.Repeat(")", open)
		}
		var got string
		done := make(chan struct{})
		go func() {
			defer close(done)
			got = eval(c, script)
		}()
		for over := false; !over; {
			run(t, killer, "script kill") // waits for the time limit, or the end
			select {
			case <-done:
				over = true
			default:
			}
		}
		if !strings.HasSuffix(got, "\r\n") {
			t.Fatalf("seed %d: %q: %.100q", seed, script, got)
		}
		if !strings.Contains(got, "compiling") {
			ran++
		}
		if got := eval(c, "return {1,'x'..2,redis.call('ping').ok}"); got != "*3\r\n:1\r\n$2\r\nx2\r\n$4\r\nPONG\r\n" {
			if strings.Contains(got, "Script killed") {
				continue
			}
			t.Fatalf("seed %d: after %q: %q", seed, script, got)
		}
	}
	t.Logf("%d scripts ran", ran)
}
