package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"respmesh/netconf"
	"respmesh/store/aof"
)

// ServerOptions are the flags of `respmesh server`.
type ServerOptions struct {
	Init bool   // make a new mesh with this node as its first
	Join string // URL of the API of a node that is in the mesh
	Pin  string // of that API's certificate
	// Token is what the node joins with. It comes from a file or the environment, never from the command line.
	Token string

	Name, Region string
	Data         string
	WireGuard    netip.AddrPort // UDP address to listen on
	Endpoint     string         // host:port where the other nodes find it; empty: they don't, this node calls them
	Tunnel       string         // auto, tun or userspace
	HTTP         int            // port of API, console and metrics on loopback
	API          string         // address of the API with TLS; empty: none
	Members      int            // how many nodes carry the control plane: 1, 3 or 5
	Etcd         EtcdOptions
	AppendFsync  string
	DNSUpstreams []string // resolvers that are asked about names outside internal, as address or address:port
	Trace        TraceOptions
	upstreams    []netip.AddrPort
	// certificateLife is that of nodes' certificates that this node signs; 0: as usual.
	certificateLife time.Duration
	Version         string
	Log             *slog.Logger
}

// EtcdOptions reach an etcd cluster that others run.
type EtcdOptions struct {
	Endpoints     []string
	CA, Cert, Key string // files, PEM
}

// check refuses what can't be, and fills in the defaults. known is who this node is already, if it is.
func (o *ServerOptions) check(known *identity) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Init && o.Join != "" {
		return Usagef("--init makes a new mesh and --join enters one that is there: give one of them")
	}
	if known == nil {
		if !o.Init && o.Join == "" {
			return Usagef("%s holds no node yet: give --init to make a new mesh, or --join URL to enter one", o.Data)
		}
		if err := o.checkNew(); err != nil {
			return err
		}
	} else if err := o.checkKnown(known); err != nil {
		return err
	}
	switch o.Members {
	case 0:
		o.Members = 1
	case 1, 3, 5:
	default:
		return Usagef("--control-members: %d isn't 1, 3 or 5", o.Members)
	}
	if len(o.Etcd.Endpoints) > 0 && o.Members > 1 {
		return Usagef("--etcd and --control-members contradict: the cluster at --etcd has its own members")
	}
	if err := o.Etcd.check(); err != nil {
		return err
	}
	if _, err := aof.ParsePolicy(o.AppendFsync); err != nil && o.AppendFsync != "" {
		return Usagef("--appendfsync: %v", err)
	}
	for _, text := range o.DNSUpstreams {
		at, err := netip.ParseAddrPort(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil {
			at, err = netip.AddrPortFrom(addr, dnsPort), nil
		}
		if err != nil || at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().IsMulticast() {
			return Usagef("--dns-upstream: %q isn't the address of a resolver, such as 9.9.9.9 or [2620:fe::fe]:53", text)
		}
		o.upstreams = append(o.upstreams, at)
	}
	if o.HTTP < 0 || o.HTTP > 65535 {
		return Usagef("--http: %d is no port", o.HTTP)
	}
	if o.API != "" {
		if _, _, err := net.SplitHostPort(o.API); err != nil {
			return Usagef("--api-listen: %q isn't host:port, such as [::]:17380", o.API)
		}
	}
	switch o.Tunnel {
	case "", "auto", "tun", "userspace":
	default:
		return Usagef("--tunnel: %q is neither auto, tun nor userspace", o.Tunnel)
	}
	if err := o.Trace.check(); err != nil {
		return err
	}
	return o.checkEndpoint()
}

// check refuses addresses and files that don't make sense together.
func (o EtcdOptions) check() error {
	for flag, value := range map[string]string{"--etcd-ca": o.CA, "--etcd-cert": o.Cert, "--etcd-key": o.Key} {
		if value != "" && len(o.Endpoints) == 0 {
			return Usagef("%s is about the cluster of --etcd; give its URLs", flag)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return Usagef("--etcd-cert and --etcd-key go together")
	}
	for _, text := range o.Endpoints {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Port() == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
			return Usagef("--etcd: %q isn't a URL such as https://etcd.example.org:2379", text)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !addr.IsLoopback()) {
			return Usagef("--etcd: %s: the mesh's state isn't sent in the clear; use https", text)
		}
	}
	return nil
}

func (o *ServerOptions) checkNew() error {
	if o.Init && o.Pin != "" {
		return Usagef("--pin is about the node of --join; leave it out with --init")
	}
	if o.Region == "" {
		return Usagef("--region is missing; respmesh regions list shows the codes")
	}
	if _, err := netconf.CheckRegion(o.Region); err != nil {
		return Usagef("--region: %v", err)
	}
	if o.Name == "" {
		o.Name = o.Region + "-1"
	}
	if err := netconf.ValidateName(o.Name); err != nil {
		return Usagef("--name: %v", err)
	}
	if o.Join != "" && o.Token == "" {
		return Usagef("--join needs a token: put it into a file and give --token-file, or into RESPMESH_TOKEN; respmesh token create --scope node makes one")
	}
	return nil
}

// checkKnown refuses another name or region for a node that has its place in the mesh.
func (o *ServerOptions) checkKnown(known *identity) error {
	if o.Name != "" && o.Name != known.Name {
		return Usagef("--name: this data directory belongs to node %s; leave --name out, or use another --data", known.Name)
	}
	if o.Region != "" && o.Region != known.Region {
		return Usagef("--region: node %s is in %s and can't move; leave --region out, or make another node", known.Name, known.Region)
	}
	o.Name, o.Region = known.Name, known.Region
	return nil
}

func (o *ServerOptions) checkEndpoint() error {
	if o.Endpoint == "" {
		if o.Init {
			return Usagef("--endpoint is missing: the address where the other nodes will find this one by UDP, such as %s", "ams.example.org:51820")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(o.Endpoint)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		return Usagef("--endpoint: %q isn't host:port, such as ams.example.org:51820", o.Endpoint)
	}
	return nil
}

// identity is who a node is, kept with its data from the moment it became part of a mesh.
type identity struct {
	Name    string       `json:"name"`
	Region  string       `json:"region"`
	Infra   netip.Prefix `json:"infra"`
	Member  bool         `json:"member"`            // carries the control plane
	Members []string     `json:"members,omitempty"` // nodes that carry it, as last known
	Control []string     `json:"control,omitempty"` // their endpoints in the mesh, without this node's own
}

const identityName = "node.json"

// loadIdentity is nil where there is none.
func loadIdentity(dir string) (*identity, error) {
	raw, err := os.ReadFile(filepath.Join(dir, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, identityName), err)
	}
	return &id, nil
}

// IsMember tells whether a data directory belongs to a node that has its place in a mesh.
func IsMember(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityName))
	return err == nil
}

func (id *identity) save(dir string) error {
	return replaceJSON(filepath.Join(dir, identityName), id)
}

// replaceJSON writes a file for nodes and people.
func replaceJSON(path string, content any) error {
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(raw, '\n'))
}

// replaceFile writes a file so that a crash leaves the old or the new one.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is none
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// lockDir keeps a second process from using the same directory. The lock goes with the process, however that ends.
func lockDir(dir, flag string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, Usagef("%s: %s is in use by another respmesh", flag, dir)
		}
		return nil, err
	}
	return f, nil
}
