package etcd

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
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

// deaf doesn't end its watches, as etcd's client while it sends over a connection that is gone.
type deaf struct {
	clientv3.Watcher
	asked chan struct{}
}

func (d deaf) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan {
	close(d.asked)
	return make(chan clientv3.WatchResponse)
}

func TestCloseWhileTheWatchHangs(t *testing.T) {
	s := startEmbedded(t)
	client := s.client(t, nil)
	asked := make(chan struct{})
	client.Watcher = deaf{client.Watcher, asked}
	r := s.registry(t, Options{Client: client})
	<-asked
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it isn't closed")
	}
}
