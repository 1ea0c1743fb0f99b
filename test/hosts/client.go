package hosts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"respmesh/netconf/api"
	"respmesh/test/dev"
)

// Client is a connection to a database through a node, over the stream that `respmesh redis proxy` uses.
type Client struct{ *dev.Client }

// Dial connects and authenticates, with no password if it is empty.
func (m *Mesh) Dial(ctx context.Context, n *Node, org, db, password string) (*Client, error) {
	c, err := api.NewClient(api.ClientOptions{URL: "http://127.0.0.1:" + strconv.Itoa(n.HTTP), Token: m.AdminToken()})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	conn, err := c.Connect(ctx, org, db)
	if err != nil {
		return nil, err
	}
	client, err := dev.NewClient(conn, password)
	if err != nil {
		return nil, err
	}
	return &Client{client}, nil
}

// Load writes and reads at nodes for as long as it runs. Each node has keys of its own, written by one client and read by
// others after the write was acknowledged: what they see must never be older.
type Load struct {
	mesh          *Mesh
	org, db, pass string
	pause         time.Duration

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	errors     []string       // replies that were errors, and reads that were stale
	reconnects map[string]int // by node
	writes     map[string]int // acknowledged, by node
	slowest    time.Duration
}

// StartLoad begins at some nodes.
func (m *Mesh) StartLoad(ctx context.Context, org, db, pass string, nodes ...*Node) *Load {
	return m.StartPacedLoad(ctx, 0, org, db, pass, nodes...)
}

// StartPacedLoad is StartLoad with a pause after each write and read.
func (m *Mesh) StartPacedLoad(ctx context.Context, pause time.Duration, org, db, pass string, nodes ...*Node) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{mesh: m, pause: pause, org: org, db: db, pass: pass, cancel: cancel, reconnects: map[string]int{}, writes: map[string]int{}}
	for _, n := range nodes {
		l.wg.Go(func() { l.run(ctx, n) })
	}
	return l
}

// run is one writer with its reader, on two connections of one node.
func (l *Load) run(ctx context.Context, n *Node) {
	var writer, reader *Client
	defer func() {
		for _, c := range []*Client{writer, reader} {
			if c != nil {
				c.Close()
			}
		}
	}()
	key := "load:" + n.Name
	for i := 1; ctx.Err() == nil; i++ {
		if l.pause > 0 {
			time.Sleep(l.pause)
		}
		if writer == nil || reader == nil {
			var err error
			if writer, reader, err = l.connect(ctx, n); err != nil {
				select { // the node is being started again
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
				continue
			}
		}
		began := time.Now()
		_, err := writer.Do("SET", key, strconv.Itoa(i))
		if l.failed(n, "SET", err) {
			writer, reader = nil, nil
			continue
		}
		if err != nil {
			continue
		}
		got, err := reader.Do("GET", key)
		if l.failed(n, "GET", err) {
			writer, reader = nil, nil
			continue
		}
		took := time.Since(began)
		l.mu.Lock()
		l.writes[n.Name] = i
		l.slowest = max(l.slowest, took)
		if err == nil && got != strconv.Itoa(i) {
			l.errors = append(l.errors, fmt.Sprintf("%s: wrote %d, read %s", n.Name, i, got))
		}
		l.mu.Unlock()
	}
}

func (l *Load) connect(ctx context.Context, n *Node) (*Client, *Client, error) {
	a, err := l.mesh.Dial(ctx, n, l.org, l.db, l.pass)
	if err != nil {
		return nil, nil, err
	}
	b, err := l.mesh.Dial(ctx, n, l.org, l.db, l.pass)
	if err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return a, b, nil
}

// failed notes an error, and tells whether the connection is gone.
func (l *Load) failed(n *Node, command string, err error) bool {
	if err == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var reply dev.Reply
	if errors.As(err, &reply) {
		l.errors = append(l.errors, fmt.Sprintf("%s: %s: %s", n.Name, command, reply))
		return false
	}
	l.reconnects[n.Name]++
	return true
}

// Result is what a load has seen.
type Result struct {
	Errors     []string
	Reconnects map[string]int
	Writes     map[string]int
	Slowest    time.Duration // a write and the read behind it
}

// Stop ends the load.
func (l *Load) Stop() Result {
	l.cancel()
	l.wg.Wait()
	return Result{l.errors, l.reconnects, l.writes, l.slowest}
}
