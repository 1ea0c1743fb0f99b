package embedded

import (
	"context"
	"fmt"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// TestDump moves values of all types between this engine and a real server, both ways.
func TestDump(t *testing.T) {
	real := dialReal(t)
	real.do(t, words(t, "flushall"))
	e := newEngine(t, Options{})
	c := newConn(e)
	do := func(args ...[]byte) []byte {
		return c.Do(context.Background(), nil, []command.Request{request(args...)})
	}
	make := []string{"set K 12", `set K "\x00 text"`, "rpush K a 1 b -70000", "sadd K 1 2 3", "sadd K a b 1", "hset K f 1 g v", "zadd K 1.5 a -2 b inf c"}
	show := []string{"get K", "get K", "lrange K 0 -1", "smembers K", "smembers K", "hgetall K", "zrange K 0 -1 withscores"}
	for i := range make {
		key := fmt.Sprint("k", i)
		replace := func(line string) [][]byte {
			w := words(t, line)
			w[1] = []byte(key)
			return w
		}
		do(replace(make[i])...)
		ours := frame.Reply{Raw: do([]byte("dump"), []byte(key))}
		if got := string(real.do(t, [][]byte{[]byte("restore"), []byte(key), []byte("0"), ours.Text()})); got != "+OK\r\n" {
			t.Errorf("%s: the server says %q", make[i], got)
		}
		theirs := frame.Reply{Raw: real.do(t, [][]byte{[]byte("dump"), []byte(key)})}
		if got := string(do([]byte("restore"), []byte(key), []byte("0"), theirs.Text(), []byte("replace"))); got != "+OK\r\n" {
			t.Errorf("%s: got %q", make[i], got)
		}
		a, b := unordered(do(replace(show[i])...)), unordered(real.do(t, replace(show[i])))
		if string(a) != string(b) {
			t.Errorf("%s: %q here, %q there", make[i], a, b)
		}
	}
	if err := audit(e); err != nil {
		t.Error(err)
	}
	vectors(t, "dump none", "restore a 0 foo", "set a 1", "restore a 0 foo", "restore a 0 foo replace", "restore b -1 foo", "restore b x foo", "restore b 0 foo bar",
		"restore b 0 foo idletime -1", "restore b 0 foo freq 256", `restore b 0 "\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb"`, "get b", `restore b 0 "\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb" replace absttl`)
}
