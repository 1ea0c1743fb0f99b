package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"
)

// initiationFor is a WireGuard handshake that looks meant for a key (https://www.wireguard.com/protocol/), by somebody whom its
// owner doesn't know.
func initiationFor(t *testing.T, publicKey string) []byte {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, 148)
	_, _ = rand.Read(msg) // never fails
	copy(msg, []byte{1, 0, 0, 0})
	label := blake2s.Sum256(slices.Concat([]byte("mac1----"), key))
	mac, err := blake2s.New128(label[:])
	if err != nil {
		t.Fatal(err)
	}
	mac.Write(msg[:116])
	copy(msg[116:], mac.Sum(nil))
	copy(msg[132:], make([]byte, 16))
	return msg
}

// TestHandshakeFlood: a host sends a node 20,000 handshakes per second. A peer's session goes on, and one that comes anew gets in.
func TestHandshakeFlood(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	node := w.lab.Node("ams-1")
	list, err := w.lab.NodeList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(n nodeInfo) bool { return n.Name == node.Name })
	msg := initiationFor(t, list[at].PublicKey)
	var attacker net.Conn
	if err := w.lab.Host("side-app").inside(func() (err error) {
		attacker, err = net.Dial("udp", node.Endpoint())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	anew := func() time.Duration {
		t.Helper()
		if err := w.BlogApp.Attach(ctx, node.Name); err != nil { // forgets what the two had
			t.Fatal(err)
		}
		began := time.Now()
		eventually(t, 15*time.Second, func() error { return w.BlogApp.Reaches(ctx, w.Posts) })
		return time.Since(began)
	}
	t.Logf("a peer that comes anew is in after %v", anew())
	s := session(t, w.BlogApp.Host, w.Posts)
	s.want(t, "PONG", "PING")

	const perTick, tick, span = 200, 10 * time.Millisecond, 2 * time.Second
	began, sent := time.Now(), 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		beat := time.NewTicker(tick)
		defer beat.Stop()
		for time.Since(began) < span {
			<-beat.C
			for range perTick {
				if _, err := attacker.Write(msg); err == nil {
					sent++
				}
			}
		}
	}()
	var longest time.Duration
	for time.Since(began) < span/2 {
		asked := time.Now()
		s.want(t, "PONG", "PING")
		longest = max(longest, time.Since(asked))
	}
	took := anew()
	t.Logf("during the flood after %v", took)
	if took > 3*time.Second { // WireGuard's second try comes after 5 s
		t.Errorf("a peer that came anew was in only after %v", took)
	}
	<-done
	t.Logf("%d handshakes in %v; the longest answer took %v", sent, time.Since(began), longest)
	if longest > 2*time.Second {
		t.Errorf("the longest answer took %v", longest)
	}
	out, err := node.Metrics(context.WithoutCancel(ctx))
	if err != nil || !strings.Contains(out, `respmesh_wireguard_handshakes_dropped_total{reason="fast"`) {
		t.Errorf("the metrics say nothing of it: %v", err)
	}
}
