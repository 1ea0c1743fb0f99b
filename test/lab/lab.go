// Package lab builds a small internet on one machine and runs respmesh on its hosts, as people would: each host is a network
// namespace, the regions' networks are bridges, and between the regions stands a mesh/wan router that delays, loses and cuts.
// It needs root; nothing of it is in the machine's own network.
//
//	mad    mad-1 (TUN)  mad-2 (unprivileged)   shop-app
//	ams    ams-1 (TUN)  ams-2 (unprivileged)   blog-app  side-app
//	nrt    nrt-1 (unprivileged)  nrt-2 (TUN)   nat ── laptop
//
// Names of namespaces, interfaces and files carry the lab's ID, so that labs don't disturb each other. What a crashed one
// left is removed by the next.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"respmesh/mesh/wan"
)

// Options of a lab.
type Options struct {
	Binary string       // the program
	Log    *slog.Logger // what is being built; nil discards
}

// Lab is hosts, and the nodes on them.
type Lab struct {
	ID     string
	Dir    string // everybody may enter it; secrets in it are their owner's
	Binary string
	WAN    *wan.Router
	Nodes  []*Node
	Pin    string // of the API at APIAddr
	log    *slog.Logger

	mu    sync.Mutex
	hosts map[string]*Host // guarded by mu
	lock  *os.File
	net   *Host // the bridges and the router
}

// Regions of the lab, and how far they are from each other (one way).
var distances = []struct {
	a, b  string
	delay time.Duration
}{{"mad", "ams", 15 * time.Millisecond}, {"mad", "nrt", 60 * time.Millisecond}, {"ams", "nrt", 55 * time.Millisecond}}

// network is the lab's region networks: 10.80.<region>.0/24.
var regionNumbers = map[string]byte{"mad": 1, "ams": 2, "nrt": 3}

func regionAddr(region string, host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 80, regionNumbers[region], host})
}

func regionOf(a netip.Addr) string {
	for region, n := range regionNumbers {
		if a.Is4() && a.As4()[0] == 10 && a.As4()[2] == n {
			return region
		}
	}
	return ""
}

// New builds the hosts and starts the nodes.
func New(ctx context.Context, o Options) (_ *Lab, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := Sweep(ctx); err != nil {
		return nil, fmt.Errorf("remove what an earlier lab left: %w", err)
	}
	l := &Lab{hosts: make(map[string]*Host), log: o.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := l.register(); err != nil {
		return nil, err
	}
	l.Binary = filepath.Join(l.Dir, "bin", "respmesh")
	if err := l.install(o.Binary); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := l.wire(ctx); err != nil {
		return nil, err
	}
	l.log.Info("the hosts stand", "after", time.Since(began).Round(time.Millisecond))
	if err := l.startNodes(ctx); err != nil {
		return nil, err
	}
	l.log.Info("the nodes run", "after", time.Since(began).Round(time.Millisecond))
	return l, nil
}

// Default gives every path its usual conditions again.
func (l *Lab) Default() error {
	var errs []error
	for _, d := range distances {
		c := wan.Conditions{Delay: d.delay}
		errs = append(errs, l.WAN.Set(d.a, d.b, c), l.WAN.Set(d.b, d.a, c))
	}
	for region := range regionNumbers {
		l.WAN.Heal(region)
	}
	return errors.Join(errs...)
}

// Host finds a host by its name.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	if h == nil {
		panic("no host " + name)
	}
	return h
}

// Node finds a node by its name.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	panic("no node " + name)
}

// Close ends the nodes and removes the lab.
func (l *Lab) Close(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(l.Nodes))
	for i, n := range l.Nodes {
		wg.Go(func() { errs[i] = n.Stop() })
	}
	wg.Wait()
	if l.WAN != nil {
		errs = append(errs, l.WAN.Close())
	}
	if l.lock != nil {
		errs = append(errs, remove(ctx, l.ID, l.Dir), os.Remove(l.lock.Name()), l.lock.Close())
	}
	return errors.Join(errs...)
}

// Eventually tries until there is no error any more.
func Eventually(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", within, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
