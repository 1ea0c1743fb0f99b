package rules

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"respmesh/proxy"
	"respmesh/resp/command"
)

// TestRules has one test for each thing that a RESP proxy must get right.
func TestRules(t *testing.T) {
	for _, rule := range []struct {
		name string
		test func(*testing.T, *house)
	}{
		{"01 only what is flagged readonly is a read", onlyReadonlyIsRead},
		{"02 PFCOUNT and TOUCH go to the primary", hiddenFlag},
		{"03 variants that store go to the primary", variantsThatStore},
		{"04 scripts are found wherever they run", scripts},
		{"05 PUBLISH reaches subscribers of every node", publish},
		{"06 SCAN survives a change of route", scanCursors},
		{"07 WAIT is about the connection's writes", waitForReplicas},
		{"08 clients of a node see its writes", readYourWrites},
		{"09 reads don't go back", monotonic},
		{"10 replies keep the order of requests", order},
		{"11 a replica that is cut off isn't read beyond max_lag", staleness},
		{"12 what has expired isn't served", ttl},
		{"13 reads here don't refresh the primary's LRU, and that is written down", eviction},
		{"14 a transaction is one connection's, or one piece", transactions},
		{"15 blocking commands own a connection", blocking},
		{"16 nobody gets the reply to a cancelled request", cancelled},
		{"17 writes are executed at most once", atMostOnce},
		{"18 errors: another copy, or passed on unchanged", errorsPassOn},
		{"19 HELLO is answered here, RESP2 and RESP3 side by side", hello},
		{"20 session state stays here", sessionState},
		{"21 invalidations come from the node that served the read", trackingRule},
		{"22 users are the node's", users},
		{"23 limits before AUTH", limitsBeforeAuth},
		{"24 a slow client holds up nobody", slowClient},
		{"25 keyspace notifications can be subscribed to", keyspaceNotifications},
		{"26 inline commands", inline},
		{"27 nearest of the healthy", nearest},
		{"28 a silent path ends with an error, not with silence", silentPath},
		{"29 administration is refused", administration},
	} {
		t.Run(rule.name, func(t *testing.T) { rule.test(t, newHouse(t, proxy.Settings{})) })
	}
}

func onlyReadonlyIsRead(t *testing.T, h *house) {
	for spec := range command.All() {
		args := strings.Split(spec.Name, "|")
		for n := max(spec.Arity, -spec.Arity); len(args) < n; {
			args = append(args, "1")
		}
		x := h.nodes["ams"].gateway.Explain(args...)
		if x.Route == "local" && !spec.Is(command.FlagReadonly) && spec.Class != command.Read && !strings.Contains(spec.Name, "subscribe") {
			t.Errorf("%s is served by a replica: %+v", spec.Name, x)
		}
		if spec.Is(command.FlagWrite) && x.Node != "mad" && x.Route != "none" {
			t.Errorf("%s: %+v", spec.Name, x)
		}
	}
	for _, args := range [][]string{{"GETSET", "k", "v"}, {"XADD", "s", "*", "f", "v"}, {"EVAL", "x", "0"}, {"NO.SUCH", "k"}, {"PUBLISH", "c", "m"}} {
		if x := h.nodes["ams"].gateway.Explain(args...); x.Node != "mad" {
			t.Errorf("%v: %+v", args, x)
		}
	}
}

