package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/rdb"
)

func TestStreamGroups(t *testing.T) {
	var lines []string
	for i := range 12 {
		lines = append(lines, fmt.Sprintf("xadd s %d-1 f v%d", i+1, i))
	}
	vectors(t, append(lines,
		"xread streams s 0", "xread count 2 streams s 5", "xread count -1 streams s 11", "xread streams s 12-1", "xread streams s $", "xread streams nokey 0", "xread streams nokey s 0 10", "xread count 1 streams s s 3 4", "xread streams s", "xread streams s nokey 0", "xread count x streams s 0", "xread block x streams s 0", "xread block -1 streams s 0", "xread block 1.5 streams s 0", "xread block 5 streams s $", "xread block 1 streams nokey $", "xread count 0 streams s 11",
		"xread group g c streams s 0", "xread noack streams s 0", "xread streams s >", "xread streams s -", "xread streams s +", "xread streams s x", "xread count 5 foo streams s 0", "xread foo", "xread count 5", "xread streams streams s 0",
		"xgroup create s g 3", "xgroup create s g 3", "xgroup create nokey g $", "xgroup create nokey g $ mkstream", "xinfo stream nokey", "xgroup create nokey g $ mkstream", "xgroup create s h $ entriesread 5", "xgroup create s i 0 entriesread -1", "xgroup create s j 0 entriesread -2", "xgroup create s j 0 entriesread x", "xgroup create s j x", "xgroup create s j - ", "xgroup create s j 0 foo", "xgroup create s j 0 mkstream mkstream mkstream mkstream", "xgroup create s j 0 entriesread", "xinfo groups s", "xinfo groups nokey", "xinfo groups none",
		"xgroup setid s g 2", "xgroup setid s g $ entriesread 12", "xgroup setid s g -", "xgroup setid s g + entriesread 4", "xgroup setid s g 3 mkstream", "xgroup setid s nog 3", "xgroup setid none g 3", "xgroup setid s g x", "xgroup setid s g 3", "xgroup setid s g 3 entriesread 1 entriesread 2", "xinfo groups s",
		"xgroup createconsumer s g c1", "xgroup createconsumer s g c1", "xgroup createconsumer s nog c1", "xgroup createconsumer none g c1", "xgroup delconsumer s g nobody", "xgroup delconsumer s nog c", "xgroup destroy s nog", "xgroup destroy none g", "xgroup foo s g", "xgroup create s", "xgroup destroy s g g",
		"xreadgroup group g c1 count 3 streams s >", "xreadgroup group g c2 count 2 streams s >", "xreadgroup group g c1 streams s 0", "xreadgroup group g c1 count 1 streams s 5", "xreadgroup group g c3 streams s 0", "xinfo groups s", "? xinfo consumers s g", "? xinfo stream s full", "xpending s g", "? xpending s g - + 10", "xpending s g - + 0", "xpending s g - + x", "xpending s g x + 1", "xpending s g - + -1",
		"xpending s nog", "xpending none g", "xpending s g - + 10 nobody", "xpending s g -", "xpending s g - +", "xpending s g idle 5", "xpending s g idle x - + 1", "xpending s g idle 5 - +", "xpending s g idle 100000 - + 10", "xpending s g idle 100000 - + 10 c1", "xpending s g a b c d e f g", "? xpending s g (4-1 + 10 c1", "xpending s g (18446744073709551615-18446744073709551615 + 1",
		"xreadgroup group g c1 streams s $", "xreadgroup group nog c1 streams s >", "xreadgroup group g c1 streams none >", "xreadgroup streams s > group g c", "xreadgroup count 1 block 1 noack streams s >", "xreadgroup group g c1 streams s", "xreadgroup group g c1 streams s - ", "xreadgroup group g c1 block 0 streams s 0",
		"xack s g 4-1 4-1 5", "xack s g x 5-1", "xack s nog 5-1", "xack none g 5-1", "xack s g 999", "xpending s g",
		"xclaim s g c2 0 5-1", "xclaim s g c2 0 5-1 6-1 999 justid", "xclaim s g c4 100000 7-1", "xclaim s g c4 0 1-1", "xclaim s g c4 0 1-1 force", "xclaim s g c4 0 2 2-1 force justid retrycount 7 idle 5000", "xclaim s g c4 0 2-1 time 1000 lastid 9", "xclaim s g c4 x 1-1", "xclaim s g c4 -5 1-1 idle x", "xclaim s g c4 0 1-1 time x", "xclaim s g c4 0 1-1 retrycount x", "xclaim s g c4 0 1-1 lastid x", "xclaim s g c4 0 1-1 foo", "xclaim s g c4 0 foo", "xclaim s nog c4 0 1-1", "xclaim none g c4 0 1-1", "xclaim s g c5 0 999 force", "xinfo groups s",
		"xdel s 5-1 2-1", "xreadgroup group g c2 streams s 0", "xclaim s g c2 0 5-1", "xpending s g", "xautoclaim s g c6 0 0 count 2", "xautoclaim s g c6 0 (6-1 justid", "xautoclaim s g c6 100000 0", "xautoclaim s g c6 0 - count 100", "xautoclaim s g c6 0 0 count 0", "xautoclaim s g c6 0 0 count x", "xautoclaim s g c6 x 0", "xautoclaim s g c6 0 x", "xautoclaim s g c6 0 0 foo", "xautoclaim s nog c6 0 0", "xautoclaim none g c6 0 0", "xautoclaim s g c6 0 0 count 9223372036854775807", "xautoclaim s g c6 0 + count 1", "xpending s g",
		"xreadgroup group g c7 noack count 1 streams s >", "xpending s g", "xinfo groups s", "xreadgroup group g c7 streams s >", "xreadgroup group g c7 streams s >", "xinfo groups s", "xgroup delconsumer s g c7", "xpending s g", "xgroup destroy s g", "xpending s g", "xinfo groups s", "xinfo consumers s g", "xinfo consumers s",
		"copy s t", "xinfo groups t", "multi", "xread block 0 streams s $", "xreadgroup group h c block 0 streams s >", "exec", "set str 1", "xack str g 1", "xpending str g", "xclaim str g c 0 1", "xautoclaim str g c 0 0", "xgroup create str g 0", "xreadgroup group g c streams str >", "xreadgroup group h c streams s str > >", "xgroup destroy str g")...)
}

