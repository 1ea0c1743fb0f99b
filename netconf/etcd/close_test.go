package etcd

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
)

// TestCloseWhileClientsCome: a member closes though calls begin at that moment that would last for ever.
func TestCloseWhileClientsCome(t *testing.T) {
	for range 3 {
		files, conf := authority(t)
		m, err := StartMember(t.Context(), MemberOptions{Dir: t.TempDir(), Temporary: true, Clients: loopback(), TLS: files, Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		tcp := m.Endpoints()[slices.IndexFunc(m.Endpoints(), func(e string) bool { return strings.HasPrefix(e, "https:") })]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var wg sync.WaitGroup
		for range 4 {
			c, err := NewClient(ClientOptions{Endpoints: []string{tcp}, TLS: conf})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Get(ctx, "k"); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer c.Close()
				for i := 0; i < 500 && ctx.Err() == nil; i++ { // each a call of its own
					c.Watch(metadata.AppendToOutgoingContext(ctx, "n", strconv.Itoa(i)), "k")
				}
				<-ctx.Done()
			})
		}
		closed := make(chan error, 1)
		go func() { closed <- m.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("it isn't closed")
		}
		cancel()
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}
