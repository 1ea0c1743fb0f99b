package e2e

import (
	"fmt"
	"testing"
	"time"
)

func TestBlockingPopAcrossRegions(t *testing.T) {
	p := world(t)
	q := key(t, "q")
	consumer, producer := connect(t, p.Region("nrt")), connect(t, p.Region("ams"))

	t.Run("waits for a push elsewhere", func(t *testing.T) {
		if err := consumer.write([]string{"BLPOP", q, "10"}); err != nil {
			t.Fatal(err)
		}
		producer.want("1", "RPUSH", q, "job")
		consumer.expect(fmt.Sprintf("[%q \"job\"]", q))
		consumer.want("0", "LLEN", q)
	})
	t.Run("takes what is there", func(t *testing.T) {
		producer.want("2", "RPUSH", q, "a", "b")
		consumer.want(fmt.Sprintf("[%q \"a\"]", q), "BLPOP", q, "10")
		consumer.want(fmt.Sprintf("[%q \"b\"]", q), "BRPOP", q, "10")
	})
	t.Run("times out", func(t *testing.T) {
		begin := time.Now()
		consumer.want("nil", "BLPOP", q, "0.3")
		if took, limit := time.Since(begin), 300*time.Millisecond+p.Region("nrt").RoundTrip()+slower(400*time.Millisecond); took < 300*time.Millisecond || took > limit {
			t.Errorf("a wait of 0.3 s ends after %v", took)
		}
		consumer.want("PONG", "PING")
	})
	t.Run("other sessions go on meanwhile", func(t *testing.T) {
		if err := consumer.write([]string{"BLPOP", q, "10"}); err != nil {
			t.Fatal(err)
		}
		other := connect(t, p.Region("nrt"))
		other.want("OK", "SET", key(t, "k"), "v")
		other.want(`"v"`, "GET", key(t, "k"))
		other.want("1", "RPUSH", q, "x")
		consumer.expect(fmt.Sprintf("[%q \"x\"]", q))
	})
	t.Run("a client that left takes nothing", func(t *testing.T) {
		gone := connect(t, p.Region("nrt"))
		if err := gone.write([]string{"BLPOP", q, "0"}); err != nil {
			t.Fatal(err)
		}
		// Its command has reached the primary when a later one of another session has been there and back.
		other := connect(t, p.Region("nrt"))
		other.want("OK", "SET", key(t, "k"), "1")
		gone.close()
		other.want("OK", "SET", key(t, "k"), "2")
		other.want("OK", "SET", key(t, "k"), "3")
		producer.want("1", "RPUSH", q, "kept")
		consumer.want(fmt.Sprintf("[%q \"kept\"]", q), "BLPOP", q, "5")
	})
}

func TestSubscribersHearPublishersOfOtherRegions(t *testing.T) {
	p := world(t)
	channel := key(t, "c")
	sub, pub := connect(t, p.Region("nrt")), connect(t, p.Region("ams"))
	if err := sub.write([]string{"SUBSCRIBE", channel, channel + "2"}); err != nil {
		t.Fatal(err)
	}
	sub.expect(fmt.Sprintf("[\"subscribe\" %q 1]", channel))
	sub.expect(fmt.Sprintf("[\"subscribe\" %q 2]", channel+"2"))
	for i := range 20 {
		if v := pub.do("PUBLISH", channel, fmt.Sprint(i)); show(v)[0] == '-' {
			t.Fatal(show(v))
		}
	}
	for i := range 20 {
		sub.expect(fmt.Sprintf("[\"message\" %q \"%d\"]", channel, i))
	}
	// Publishing in the subscriber's own region and in the primary's arrives once, too.
	for i, region := range []string{"nrt", "mad"} {
		connect(t, p.Region(region)).do("PUBLISH", channel+"2", region)
		sub.expect(fmt.Sprintf("[\"message\" %q %q]", channel+"2", []string{"nrt", "mad"}[i]))
	}
	sub.want("[\"pong\" \"\"]", "PING")
	sub.want("-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", "GET", "k")

	pattern := connect(t, p.Region("mad"))
	if err := pattern.write([]string{"PSUBSCRIBE", channel + "*"}); err != nil {
		t.Fatal(err)
	}
	pattern.expect(fmt.Sprintf("[\"psubscribe\" %q 1]", channel+"*"))
	connect(t, p.Region("nrt")).do("PUBLISH", channel+"x", "hello")
	pattern.expect(fmt.Sprintf("[\"pmessage\" %q %q \"hello\"]", channel+"*", channel+"x"))

	if err := sub.write([]string{"UNSUBSCRIBE", channel, channel + "2"}); err != nil {
		t.Fatal(err)
	}
	sub.expect(fmt.Sprintf("[\"unsubscribe\" %q 1]", channel))
	sub.expect(fmt.Sprintf("[\"unsubscribe\" %q 0]", channel+"2"))
	sub.want("OK", "SET", key(t, "k"), "an ordinary connection again")
	sub.want(`"an ordinary connection again"`, "GET", key(t, "k"))
}

func TestSessionCommands(t *testing.T) {
	p := world(t)
	for _, r := range p.Regions {
		c := connect(t, r)
		c.want("PONG", "PING")
		c.want("nil", "CLIENT", "GETNAME")
		c.want("OK", "CLIENT", "SETNAME", "app")
		c.want(`"app"`, "CLIENT", "GETNAME")
		c.want("OK", "SELECT", "1")
		c.want("OK", "SET", key(t, r.Code), "one")
		c.want(`"one"`, "GET", key(t, r.Code))
		c.want("OK", "SELECT", "0")
		c.want("nil", "GET", key(t, r.Code))
		c.want("-ERR DB index is out of range", "SELECT", "16")
		c.want("OK", "READONLY")
		c.want("OK", "READWRITE")
		c.want("-ERR unknown command 'NOSUCH', with args beginning with: 'a' ", "NOSUCH", "a")
		c.want("-NOPROTO unsupported protocol version", "HELLO", "4")
		if got := show(c.do("REPLICAOF", "127.0.0.1", "1")); got[:7] != "-NOPERM" {
			t.Errorf("%s: REPLICAOF answers %s", r.Code, got)
		}
		c.want("RESET", "RESET")
		c.want("nil", "CLIENT", "GETNAME")
		c.want("OK", "QUIT")
		if err := c.closed(); err != nil {
			t.Errorf("%s: after QUIT: %v", r.Code, err)
		}
		inline := connect(t, r)
		_, err := inline.conn.Write([]byte("SET " + key(t, "inline") + " 'a b'\r\nGET " + key(t, "inline") + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		inline.expect("OK")
		inline.expect(`"a b"`)
	}
}