// Lag and entries read follow Redis's estimates through trims, deletions and resets.
func TestStreamLag(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	lines := []string{"xgroup create s a 0 mkstream", "xgroup create s b $", "xinfo groups s"}
	for i := range 500 {
		id := 1 + rng.IntN(i+2)
		g := "ab"[rng.IntN(2):][:1]
		line := []string{
			fmt.Sprintf("xadd s %d-* f v", 1+i), fmt.Sprintf("xadd s %d-* f v", 1+i), fmt.Sprintf("xadd s %d-* f v", 1+i), fmt.Sprintf("xdel s %d-0", id), fmt.Sprintf("xreadgroup group %s c count 3 streams s >", g), fmt.Sprintf("xreadgroup group %s d count 1 noack streams s >", g),
			fmt.Sprintf("xgroup setid s %s %d", g, id), fmt.Sprintf("xgroup setid s %s $", g), fmt.Sprintf("xtrim s maxlen %d", rng.IntN(40)), fmt.Sprintf("xack s %s %d-0", g, id), fmt.Sprintf("xautoclaim s %s e 0 %d count 3", g, id), fmt.Sprintf("xclaim s %s e 0 %d-0 force", g, id),
		}[rng.IntN(12)]
		lines = append(lines, line, "xinfo groups s", "xinfo stream s", "xpending s "+g)
	}
	vectors(t, lines...)
}

var streamTimes = regexp.MustCompile(`\b\d{13}\b`)

