package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
	"respmesh/node"
)

const (
	defaultPort = 16379
	// maxProxied bounds the connections that a proxy carries at a time.
	maxProxied = 512
)

func redisProxy(r *remote) *cobra.Command {
	var port int
	cmd := &cobra.Command{
		Use: "proxy [DATABASE]", Short: "Reach a database through a port of this machine", Args: atMost(1, "one database"), ValidArgsFunction: r.completeDatabases,
		Long: `Listen on a port of this machine's loopback addresses and carry each connection to the
database, through the node that answers the control API. Only this machine can connect;
the database still asks for its password. Ctrl-C ends it.`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			p, err := listenProxy(port, func(ctx context.Context) (net.Conn, error) { return c.Connect(ctx, db.Org, db.Name) })
			if err != nil {
				return err
			}
			if r.json {
				err = printJSON(cmd.OutOrStdout(), map[string]any{"database": db.Org + "/" + db.Name, "addresses": p.addresses()})
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Database %s of org %s: redis-cli -p %d\nCtrl-C ends it.\n", db.Name, db.Org, p.port)
			}
			if err != nil {
				p.close()
				return err
			}
			return p.serve(cmd.Context(), func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "respmesh: %v\n", err) })
		}),
	}
	r.bindOrg(cmd)
	cmd.Flags().IntVarP(&port, "port", "p", defaultPort, "port to listen on; 0 picks a free one")
	return cmd
}

// proxy carries connections from loopback to a database.
type proxy struct {
	port      int
	listeners []net.Listener
	dial      func(context.Context) (net.Conn, error)
	slots     chan struct{} // one for each connection that may be open
}

// listenProxy binds a port on ::1 and on 127.0.0.1, and on nothing that another machine could reach. A machine without
// one of the two does with the other.
func listenProxy(port int, dial func(context.Context) (net.Conn, error)) (*proxy, error) {
	if port < 0 || port > 65535 {
		return nil, node.Usagef("--port: %d is out of range", port)
	}
	p := &proxy{port: port, dial: dial, slots: make(chan struct{}, maxProxied)}
	var missing error
	for tries := 0; ; tries++ {
		var taken error
		for _, host := range []string{"127.0.0.1", "::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p.port)))
			switch {
			case err == nil:
				p.listeners = append(p.listeners, l)
				p.port = l.Addr().(*net.TCPAddr).Port
			case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
				missing = err
			default:
				taken = err
			}
		}
		if taken == nil {
			break
		}
		p.close()
		if port != 0 || tries == 8 {
			return nil, portError(port, taken)
		}
		p.port = 0 // free on one of the two only: another one
	}
	if len(p.listeners) == 0 {
		return nil, fmt.Errorf("this machine has no loopback address: %w", missing)
	}
	return p, nil
}

// errPortTaken is what listenProxy says of a port that something else has.
var errPortTaken = errors.New("is in use")

func portError(port int, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d %w on this machine; choose another with --port, or 0 for a free one", port, errPortTaken)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %d needs privileges; choose one above 1023 with --port", port)
	}
	return fmt.Errorf("listen on port %d: %w", port, err)
}

func (p *proxy) addresses() []string {
	var all []string
	for _, l := range p.listeners {
		all = append(all, l.Addr().String())
	}
	return all
}

// close is for a proxy that isn't served.
func (p *proxy) close() {
	for _, l := range p.listeners {
		l.Close()
	}
	p.listeners = nil
}

// serve carries connections until ctx ends; then it closes them and waits for what carried them. What fails for one
// connection is told and ends that one.
func (p *proxy) serve(ctx context.Context, tell func(error)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, len(p.listeners))
	for _, l := range p.listeners {
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					failed <- err
					return
				}
				select {
				case p.slots <- struct{}{}:
				default:
					tell(fmt.Errorf("%d connections are open; one more was refused", maxProxied))
					conn.Close()
					continue
				}
				wg.Go(func() {
					defer func() { <-p.slots }()
					if err := p.carry(ctx, conn); err != nil && ctx.Err() == nil {
						tell(err)
					}
				})
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	p.close()
	wg.Wait()
	return err
}

// carry copies both ways until both have ended. A client that has said all it wants to say may still wait for answers.
func (p *proxy) carry(ctx context.Context, client net.Conn) error {
	defer client.Close()
	db, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); db.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pass(db, client) })
	pass(client, db)
	client.Close() // the database is gone: nobody answers what the client says from now on
	wg.Wait()
	return nil
}

// pass copies one way and passes the end on. How a connection broke is of no interest: the other side sees it end.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	to.Close()
}
