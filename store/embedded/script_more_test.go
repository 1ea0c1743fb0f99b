package embedded

import "testing"

// TestScriptPrograms compares scripts as people write them: locks, rate limits, queues.
func TestScriptPrograms(t *testing.T) {
	const (
		unlock  = `eval "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end" 1 lock `
		limiter = `eval "local key, limit, now, window = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\nredis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)\nlocal count = redis.call('ZCARD', key)\nif count >= limit then return {0, limit - count} end\nredis.call('ZADD', key, now, now .. '-' .. count)\nredis.call('PEXPIRE', key, window)\nreturn {1, limit - count - 1}" 1 rate 2 `
		bucket  = `eval "local h = redis.call('HMGET', KEYS[1], 'tokens', 'ts')\nlocal tokens, ts = tonumber(h[1]) or tonumber(ARGV[1]), tonumber(h[2]) or 0\nlocal delta = math.max(0, tonumber(ARGV[3]) - ts)\ntokens = math.min(tonumber(ARGV[1]), tokens + delta * tonumber(ARGV[2]))\nlocal ok = tokens >= 1\nif ok then tokens = tokens - 1 end\nredis.call('HSET', KEYS[1], 'tokens', tokens, 'ts', ARGV[3])\nreturn {ok and 1 or 0, tostring(tokens)}" 1 bucket 3 0.5 `
		move    = `eval "local jobs = redis.call('lrange', KEYS[1], 0, ARGV[1] - 1)\nfor i, job in ipairs(jobs) do\n  local j = cjson.decode(job)\n  j.tries = (j.tries or 0) + 1\n  redis.call('rpush', KEYS[2], cjson.encode({j.id, j.tries}))\nend\nredis.call('ltrim', KEYS[1], #jobs, -1)\nreturn #jobs" 2 in out 2`
		stats   = `eval "local sum, n = 0, 0\nfor _, v in ipairs(redis.call('lrange', KEYS[1], 0, -1)) do sum = sum + v; n = n + 1 end\nif n == 0 then return false end\nreturn string.format('%.2f of %d', sum / n, n)" 1 nums`
		hash    = `eval "local out = {}\nlocal flat = redis.call('hgetall', KEYS[1])\nfor i = 1, #flat, 2 do out[#out + 1] = flat[i] .. '=' .. flat[i + 1] end\ntable.sort(out)\nreturn table.concat(out, '&')" 1 hash`
		split   = `eval "local t = {}\nfor part in string.gmatch(ARGV[1], '([^,]+)') do t[#t + 1] = part:match('^%s*(.-)%s*$') end\nreturn t" 0 "a, b ,c,,d"`
		class   = `eval "local A = {} A.__index = A\nfunction A.new(x) return setmetatable({x = x}, A) end\nfunction A:get(...) local n = select('#', ...) return self.x + n end\nlocal B = setmetatable({}, {__index = A}) B.__index = B\nfunction B:get() return 'b' .. A.get(self, 1, 2) end\nlocal b = setmetatable({x = 5}, B)\nreturn {A.new(1):get(), b:get()}" 0`
		fib     = `eval "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\nlocal memo = {}\nlocal function fast(n) if n < 2 then return n end if not memo[n] then memo[n] = fast(n - 1) + fast(n - 2) end return memo[n] end\nreturn {fib(15), tostring(fast(80)), string.format('%.0f', fast(70))}" 0`
		retry   = `eval "local ok, err = pcall(function() return redis.call('incr', KEYS[1]) end)\nif not ok then redis.call('del', KEYS[1]) return {err, redis.call('incr', KEYS[1])} end\nreturn err" 1 notnum`
	)
	vectors(t,
		"set lock a", unlock+"b", unlock+"a", unlock+"a", limiter+"1000 500", limiter+"1001 500", limiter+"1002 500", limiter+"1600 500",
		bucket+"0", bucket+"0", bucket+"0", bucket+"0", bucket+"3", "hget bucket tokens", `rpush in "{\"id\":1}" "{\"id\":2,\"tries\":3}" "{\"id\":3}"`, move, "lrange out 0 -1", move, "lrange in 0 -1",
		stats, "rpush nums 1 2.5 4", stats, "rpush nums x", stats, "hset hash b 2 a 1", hash, split, class, fib, "set notnum x", retry, retry, "rpush notnum2 a",
	)
	stream(t, "set lock a", unlock+"a", limiter+"1000 500", bucket+"0", `rpush in "{\"id\":1}"`, move, "set notnum x", retry)
}