// What XREADGROUP and the claims did is propagated as Redis does, but for the times.
func TestStreamGroupPropagation(t *testing.T) {
	replica := dialReal(t)
	replica.follow(t)
	real := dialReal(t)
	rec := &recorder{}
	e := newEngine(t, Options{Sink: rec})
	c := newConn(e)
	const end = "end-of-test"
	for _, line := range []string{"flushall", "xadd s 1-1 a b", "xadd s 2-1 a b", "xadd s 3-1 a b", "xadd s 4-1 a b", "xgroup create s g 0",
		"xreadgroup group g c count 1 streams s >", "xreadgroup group g c count 2 streams s >", "xclaim s g d 0 1 2-1", "xclaim s g d 0 1-1 justid retrycount 9", "xclaim s g d 0 4-1 force", "xclaim s g d 0 99 lastid 50", "xclaim s g d 0 99 lastid 40", "xdel s 2-1", "xclaim s g f 0 2-1 lastid 60",
		"xautoclaim s g e 0 0 count 2", "xdel s 1-1", "xautoclaim s g e 0 0 justid", "xautoclaim s g e 99999 0", "xack s g 3-1 4-1", "xack s g 3-1", "xadd s 100-1 a b", "multi", "xreadgroup group g c streams s >", "xadd s 101-1 a b", "xreadgroup group g n noack streams s >", "exec", "xreadgroup group g n streams s 0",
		"publish " + end + " x"} {
		want, got := real.do(t, words(t, line)), run(t, c, line)
		if string(want) != got {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	times := func(s []string) string { return streamTimes.ReplaceAllString(strings.Join(s, "\n"), "TIME") }
	want := times(replica.effects(t, end))
	if got := times(effectsIn(t, frame.NewReader(bytes.NewReader(rec.Bytes())), end)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A stream goes to the real server and back, by DUMP and by snapshot, with everything that belongs to it.
func TestStreamDump(t *testing.T) {
	real := dialReal(t)
	real.do(t, words(t, "flushall"))
	e := newEngine(t, Options{})
	c := newConn(e)
	both := func(line string) {
		t.Helper()
		if want, got := real.do(t, words(t, line)), run(t, c, line); string(want) != got && line[1] != 'c' {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	for i := range 350 {
		both(fmt.Sprintf("xadd s %d-%d f%d %d g %s", i+1, i%2, i%40/20, i, strings.Repeat("v", i%30)))
	}
	for _, line := range []string{"xdel s 5-0 6-1 340-1", "xtrim s maxlen 330", "xgroup create s g 0", "xgroup create s h 50", "xgroup createconsumer s h idle", "xreadgroup group g a count 200 streams s >", "xreadgroup group g b count 50 streams s >", "xreadgroup group h c count 5 streams s >", "xadd empty 5-1 a b", "xdel empty 5-1"} {
		both(line)
	}
	do := func(args ...string) []byte {
		var raw [][]byte
		for _, a := range args {
			raw = append(raw, []byte(a))
		}
		return c.Do(context.Background(), nil, []command.Request{request(raw...)})
	}
	payload := func(reply []byte) []byte { return frame.Reply{Raw: reply}.Text() }
	for _, key := range []string{"s", "empty"} {
		theirs := bytes.Clone(payload(real.do(t, words(t, "dump "+key))))
		ours := bytes.Clone(payload(do("dump", key)))
		if got := do("restore", key+"2", "0", string(theirs)); string(got) != "+OK\r\n" {
			t.Fatalf("their dump: %q", got)
		}
		if got := real.do(t, [][]byte{[]byte("restore"), []byte(key + "2"), []byte("0"), ours}); string(got) != "+OK\r\n" {
			t.Fatalf("our dump: %q", got)
		}
	}
	// Now each has a stream made there and one from the other side.
	var snap bytes.Buffer
	if err := e.Snapshot(&snap, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Restore(&snap); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"s", "s2", "empty", "empty2"} {
		for _, line := range []string{"xinfo stream " + key, "xrange " + key + " - +", "xrevrange " + key + " + -", "xinfo groups " + key} {
			both(line)
		}
	}
	for _, key := range []string{"s", "s2"} {
		for _, line := range []string{"xpending " + key + " g", "xpending " + key + " h", "xreadgroup group g b streams " + key + " 0", "xack " + key + " g 100-1 210-1", "xreadgroup group h idle count 3 streams " + key + " >", "xgroup delconsumer " + key + " g a", "xadd " + key + " 1000 f0 1 g 2", "xautoclaim " + key + " g z 0 0 count 10", "xinfo stream " + key} {
			both(line)
		}
	}
	// The times too: what one side dumps of the other's stream is what it got.
	a, b := run(t, c, "xinfo stream s full count 0"), run(t, c, "xinfo stream s full count 0")
	if a != b {
		t.Error("XINFO changes the stream")
	}
	if err := audit(e); err != nil {
		t.Error(err)
	}
}

// A stream that a server before 7.0 dumped gets the counters that 7.0 gives it.
func TestStreamOfOldServer(t *testing.T) {
	id := func(n byte) string { return string([]byte{0, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0}) }
	pack := "\x02\x01\x00\x01\x01\x01\x81f\x02\x00\x01" + "\x02\x01\x00\x01\x00\x01\x81v\x02\x04\x01" + "\x02\x01\x03\x01\x00\x01\x81w\x02\x04\x01"
	pack = string([]byte{byte(len(pack) + 7), 0, 0, 0, 15, 0}) + pack + "\xff"
	group := func(name string, last byte) string { return "\x01" + name + string([]byte{last}) + "\x00\x00\x00" }
	payload := []byte("\x0f\x01\x10" + id(5) + string([]byte{byte(len(pack))}) + pack + "\x02\x08\x00\x04" +
		group("a", 0) + group("b", 5) + group("c", 8) + group("d", 9))
	payload = append(payload, 9, 0)
	payload = binary.LittleEndian.AppendUint64(payload, rdb.CRC64(0, payload))
	line := fmt.Sprintf("restore s 0 %q", payload)
	vectors(t, line, "xinfo stream s", "xinfo stream s full", "xinfo groups s", "xadd s 9 f x", "xinfo stream s", "xinfo groups s")
}

// On a replica, XREAD waits for what the primary sends.
func TestReadBlockedOnReplica(t *testing.T) {
	e := newEngine(t, Options{Replica: true})
	out := blockedProto(t, e, "hello 2", "xread block 0 streams a b $ $")
	for _, line := range []string{"select 0", "xadd other 1-1 f v", "multi", "xadd b 1-1 f v", "xadd b 1-2 f v", "exec"} {
		if err := e.Apply([]command.Request{request(words(t, line)...)}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := <-out, "*1\r\n*2\r\n$1\r\nb\r\n*2\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n*2\r\n$3\r\n1-2\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"; got != want {
		t.Errorf("got %q", got)
	}
}

// A damaged payload with a good checksum is refused or makes a stream that can be worked with.
func TestDamagedStreamPayload(t *testing.T) {
	e := newEngine(t, Options{})
	c := newConn(e)
	for i := range 8 {
		run(t, c, fmt.Sprintf("xadd s %d-%d f v%d g%d 1234", i/3+1, i+1, i, i/4))
	}
	for _, line := range []string{"xdel s 1-2", "xgroup create s g 0", "xreadgroup group g a count 3 streams s >", "xreadgroup group g b count 2 streams s >"} {
		run(t, c, line)
	}
	payload := bytes.Clone(frame.Reply{Raw: []byte(run(t, c, "dump s"))}.Text())
	rng := rand.New(rand.NewPCG(2, 2))
	taken := 0
	for i := range 8 * (len(payload) - 10) {
		bad := bytes.Clone(payload[:len(payload)-8])
		bad[i/8] ^= 1 << (i % 8)
		if rng.IntN(2) == 0 {
			bad[rng.IntN(len(bad)-2)] = byte(rng.Uint32())
		}
		bad = binary.LittleEndian.AppendUint64(bad, rdb.CRC64(0, bad))
		if run(t, c, fmt.Sprintf("restore d 0 %q replace", bad)) != "+OK\r\n" || run(t, c, "type d") != "+stream\r\n" {
			continue
		}
		taken++
		for _, line := range []string{"xrange d - +", "xrevrange d + -", "xinfo stream d full", "xadd d * f v", "xdel d 1-1 2-4 3-8", "xread streams d 0", "xreadgroup group g a streams d >", "xreadgroup group g b streams d 0", "xclaim d g a 0 1-1 2-5", "xautoclaim d g b 0 0", "xack d g 1-3 2-4", "copy d e replace", "dump d", "xtrim d maxlen 3", "xtrim d minid 2", "xgroup delconsumer d g a", "xtrim d maxlen ~ 0", "xinfo groups d"} {
			run(t, c, line)
		}
	}
	t.Logf("%d of %d taken", taken, 8*(len(payload)-10))
	if err := audit(e); err != nil {
		t.Error(err)
	}
}
