package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	clusterShards = 3
	clusterSize   = 2 * clusterShards // each with a replica
	formTimeout   = 30 * time.Second
)

// ServerCluster is a cluster of six supervised servers on this machine: three primaries, each with a replica. It is for trying
// things out, since a machine that goes takes all of it.
type ServerCluster struct {
	servers []*Server
	members []*clusterMember
}

// clusterMember is what a server of a cluster needs beyond what others do. It listens on loopback: members don't meet by sockets.
type clusterMember struct {
	port, bus int
	pass      string
}

func (m *clusterMember) config(set func(name string, values ...string)) {
	set("bind", "127.0.0.1")
	set("port", strconv.Itoa(m.port))
	set("masterauth", m.pass)
	set("cluster-enabled", "yes")
	set("cluster-port", strconv.Itoa(m.bus))
	set("cluster-node-timeout", "3000")
	set("cluster-require-full-coverage", "no")
}

func (m *clusterMember) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

// clusterFile keeps what the members know each other by: ports and the password.
type clusterFile struct {
	Ports []int  `json:"ports"` // port and bus of each
	Pass  string `json:"password"`
}

// SuperviseCluster starts the servers below a directory, makes them a cluster unless they were one there before, and returns
// once it answers.
func SuperviseCluster(ctx context.Context, opt SuperviseOptions) (_ *ServerCluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	if opt.Binary, err = findServer(opt.Binary); err != nil {
		return nil, err
	}
	file, formed, err := loadCluster(opt.Dir)
	if err != nil {
		return nil, err
	}
	c := &ServerCluster{servers: make([]*Server, clusterSize)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, clusterSize)
	for i := range clusterSize {
		m := &clusterMember{port: file.Ports[2*i], bus: file.Ports[2*i+1], pass: file.Pass}
		c.members = append(c.members, m)
		wg.Go(func() {
			o := opt
			o.Dir, o.member = filepath.Join(opt.Dir, strconv.Itoa(i+1)), m
			c.servers[i], errs[i] = Supervise(ctx, o)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !formed {
		if err := c.form(ctx); err != nil {
			return nil, fmt.Errorf("form the cluster: %w", err)
		}
		if err := saveCluster(opt.Dir, file); err != nil {
			return nil, err
		}
	}
	if err := c.awaitWell(ctx); err != nil {
		return nil, fmt.Errorf("the cluster doesn't come together: %w", err)
	}
	return c, nil
}

// URL is for [Options]. It holds the password: it isn't for people.
func (c *ServerCluster) URL() string {
	var addrs []string
	for _, m := range c.members {
		addrs = append(addrs, m.addr())
	}
	return "redis+cluster://:" + c.members[0].pass + "@" + strings.Join(addrs, ",")
}

// Close stops the servers.
func (c *ServerCluster) Close() error {
	errs := make([]error, len(c.servers))
	var wg sync.WaitGroup
	for i, s := range c.servers {
		if s != nil {
			wg.Go(func() { errs[i] = s.Close() })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func loadCluster(dir string) (file clusterFile, formed bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &file); err != nil || len(file.Ports) != 2*clusterSize {
			return file, false, fmt.Errorf("%s isn't of a cluster: %w", dir, cmp.Or(err, fmt.Errorf("%d ports, want %d", len(file.Ports), 2*clusterSize)))
		}
		return file, true, nil
	case !errors.Is(err, os.ErrNotExist):
		return file, false, err
	}
	// What is there without the file was left by a start that failed.
	for i := range clusterSize {
		if err := os.RemoveAll(filepath.Join(dir, strconv.Itoa(i+1))); err != nil {
			return file, false, err
		}
	}
	file.Pass = rand.Text()
	file.Ports, err = freePorts(2 * clusterSize)
	return file, false, err
}

func saveCluster(dir string, file clusterFile) error {
	raw, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cluster.json"), raw, 0o600)
}

// freePorts finds ports that are free now.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// form gives out the slots, has the servers meet, and makes half of them replicas.
func (c *ServerCluster) form(ctx context.Context) error {
	for i := range clusterSize {
		if _, err := c.ask(ctx, i, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		if i < clusterShards {
			from, to := i*slotCount/clusterShards, (i+1)*slotCount/clusterShards-1
			if _, err := c.ask(ctx, i, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(from), strconv.Itoa(to)); err != nil {
				return err
			}
		}
	}
	for _, m := range c.members[1:] {
		if _, err := c.ask(ctx, 0, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(m.port), strconv.Itoa(m.bus)); err != nil {
			return err
		}
	}
	for i := range clusterSize {
		if err := c.await(ctx, i, func(nodes string) bool {
			return strings.Count(nodes, " connected") == clusterSize && !strings.Contains(nodes, "handshake")
		}, "CLUSTER", "NODES"); err != nil {
			return err
		}
	}
	for i := range clusterShards {
		id, err := c.ask(ctx, i, "CLUSTER", "MYID")
		if err != nil {
			return err
		}
		if _, err := c.ask(ctx, i+clusterShards, "CLUSTER", "REPLICATE", id); err != nil {
			return err
		}
	}
	return nil
}

// awaitWell waits until all members say that all is well.
func (c *ServerCluster) awaitWell(ctx context.Context) error {
	for i := range clusterSize {
		if err := c.await(ctx, i, func(s string) bool { return strings.Contains(s, "cluster_state:ok") }, "CLUSTER", "INFO"); err != nil {
			return err
		}
		if err := c.await(ctx, i, func(s string) bool {
			return strings.Contains(s, "role:master") || strings.Contains(s, "master_link_status:up")
		}, "INFO", "replication"); err != nil {
			return err
		}
	}
	return nil
}

// await asks a member until it likes the answer.
func (c *ServerCluster) await(ctx context.Context, i int, like func(string) bool, args ...string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := c.ask(ctx, i, args...)
		if err == nil && like(text) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("server %d: %w", i+1, errors.Join(ctx.Err(), err))
		}
	}
}

func (c *ServerCluster) ask(ctx context.Context, i int, args ...string) (string, error) {
	conn, err := dialAddr(ctx, "tcp", c.members[i].addr(), nil)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	r, _, err := greet(ctx, conn, greeting{pass: c.members[i].pass})
	if err != nil {
		return "", err
	}
	f, err := askConn(ctx, conn, r, args...)
	return string(f.Text()), err
}
