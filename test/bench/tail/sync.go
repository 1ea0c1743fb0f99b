package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"respmesh/test/bench/program"
	"respmesh/test/hosts"
)

// measureSyncs measures a primary's commands while a replica gets all data: with a replica that competes for the processors, and with one of the lowest
// priority, which is nearly as if it had a host of its own.
func measureSyncs(ctx context.Context, o options, sides []side) error {
	for _, low := range []bool{true, false} {
		before := program.Load()
		table := newColumns(sides)
		for n := range o.repeats {
			for _, s := range sides {
				run := redisSync
				if s.binary != "" {
					run = meshSync
				}
				if err := run(ctx, o, s, low, table); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				fmt.Fprintf(os.Stderr, "%d/%d %s: %s\n", n+1, o.repeats, s.name, table.last(s))
			}
		}
		who := "of the same priority as the primary"
		if low {
			who = "of the lowest priority"
		}
		fmt.Printf("Half SET, half GET at the primary, %.0f commands a second over %d connections, while a replica gets all %d MB, with an append-only file at the primary; the replica's process is %s; "+
			"%d runs, each with servers of its own, alternating; load average %.2f before and %.2f after.\n\n", o.rate, o.conns, o.megabytes, who, o.repeats, before, program.Load())
		table.print()
	}
	return nil
}

func (o options) syncOver(ctx context.Context, s side, dial dialer, table *columns, begin func() error, under func() (bool, error)) error {
	keys := o.megabytes << 20 / 1000
	value := bytes.Repeat([]byte("x"), 1000)
	if err := fill(ctx, dial, keys, value); err != nil {
		return err
	}
	p := o.half(value, keys)
	calm, err := p.over(ctx, dial, nil)
	if err != nil {
		return err
	}
	meanwhile, err := p.over(ctx, dial, func() error {
		if err := begin(); err != nil {
			return err
		}
		return whileTrue(ctx, under)
	})
	if err != nil {
		return err
	}
	table.note(s, calm, meanwhile)
	return nil
}

func redisSync(ctx context.Context, o options, s side, low bool, table *columns) error {
	primary, err := startRedis(ctx, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0")
	if err != nil {
		return err
	}
	defer primary.stop()
	replica, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer replica.stop()
	if low {
		if err := lowest(replica.cmd.Process.Pid); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(primary.addr)
	if err != nil {
		return err
	}
	return o.syncOver(ctx, s, dialTCP(primary.addr), table, func() error {
		_, err := ask(ctx, dialTCP(replica.addr), time.Minute, "REPLICAOF", host, port)
		return err
	}, func() (bool, error) {
		text, err := ask(ctx, dialTCP(replica.addr), time.Minute, "INFO", "replication")
		return !strings.Contains(text, "master_link_status:up"), err
	})
}

func meshSync(ctx context.Context, o options, s side, low bool, table *columns) error {
	dir, err := os.MkdirTemp("", "respmesh-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := hosts.New(ctx, s.binary, dir, "mad")
	if err != nil {
		return err
	}
	defer func() { _ = m.Close(20 * time.Second) }()
	ams, err := m.Join(ctx, "ams", "ams-1")
	if err != nil {
		return err
	}
	if low {
		if err := lowest(ams.PID()); err != nil {
			return err
		}
	}
	if _, err := m.CLI(ctx, "orgs", "create", "shop"); err != nil {
		return err
	}
	out, err := m.CLI(ctx, "redis", "create", "--json", "--org", "shop", "--name", "cart", "--plan", "payg", "--disable-eviction", "--region", "mad", "--no-replicas")
	if err != nil {
		return err
	}
	var made struct{ Password string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return fmt.Errorf("redis create prints %q: %w", out, err)
	}
	return o.syncOver(ctx, s, meshDialer(m, made.Password), table, func() error {
		_, err := m.CLI(ctx, "redis", "update", "cart", "--replica-regions", "ams")
		return err
	}, func() (bool, error) {
		out, err := m.CLI(ctx, "redis", "status", "cart", "--json")
		if err != nil {
			return false, err
		}
		var status struct {
			Nodes []struct{ Node, State string }
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return false, fmt.Errorf("redis status prints %q: %w", out, err)
		}
		for _, n := range status.Nodes {
			if n.Node == ams.Name {
				return n.State != "ready", nil
			}
		}
		return true, nil
	})
}

// meshDialer opens streams at the first node's API, as `respmesh redis proxy` does, over plain sockets.
func meshDialer(m *hosts.Mesh, password string) dialer {
	return func(ctx context.Context) (*net.TCPConn, error) {
		conn, err := dialTCP("127.0.0.1:" + strconv.Itoa(m.Nodes[0].HTTP))(ctx)
		if err != nil {
			return nil, err
		}
		if err := upgrade(conn, m, password); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func upgrade(conn net.Conn, m *hosts.Mesh, password string) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+conn.RemoteAddr().String()+"/v1/orgs/shop/databases/cart/connect", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+m.AdminToken())
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "respmesh-tcp")
	if err := req.Write(conn); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("connect: %s", answer.Status)
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\n", password); err != nil {
		return err
	}
	line, err := r.ReadString('\n')
	if err == nil && line != "+OK\r\n" {
		err = fmt.Errorf("AUTH answers %q", line)
	}
	return err
}