func hiddenFlag(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("PFADD hll a b", "1")
	c.want("PFCOUNT hll", "2")
	c.want("TOUCH hll", "1")
	for _, name := range []string{"PFCOUNT", "TOUCH"} {
		if x := h.nodes["ams"].gateway.Explain(name, "hll"); x.Node != "mad" {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

func variantsThatStore(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("RPUSH l 2 1", "2")
	c.want("SORT l STORE sorted", "2")
	c.want("SORT_RO l", "[1 2]")
	c.want("LRANGE sorted 0 -1", "[1 2]")
	c.want("SET s x EX 100", "OK")
	c.want("GETEX s PERSIST", "x")
	c.want("TTL s", "-1")
	c.want("BITFIELD s SET u8 0 65", "[120]")
	c.want("BITFIELD_RO s GET u8 0", "[65]")
	c.want("GEOADD g 1 1 a", "1")
	c.want("GEORADIUS g 1 1 1 km STORE near", "1")
	c.want("ZCARD near", "1")
}

func scripts(t *testing.T, h *house) {
	c := h.connect("ams")
	c.conn.Write([]byte("SCRIPT LOAD \"return redis.call('GET', KEYS[1])\"\r\n"))
	sha := c.recv()
	c.want("SET k v", "OK")
	for range 2 {
		c.want("EVALSHA "+sha+" 1 k", "v")
		c.want("EVALSHA_RO "+sha+" 1 k", "v") // the replica hasn't got it: the primary has
	}
	c.want("SCRIPT EXISTS "+sha, "[1]")
	c.conn.Write([]byte("EVAL \"return redis.call('SET', KEYS[1], ARGV[1])\" 1 k w\r\n"))
	c.wants("OK")
	c.want("GET k", "w")
	c.begins("EVALSHA 0000000000000000000000000000000000000000 0", "-NOSCRIPT")
	if x := h.nodes["ams"].gateway.Explain("FUNCTION", "LOAD", "x"); x.Node != "mad" {
		t.Errorf("FUNCTION LOAD: %+v", x)
	}
}

func publish(t *testing.T, h *house) {
	var subs []*client
	for _, node := range []string{"mad", "ams", "iad"} {
		c := h.connect(node)
		c.want("SUBSCRIBE ch", "[subscribe ch 1]")
		c.want("SSUBSCRIBE sh", "[ssubscribe sh 1]")
		subs = append(subs, c)
	}
	p := h.connect("ams")
	p.do("PUBLISH ch hello")
	p.do("SPUBLISH sh there")
	for _, c := range subs {
		c.wants("[message ch hello]", "[smessage sh there]")
	}
}

func scanCursors(t *testing.T, h *house) {
	c := h.connect("ams")
	for i := range 300 {
		c.send(fmt.Sprint("SET key:", i, " v"))
	}
	for range 300 {
		c.wants("OK")
	}
	seen := map[string]bool{}
	cursor := "0"
	for round := 0; ; round++ {
		c.want([]string{"READWRITE", "READONLY"}[round%2], "OK") // the primary and the replica by turns
		page := strings.Trim(c.do("SCAN "+cursor+" COUNT 20"), "[]")
		words := strings.Fields(strings.ReplaceAll(page, "[", ""))
		for _, k := range words[1:] {
			seen[k] = true
		}
		if cursor = words[0]; cursor == "0" {
			break
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d of 300 keys", len(seen))
	}
	h.change(func(s *proxy.Settings) { s.ForeignCursors = true })
	eventually(t, "SCAN is the primary's", func() bool { return h.nodes["ams"].gateway.Explain("SCAN", "0").Node == "mad" })
}

func waitForReplicas(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("SET k v", "OK")
	c.want("WAIT 1 5000", "1")
	began := time.Now()
	c.want("WAIT 2 100", "1")
	if d := time.Since(began); d < 100*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
}

func readYourWrites(t *testing.T, h *house) {
	for _, node := range []string{"ams", "iad"} {
		w, r := h.connect(node), h.connect(node)
		for i := range 10 {
			v := fmt.Sprint(i)
			w.want("SET k "+v, "OK")
			r.want("GET k", v)
		}
	}
}

func monotonic(t *testing.T, h *house) {
	w, a, b := h.connect("mad"), h.connect("ams"), h.connect("ams")
	last := 0
	for range 30 {
		w.do("INCR n")
		for _, c := range []*client{a, b} {
			var n int
			if fmt.Sscan(c.do("GET n"), &n); n < last {
				t.Fatalf("%d after %d", n, last)
			}
			last = max(last, n)
		}
	}
	a.want("INCR n", "31")
	b.want("GET n", "31")
}

func order(t *testing.T, h *house) {
	c := h.connect("ams")
	var lines, want []string
	for i := range 50 {
		v := fmt.Sprint(i)
		lines = append(lines, "SET k "+v, "GET k", "PING "+v, "INCR n", "GET other", "ECHO "+v)
		want = append(want, "OK", v, v, fmt.Sprint(i+1), "nil", v)
	}
	c.send(lines...)
	c.wants(want...)
}

func staleness(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("SET k v", "OK")
	c.want("GET k", "v")
	h.change(func(s *proxy.Settings) { s.MaxLag = 300 * time.Millisecond })
	h.reach("mad", false)
	g := h.nodes["ams"].gateway
	eventually(t, "the copy is too old", func() bool { return g.Status().Reason != "the local replica is usable" })
	c.begins("GET k", "-MASTERDOWN") // max_lag says: rather nothing than that
	c.want("READONLY", "OK")
	c.want("GET k", "v") // whoever takes any copy gets it
	c.want("RESET", "RESET")
	h.reach("mad", true)
	eventually(t, "it has caught up", func() bool { return c.do("SET k w") == "OK" })
	c.want("GET k", "w")
}

func ttl(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("SET k v PX 80", "OK")
	c.want("GET k", "v")
	eventually(t, "it has expired", func() bool { return c.do("GET k") == "nil" })
	c.want("TTL k", "-2")
	c.want("EXISTS k", "0")
}

func eviction(t *testing.T, _ *house) {
	text, err := os.ReadFile("../../proxy/DESIGN.md")
	if err != nil || !strings.Contains(string(text), "don't refresh the primary's LRU") {
		t.Error("proxy/DESIGN.md doesn't say it", err)
	}
}

func transactions(t *testing.T, h *house) {
	c, other := h.connect("ams"), h.connect("ams")
	c.want("SET warm 1", "OK")
	began := time.Now()
	c.want("MULTI", "OK")
	for i := range 10 {
		c.want(fmt.Sprint("SET k", i, " v"), "QUEUED")
	}
	c.want("EXEC", "[OK OK OK OK OK OK OK OK OK OK]")
	if d := time.Since(began); d >= 2*rtt {
		t.Errorf("12 commands took %v: more than one round trip", d)
	}
	c.want("GET k9", "v")
	c.want("WATCH k0", "OK")
	other.want("SET k0 w", "OK")
	c.want("MULTI", "OK")
	c.want("SET k0 x", "QUEUED")
	c.want("EXEC", "nil")
	c.want("GET k0", "w")
	c.want("WATCH k0", "OK")
	h.reach("mad", false)
	h.reach("mad", true)
	c.want("MULTI", "OK")
	c.want("SET k0 y", "QUEUED")
	if got := c.do("EXEC"); !strings.HasPrefix(got, "-EXECABORT") && !strings.HasPrefix(got, "-MASTERDOWN") {
		t.Error("what was watched was lost, and EXEC says", got)
	}
	c.want("GET k0", "w")
}

func blocking(t *testing.T, h *house) {
	c, w := h.connect("ams"), h.connect("ams")
	c.send("BLPOP l 0")
	w.want("SET other 1", "OK") // nobody else waits
	w.want("RPUSH l v", "1")
	c.wants("[l v]")
	if x := h.nodes["ams"].gateway.Explain("XREAD", "BLOCK", "0", "STREAMS", "s", "$"); x.Route != "local" {
		t.Errorf("XREAD BLOCK: %+v", x)
	}
	c.send("XREAD BLOCK 0 STREAMS s 0")
	w.want("XADD s 1-1 f v", "1-1")
	c.wants("[[s [[1-1 [f v]]]]]")
	w.want("XGROUP CREATE s g 0", "OK")
	c.want("XREADGROUP GROUP g me BLOCK 0 STREAMS s >", "[[s [[1-1 [f v]]]]]")
	w.want("XACK s g 1-1", "1")

	gone := h.connect("ams")
	gone.send("BLPOP l 0")
	eventually(t, "it waits at the primary", func() bool { return strings.Contains(w.do("CLIENT LIST"), " flags=b ") })
	gone.conn.Close()
	eventually(t, "it has left", func() bool { return !strings.Contains(w.do("CLIENT LIST"), " flags=b ") })
	<-time.After(2 * rtt) // the news travels
	w.want("RPUSH l kept", "1")
	w.want("LPOP l", "kept")
}

func cancelled(t *testing.T, h *house) {
	h.connect("mad").want("SET k right", "OK")
	for range 10 {
		c := h.connect("ams")
		c.send("INCR n", "BLPOP nothing 0", "GET n")
		c.conn.Close()
	}
	c := h.connect("ams")
	for range 5 {
		c.send("READWRITE", "GET k", "BLPOP nothing 0.01", "WATCH k", "MULTI", "GET k", "EXEC")
		c.wants("OK", "right", "nil", "OK", "OK", "QUEUED", "[right]")
	}
}

func atMostOnce(t *testing.T, h *house) {
	c := h.connect("ams")
	ok, unknown := 0, 0
	for round := range 6 {
		c.send(strings.Split(strings.Repeat("INCR n,", 20)[:20*7-1], ",")...)
		if round%2 == 1 {
			h.reach("mad", false)
			h.reach("mad", true)
		}
		for range 20 {
			switch got := c.recv(); {
			case strings.HasPrefix(got, "-UNKNOWNOUTCOME"):
				unknown++
			case strings.HasPrefix(got, "-MASTERDOWN"):
			default:
				ok++
			}
		}
		eventually(t, "the primary is back", func() bool { return c.do("SET up 1") == "OK" })
	}
	var n int
	fmt.Sscan(h.connect("mad").do("GET n"), &n)
	if n < ok || n > ok+unknown {
		t.Errorf("%d executed, %d acknowledged, %d unknown", n, ok, unknown)
	}
}

func errorsPassOn(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("SET s x", "OK")
	c.begins("LPUSH s x", "-WRONGTYPE")
	c.begins("LRANGE s 0 1", "-WRONGTYPE")
	c.begins("INCR s", "-ERR value is not an integer")
	c.begins("NO.SUCH", "-ERR unknown command")
	h.reach("ams", false) // iad's replica
	far := h.connect("iad")
	far.want("GET s", "x")
}

func hello(t *testing.T, h *house) {
	two, three := h.connect("ams"), h.connect("ams")
	two.begins("HELLO", "[server redis version 7.0.15 proto 2 id")
	two.want("HELLO 4", "-NOPROTO unsupported protocol version")
	three.begins("HELLO 3 SETNAME me", "%[server redis version 7.0.15 proto 3 id")
	three.want("CLIENT GETNAME", "me")
	two.want("HSET m f v", "1")
	for range 3 {
		two.want("HGETALL m", "[f v]")
		three.want("HGETALL m", "%[f v]")
		two.want("CONFIG GET maxmemory-policy", "[maxmemory-policy noeviction]") // the primary's
		three.want("CONFIG GET maxmemory-policy", "%[maxmemory-policy noeviction]")
	}
}

func sessionState(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("CLIENT SETNAME me", "OK")
	c.want("SELECT 3", "OK")
	c.want("SET k three", "OK")
	c.want("GET k", "three")
	c.want("CLIENT GETNAME", "me")
	c.want("CLIENT NO-TOUCH ON", "OK")
	c.want("CLIENT SETINFO lib-name x", "OK")
	c.want("SELECT 99", "-ERR DB index is out of range")
	c.send("CLIENT REPLY SKIP", "SET k x", "CLIENT REPLY OFF", "SET k y", "GET k", "CLIENT REPLY ON", "GET k")
	c.wants("OK", "y")
	c.want("SELECT 0", "OK")
	c.want("GET k", "nil")
	m := h.connect("ams")
	m.want("MONITOR", "OK")
	c.want("GET k", "nil")
	if got := m.recv(); !strings.HasSuffix(got, `"GET" "k"`) {
		t.Error(got)
	}
}

func trackingRule(t *testing.T, h *house) {
	w := h.connect("mad")
	for _, node := range []string{"ams", "iad"} {
		c := h.connect(node)
		c.begins("HELLO 3", "%[server")
		c.want("CLIENT TRACKING ON", "OK")
		c.do("GET k")
		w.want("SET k "+node, "OK")
		c.wants(">[invalidate [k]]")
		c.want("GET k", node)
	}
}

func users(t *testing.T, h *house) {
	h.change(func(s *proxy.Settings) {
		s.PasswordHash = proxy.HashPassword("pw")
		s.Users = []proxy.User{{Name: "app", PasswordHash: proxy.HashPassword("a"), Rules: "~app:* +@all -@dangerous"}}
	})
	g := h.nodes["ams"].gateway
	eventually(t, "settings are known", func() bool { return g.Status().Revision == 2 })
	c := h.connect("ams")
	c.want("GET k", "-NOAUTH Authentication required.")
	c.want("AUTH app a", "OK")
	c.want("SET app:k v", "OK")
	c.begins("SET k v", "-NOPERM")
	c.begins("CONFIG SET maxmemory 1", "-NOPERM")
	c.begins("ACL SETUSER x on", "-NOPERM")
}

func limitsBeforeAuth(t *testing.T, h *house) {
	h.change(func(s *proxy.Settings) { s.PasswordHash = proxy.HashPassword("pw") })
	eventually(t, "settings are known", func() bool { return h.nodes["ams"].gateway.Status().Revision == 2 })
	for in, want := range map[string]string{
		"*11\r\n":                "-ERR Protocol error: unauthenticated multibulk length",
		"*1\r\n$16385\r\n":       "-ERR Protocol error: unauthenticated bulk length",
		"*1\r\n$99999999999\r\n": "-ERR Protocol error: invalid bulk length",
	} {
		c := h.connect("ams")
		c.conn.Write([]byte(in))
		c.wants(want)
		c.closed()
	}
}

func slowClient(t *testing.T, h *house) {
	w := h.connect("mad")
	w.want("SET big "+strings.Repeat("x", 4<<20), "OK")
	w.want("SET small v", "OK")
	w.want("WAIT 1 5000", "1")
	for _, node := range []string{"ams", "iad"} {
		slow, quick := h.connect(node), h.connect(node)
		slow.send("GET big", "GET big", "GET big", "GET big")
		for range 5 {
			quick.want("GET small", "v")
		}
	}
}

func keyspaceNotifications(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("PSUBSCRIBE __keyevent@0__:*", "[psubscribe __keyevent@0__:* 1]")
	h.connect("ams").want("SET k v", "OK")
	c.want("PING", "[pong ]") // they are off, and each node's own
}

func inline(t *testing.T, h *house) {
	c := h.connect("ams")
	io.WriteString(c.conn, "SET k \"a b\"\r\nGET k\r\n\r\nPING\r\n")
	c.wants("OK", "a b", "PONG")
}

func nearest(t *testing.T, h *house) {
	c := h.connect("iad")
	c.want("SET k v", "OK")
	c.want("GET k", "v")
	g := h.nodes["iad"].gateway
	if from := g.Status().ReadsFrom; from != "ams" {
		t.Error("reads come from", from)
	}
	h.reach("ams", false)
	c.want("GET k", "v") // at once, from mad
	eventually(t, "mad serves reads", func() bool { return g.Status().ReadsFrom == "mad" })
	h.reach("ams", true)
	eventually(t, "ams is back", func() bool { return g.Status().ReadsFrom == "ams" })
	c.want("GET k", "v")
}

func silentPath(t *testing.T, h *house) {
	c := h.connect("ams")
	c.want("SET k v", "OK")
	c.want("WAIT 1 5000", "1")
	c.send("BLPOP l 0")
	h.reach("mad", false)
	if got := c.recv(); !strings.HasPrefix(got, "-UNKNOWNOUTCOME") && !strings.HasPrefix(got, "-MASTERDOWN") {
		t.Error(got)
	}
	eventually(t, "loss seen", func() bool { return !h.nodes["ams"].gateway.Status().PrimaryReachable })
	c.begins("SET k w", "-MASTERDOWN primary region mad is unreachable; the command was not executed")
	c.want("GET k", "v")
	conn, err := net.Dial("tcp", h.nodes["ams"].addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func administration(t *testing.T, h *house) {
	c := h.connect("ams")
	for _, line := range []string{"REPLICAOF a 1", "SLAVEOF NO ONE", "FAILOVER", "SHUTDOWN", "DEBUG SLEEP 0", "SYNC", "PSYNC ? -1", "CONFIG SET save x",
		"CONFIG REWRITE", "MODULE LOAD x", "ACL SETUSER x", "MIGRATE a 1 k 0 1", "CLUSTER RESET", "REPLCONF x y"} {
		c.begins(line, "-NOPERM this user has no permissions to run the '")
	}
	for _, line := range []string{"BGSAVE", "SAVE", "BGREWRITEAOF"} { // the store's own; this one keeps nothing on a disk
		c.begins(line, "-ERR unknown command '"+line+"'")
	}
	c.want("PING", "PONG")
}
