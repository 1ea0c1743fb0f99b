package hosts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"respmesh/test/dev"
)

// times is how often a soak test does what it does: a few times, or as often as the environment says.
func times(t *testing.T, variable string, few int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q isn't a number of times", variable, text)
	}
	return n
}

// ledger is what one client was told about its writes. The i-th round sends RPUSH log:<name> <i>, SET once:<name>:<i> and
// INCR count:<name>.
type ledger struct {
	name string
	node *Node

	mu       sync.Mutex
	rounds   int
	pushed   map[int]outcome // by round; those that were acknowledged aren't in it, as they are the most
	set      map[int]outcome
	counted  [3]int // rounds of INCR, by outcome
	refusals map[string]int
	stale    []staleRead
	lastAck  time.Time
	gap      time.Duration // the longest time without an acknowledged write
}

// staleRead is one that didn't see the write acknowledged before it through the same node.
type staleRead struct {
	at   time.Time
	what string
}

type outcome int8

const (
	acked   outcome = iota
	refused         // not executed, as the reply says
	unknown         // executed or not: UNKNOWNOUTCOME, or the connection was lost
)

func (l *ledger) judge(err error) outcome {
	if err == nil {
		now := time.Now()
		if !l.lastAck.IsZero() {
			l.gap = max(l.gap, now.Sub(l.lastAck))
		}
		l.lastAck = now
		return acked
	}
	var reply dev.Reply
	if !errors.As(err, &reply) || strings.HasPrefix(string(reply), "UNKNOWNOUTCOME") {
		return unknown
	}
	code, _, _ := strings.Cut(string(reply), " ")
	l.refusals[code]++
	return refused
}

