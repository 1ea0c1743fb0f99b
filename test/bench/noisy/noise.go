package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"respmesh/netconf/api"
	"respmesh/test/hosts"
)

// noise is what the clients of the noisy database ask for.
type noise struct {
	name, what string
	clients    int
	depth      int // commands sent at once
	ask        []string
}

func noises() []noise {
	const loop = "local n = 0 for i = 1, 100000 do n = n + i end return n"
	return []noise{
		{name: "none", what: "none"},
		{name: "set50", what: "50, SET, 64 at once", clients: 50, depth: 64, ask: []string{"SET", "key:__n__", "value"}},
		{name: "set200", what: "200, SET, 64 at once", clients: 200, depth: 64, ask: []string{"SET", "key:__n__", "value"}},
		{name: "get200", what: "200, GET", clients: 200, depth: 1, ask: []string{"GET", "key:1"}},
		{name: "bitcount", what: "32, BITCOUNT of 4 MiB", clients: 32, depth: 1, ask: []string{"BITCOUNT", "bits"}},
		{name: "lrange", what: "16, LRANGE of 100,000", clients: 16, depth: 1, ask: []string{"LRANGE", "list", "0", "-1"}},
		{name: "keys", what: "16, KEYS of 200,000", clients: 16, depth: 1, ask: []string{"KEYS", "*9999*"}},
		{name: "eval", what: "16, EVAL of 100,000 rounds", clients: 16, depth: 1, ask: []string{"EVAL", loop, "0"}},
	}
}

// prepare gives the noisy database what is asked for.
func prepare(c *hosts.Client) error {
	for _, args := range [][]string{
		{"SETBIT", "bits", strconv.Itoa(32<<20 - 1), "0"},
		{"EVAL", "for i = 1, 100000 do redis.call('RPUSH', 'list', i) end return 1", "0"},
		{"EVAL", "for i = 1, 200000 do redis.call('SET', 'key:' .. i, 'value') end return 1", "0"},
	} {
		if _, err := c.Do(args...); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	}
	return nil
}

// build is a running node of one build of the program.
type build struct {
	name, binary string
	dir          string
	mesh         *hosts.Mesh
	passwords    map[string]string
	runs         map[string][]result
}

type result struct {
	p50, p99, max time.Duration
	noisy         float64
}

func (b *build) start(ctx context.Context) (err error) {
	b.passwords, b.runs = make(map[string]string), make(map[string][]result)
	if b.dir, err = os.MkdirTemp("", "respmesh-noisy"); err != nil {
		return err
	}
	if b.mesh, err = hosts.New(ctx, b.binary, b.dir, "mad"); err != nil {
		return err
	}
	if _, err := b.mesh.CLI(ctx, "orgs", "create", "shop"); err != nil {
		return err
	}
	for _, name := range []string{"noisy", "quiet"} {
		out, err := b.mesh.CLI(ctx, "redis", "create", "--json", "--org", "shop", "--name", name, "--plan", "payg", "--disable-eviction", "--region", "mad", "--no-replicas")
		if err != nil {
			return err
		}
		var made struct{ Password string }
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			return fmt.Errorf("redis create prints %q: %w", out, err)
		}
		b.passwords[name] = made.Password
		c, err := b.mesh.Dial(ctx, b.mesh.Nodes[0], "shop", name, made.Password)
		if err != nil {
			return err
		}
		defer c.Close()
		if name == "noisy" {
			err = prepare(c)
		} else {
			_, err = c.Do("SET", "k", "v")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *build) stop() {
	if b.mesh != nil {
		_ = b.mesh.Close(10 * time.Second)
	}
	_ = os.RemoveAll(b.dir)
}

// measure asks the quiet database for a while, beside the noise.
func (b *build) measure(ctx context.Context, n noise, length time.Duration) (r result, err error) {
	c, err := b.mesh.Dial(ctx, b.mesh.Nodes[0], "shop", "quiet", b.passwords["quiet"])
	if err != nil {
		return r, err
	}
	defer c.Close()
	if n.clients > 0 {
		stop, err := b.begin(ctx, n)
		if err != nil {
			return r, err
		}
		defer func() {
			var more error
			if r.noisy, more = stop(); err == nil {
				err = more
			}
		}()
	}
	var took []time.Duration
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		began := time.Now()
		if _, err := c.Do("GET", "k"); err != nil {
			return r, err
		}
		took = append(took, time.Since(began))
		<-tick.C
	}
	slices.Sort(took)
	r.p50, r.p99, r.max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	return r, nil
}

// begin starts the noise in a process of its own; stop ends it and tells the commands per second.
func (b *build) begin(ctx context.Context, n noise) (stop func() (float64, error), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-child", n.name)
	cmd.Env = b.mesh.Command(ctx, b.mesh.Nodes[0]).Env
	cmd.Env = append(cmd.Env, "RESPMESH_PASSWORD="+b.passwords["noisy"])
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	end := func() (float64, error) {
		in.Close()
		lines.Scan()
		rate, err := strconv.ParseFloat(lines.Text(), 64)
		return rate, errors.Join(err, cmd.Wait())
	}
	if !lines.Scan() { // it is loud
		_, err := end()
		return nil, fmt.Errorf("the noise doesn't begin: %w", err)
	}
	return end, nil
}

// child makes noise until its input ends, then prints the commands per second.
func child(ctx context.Context, name string) error {
	all := noises()
	i := slices.IndexFunc(all, func(n noise) bool { return n.name == name })
	if i < 0 {
		return fmt.Errorf("no noise %q", name)
	}
	n := all[i]
	c, err := api.NewClient(api.ClientOptions{URL: os.Getenv("RESPMESH_API"), Token: os.Getenv("RESPMESH_TOKEN")})
	if err != nil {
		return err
	}
	defer c.Close()
	var batch bytes.Buffer
	for k := range n.depth {
		fmt.Fprintf(&batch, "*%d\r\n", len(n.ask))
		for _, a := range n.ask {
			a = strings.ReplaceAll(a, "__n__", strconv.Itoa(k*997))
			fmt.Fprintf(&batch, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	for range n.clients {
		conn, err := c.Connect(ctx, "shop", "noisy")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "AUTH "+os.Getenv("RESPMESH_PASSWORD")+"\r\n"); err != nil {
			return err
		}
		r := bufio.NewReader(conn)
		if line, err := r.ReadString('\n'); err != nil || line != "+OK\r\n" {
			return fmt.Errorf("AUTH answers %q: %w", line, err)
		}
		wg.Go(func() {
			for {
				if _, err := conn.Write(batch.Bytes()); err != nil {
					return
				}
				for range n.depth {
					if skip(r) != nil {
						return
					}
					done.Add(1)
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // until it is in full swing
	fmt.Println("loud")
	before, began := done.Load(), time.Now()
	_, err = io.Copy(io.Discard, os.Stdin)
	fmt.Println(float64(done.Load()-before) / time.Since(began).Seconds())
	return ignoreClosed(err)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// skip reads past one reply.
func skip(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil || len(line) < 4 {
		return cmp.Or(err, io.ErrUnexpectedEOF)
	}
	switch line[0] {
	case '-':
		return errors.New(string(line))
	case '$', '*':
		n, err := strconv.Atoi(string(line[1 : len(line)-2]))
		if err != nil || n < 0 {
			return err
		}
		if line[0] == '$' {
			_, err = r.Discard(n + 2)
			return err
		}
		for range n {
			if err := skip(r); err != nil {
				return err
			}
		}
	}
	return nil
}
