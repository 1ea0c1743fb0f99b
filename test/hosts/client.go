package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/resp"

	"respmesh/netconf/api"
)

// Client is a connection to a database through a node, over the stream that `respmesh redis proxy` uses.
type Client struct {
	conn net.Conn
	r    *resp.Reader
}

// Dial connects and authenticates, with no password if it is empty.
func (m *Mesh) Dial(ctx context.Context, n *Node, org, db, password string) (*Client, error) {
	c, err := api.NewClient(api.ClientOptions{URL: "http://127.0.0.1:" + strconv.Itoa(n.HTTP), Token: m.adminToken()})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	conn, err := c.Connect(ctx, org, db)
	if err != nil {
		return nil, err
	}
	client := &Client{conn: conn, r: resp.NewReader(conn)}
	if password != "" {
		if _, err := client.Do("AUTH", password); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return client, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Reply is an error reply of the server; the connection goes on.
type Reply string

func (r Reply) Error() string { return string(r) }

// Do sends a command and gives its reply as text. Error replies are of type Reply; other errors are the connection's.
func (c *Client) Do(args ...string) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c.conn, b.String()); err != nil {
		return "", err
	}
	v, _, err := c.r.ReadValue()
	switch {
	case err != nil:
		return "", err
	case v.Type() == resp.Error:
		return "", Reply(v.Error().Error())
	case v.IsNull():
		return "(nil)", nil
	}
	return v.String(), nil
}

// Load writes and reads at nodes for as long as it runs. Each node has keys of its own, written by one client and read by
// others after the write was acknowledged: what they see must never be older.
type Load struct {
	mesh          *Mesh
	org, db, pass string

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
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{mesh: m, org: org, db: db, pass: pass, cancel: cancel, reconnects: map[string]int{}, writes: map[string]int{}}
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
	var reply Reply
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