// write goes on until stop is closed.
func (l *ledger) write(t *testing.T, m *Mesh, password string, stop <-chan struct{}) {
	var c, reader *Client
	defer func() {
		for _, c := range []*Client{c, reader} {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(rand.N(20 * time.Millisecond)):
		}
		for c == nil || reader == nil {
			var err error
			if c, err = m.Dial(t.Context(), l.node, "shop", "cart", password); err == nil {
				if reader, err = m.Dial(t.Context(), l.node, "shop", "cart", password); err != nil {
					c.Close()
				}
			}
			if err == nil {
				break
			}
			c, reader = nil, nil
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
		once := fmt.Sprintf("once:%s:%d", l.name, i)
		_, err1 := c.Do("RPUSH", "log:"+l.name, strconv.Itoa(i))
		_, err2 := c.Do("SET", once, strconv.Itoa(i))
		_, err3 := c.Do("INCR", "count:"+l.name)
		var have string
		var err4 error
		if err2 == nil {
			have, err4 = reader.Do("GET", once)
		}
		l.mu.Lock()
		l.rounds = i + 1
		if o := l.judge(err1); o != acked {
			l.pushed[i] = o
		}
		if o := l.judge(err2); o != acked {
			l.set[i] = o
		}
		l.counted[l.judge(err3)]++
		if err2 == nil && err4 == nil && have != strconv.Itoa(i) {
			l.stale = append(l.stale, staleRead{time.Now(), fmt.Sprintf("%s: GET %s right after its SET: %q", l.node.Name, once, have)})
		}
		l.mu.Unlock()
		for _, err := range []error{err1, err2, err3, err4} {
			var reply dev.Reply
			if err != nil && !errors.As(err, &reply) {
				c.Close()
				reader.Close()
				c, reader = nil, nil
				break
			}
		}
	}
}

// check compares what a copy has with what the client was told.
func (l *ledger) check(c *Client) (wrong []string) {
	say := func(format string, args ...any) {
		if wrong = append(wrong, fmt.Sprintf(l.name+": "+format, args...)); len(wrong) == 10 {
			wrong = append(wrong, "…")
		}
	}
	seen := make([]int, l.rounds)
	last := -1
	const many = 1000
	for from := 0; ; from += many {
		part, err := c.Values("LRANGE", "log:"+l.name, strconv.Itoa(from), strconv.Itoa(from+many-1))
		if err != nil {
			say("LRANGE: %v", err)
			return wrong
		}
		for _, text := range part {
			i, err := strconv.Atoi(text)
			if err != nil || i < 0 || i >= l.rounds {
				say("the log has %q", text)
				continue
			}
			if i <= last {
				say("the log has %d after %d", i, last)
			}
			last = i
			seen[i]++
		}
		if len(part) < many {
			break
		}
	}
	for i, n := range seen {
		o := l.pushed[i]
		if n > 1 || n == 1 && o == refused || n == 0 && o == acked {
			say("RPUSH %d was %v and is there %d times", i, o, n)
		}
	}
	for from := 0; from < l.rounds; from += many {
		ask := []string{"MGET"}
		for i := from; i < min(from+many, l.rounds); i++ {
			ask = append(ask, fmt.Sprintf("once:%s:%d", l.name, i))
		}
		part, err := c.Values(ask...)
		if err != nil || len(part) != len(ask)-1 {
			say("MGET: %d, %v", len(part), err)
			return wrong
		}
		for k, have := range part {
			i := from + k
			o := l.set[i]
			if have != "" && (have != strconv.Itoa(i) || o == refused) || have == "" && o == acked {
				say("SET %d was %v and is %q", i, o, have)
			}
		}
	}
	text, err := c.Do("GET", "count:"+l.name)
	if n, _ := strconv.Atoi(text); err != nil || n < l.counted[acked] || n > l.counted[acked]+l.counted[unknown] {
		say("INCR: %s, %v; acknowledged %d, unknown %d", text, err, l.counted[acked], l.counted[unknown])
	}
	return wrong
}

func (o outcome) String() string { return [...]string{"acknowledged", "refused", "unknown"}[o] }

// TestKills kills the process of the node that leads, again and again, now and then suspends it first, with three nodes in the primary's
// region, min-replicas 1 and clients that write at every node. In the end every copy must have all that was acknowledged, nothing
// twice, and nothing that was refused. RESPMESH_KILLS says how often: 100 with `make soak`.
func TestKills(t *testing.T) {
	kills := times(t, "RESPMESH_KILLS", 3)
	m := newMesh(t, "ams") // carries the control plane, and isn't touched
	for _, name := range []string{"mad-1", "mad-2", "mad-3"} {
		m.join(t, "mad", name)
	}
	m.cli(t, "orgs", "create", "shop")
	password := m.create(t, "shop", "cart", "--region", "mad", "--replica-regions", "ams", "--min-replicas", "1")
	for _, n := range m.Nodes {
		m.dial(t, n, "shop", "cart", password).want(t, "OK", "SET", "k", "v")
		m.awaitUse(t, n, n)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var ledgers []*ledger
	for _, n := range m.Nodes {
		for i := range 2 {
			l := &ledger{name: fmt.Sprintf("%s.%d", n.Name, i), node: n, pushed: map[int]outcome{}, set: map[int]outcome{}, refusals: map[string]int{}}
			ledgers = append(ledgers, l)
			wg.Go(func() { l.write(t, m, password, stop) })
		}
	}
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	c := m.dial(t, m.Nodes[0], "shop", "cart", password)
	var took []time.Duration
	var without [][2]time.Time // when there was no primary
	suspended := 0
	began := time.Now()
	for k := range kills {
		pause(rand.N(time.Second)) // the moment is to be a random one
		leader := m.leader(t)
		at := time.Now()
		lost := at
		if k%4 == 2 { // suspended first, for less or more than its lease
			suspended++
			m.signal(t, leader, syscall.SIGSTOP)
			pause(rand.N(6 * time.Second))
			m.signal(t, leader, syscall.SIGCONT)
			if rand.N(2) == 0 { // and goes on for a moment
				pause(rand.N(time.Second))
			}
			leader = m.leader(t)
			at = time.Now()
		}
		leader.Kill()
		eventually(t, slower(20*time.Second), func() error {
			_, err := c.Do("SET", "kill", strconv.Itoa(k))
			return err
		})
		took = append(took, time.Since(at))
		without = append(without, [2]time.Time{lost, time.Now()})
		pause(rand.N(time.Second))
		if err := m.Start(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		for _, n := range m.Nodes { // with min-replicas 1, one node at a time may be lost
			eventually(t, slower(60*time.Second), func() error { return m.readsFrom(t, n, n.Name) })
		}
		if k%10 == 9 {
			t.Logf("%d kills after %v", k+1, time.Since(began).Round(time.Second))
		}
	}
	end()

	c.want(t, "OK", "SET", "end", "1")
	var sizes []string
	for _, n := range m.Nodes {
		eventually(t, slower(30*time.Second), func() error {
			c := m.dial(t, n, "shop", "cart", password)
			defer c.Close()
			c.want(t, "OK", "READONLY") // what this copy has
			if got, err := c.Do("GET", "end"); err != nil || got != "1" {
				return fmt.Errorf("%s hasn't caught up: %q, %v", n.Name, got, err)
			}
			return nil
		})
		c := m.dial(t, n, "shop", "cart", password)
		c.want(t, "OK", "READONLY")
		for _, l := range ledgers {
			for _, w := range l.check(c) {
				t.Errorf("copy of %s: %s", n.Name, w)
			}
		}
		size, err := c.Do("DBSIZE")
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, size)
	}
	if len(slices.Compact(sizes)) != 1 {
		t.Errorf("the copies have %v keys", sizes)
	}
	m.compare(t, password)
	rounds, unknowns, stale, refusals := 0, 0, 0, map[string]int{}
	var gap time.Duration
	for _, l := range ledgers {
		rounds += l.rounds
		unknowns += l.counted[unknown]
		for _, o := range l.pushed {
			unknowns += b2i(o == unknown)
		}
		for _, o := range l.set {
			unknowns += b2i(o == unknown)
		}
		for code, n := range l.refusals {
			refusals[code] += n
		}
		for _, s := range l.stale { // a node that is cut off from all who lead reads what it has
			if slices.ContainsFunc(without, func(w [2]time.Time) bool { return s.at.After(w[0]) && s.at.Before(w[1].Add(time.Second)) }) {
				stale++
			} else {
				t.Errorf("stale: %s", s.what)
			}
		}
		gap = max(gap, l.gap)
	}
	slices.Sort(took)
	t.Logf("%d kills (%d after a suspension) in %v: %d writes, of which %d of unknown outcome and %v refused; another node took writes after %v (median), %v (at most)",
		kills, suspended, time.Since(began).Round(time.Second), 3*rounds, unknowns, refusals, took[len(took)/2], took[len(took)-1])
	t.Logf("a client's longest time without an acknowledged write: %v; %d reads while nobody led were older than the client's own write", gap, stale)
}

// pause lets so much time go by.
func pause(d time.Duration) { <-time.After(d) }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *Mesh) signal(t *testing.T, n *Node, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// leader is the node that leads, as soon as one does.
func (m *Mesh) leader(t *testing.T) (leader *Node) {
	t.Helper()
	eventually(t, slower(20*time.Second), func() error {
		var s struct {
			Primary struct {
				Node string
				Held bool
			}
		}
		if err := json.Unmarshal([]byte(m.cli(t, "redis", "status", "cart", "--json")), &s); err != nil {
			return err
		}
		if !s.Primary.Held {
			return fmt.Errorf("nobody leads: %+v", s)
		}
		leader = m.Node(s.Primary.Node)
		return nil
	})
	return leader
}

// compare compares all copies with the first node's, key by key.
func (m *Mesh) compare(t *testing.T, password string) {
	t.Helper()
	var first map[string]string
	for _, n := range m.Nodes {
		c := m.dial(t, n, "shop", "cart", password)
		c.want(t, "OK", "READONLY")
		all := make(map[string]string)
		for cursor := ""; cursor != "0"; {
			page, err := c.Values("SCAN", cmp.Or(cursor, "0"), "COUNT", "1000")
			if err != nil {
				t.Fatalf("SCAN at %s: %v", n.Name, err)
			}
			var keys []string
			if cursor, keys = page[0], page[1:]; len(keys) == 0 {
				continue
			}
			values, err := c.Values(append([]string{"MGET"}, keys...)...)
			if err != nil || len(values) != len(keys) {
				t.Fatalf("MGET at %s: %d, %v", n.Name, len(values), err)
			}
			for i, k := range keys {
				if all[k] = values[i]; strings.HasPrefix(k, "log:") {
					list, err := c.Values("LRANGE", k, "0", "-1")
					if err != nil {
						t.Fatalf("LRANGE at %s: %v", n.Name, err)
					}
					all[k] = strings.Join(list, " ")
				}
			}
		}
		if first == nil {
			first = all
			continue
		}
		wrong := 0
		for k := range first {
			if all[k] != first[k] {
				if wrong++; wrong < 10 {
					t.Errorf("%s: %s and %s have different values", k, m.Nodes[0].Name, n.Name)
				}
			}
		}
		if len(all) != len(first) {
			t.Errorf("%s has %d keys, %s %d", m.Nodes[0].Name, len(first), n.Name, len(all))
		}
	}
	t.Logf("%d copies with the same %d keys", len(m.Nodes), len(first))
}
