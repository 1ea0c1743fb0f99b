package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

const (
	tick = 100 * time.Millisecond
	// electionTick is how long members wait for their leader, in ticks, before they elect another one; up to twice as long, by chance. Each
	// round of votes has to fit into it, between regions too. A new leader extends all leases by it, since those who hold them
	// have to find it first; leases can't be shorter than 1.5 times it.
	electionTick = 6
	quota        = 256 << 20
	// maxTxnOps bounds the records that one change may touch; etcd's own 128 is few for the removal of an org.
	maxTxnOps     = 8192
	walSegment    = 4 << 20
	keepRevisions = "1000"
	startTimeout  = 30 * time.Second
	clusterToken  = "respmesh"
	socketName    = "control.sock"
	defaultName   = "control"
	// aloneURL stands for a peer URL where a member has none: nothing listens there.
	aloneURL = "http://127.0.0.1:1"
)

// TLSFiles are a member's certificate, its key and the authority that signs members' and clients' certificates, as PEM
// files. Certificate and key are read again for each connection: replace them to rotate.
type TLSFiles struct {
	Cert, Key, CA string
}

// MemberOptions of an etcd member in this process.
type MemberOptions struct {
	Dir  string // its data; made with mode 0700
	Name string // "": "control"
	// Clients and Peers are where it listens: loopback or mesh addresses, port 0 for any. They need TLS: both sides
	// show a certificate. Without Clients it listens on a socket in Dir that only this user can reach; without Peers it
	// stays the only member.
	Clients []netip.AddrPort
	Peers   []netip.AddrPort
	// AdvertisePeers are the URLs where the other members reach it; none: those of Peers.
	AdvertisePeers []string
	TLS            TLSFiles
	// InitialCluster names all members with their peer URLs, as etcd writes it: a=https://…,b=https://…; "": this one
	// alone. Of use only for the first start, as is Join: to be added to a cluster that runs (see AddMember).
	InitialCluster string
	Join           bool
	// Temporary data isn't synced to disk.
	Temporary bool
	Log       *slog.Logger
}

// Member is an etcd member in this process. Close it, after the clients.
type Member struct {
	etcd      *embed.Etcd
	endpoints []string
	peers     []string
	dir       string
	socketDir string // to be removed; "": none
	unlock    func()
	closing   atomic.Bool
	close     sync.Once

	mu   sync.Mutex
	grpc []*grpc.Server // what clients are served by
}

// StartMember starts a member and waits until it takes part in its cluster.
func StartMember(ctx context.Context, o MemberOptions) (*Member, error) {
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// A port found free may be taken before etcd listens there: then another one is tried.
	for attempt := 0; ; attempt++ {
		m, err := startMember(ctx, o)
		if err == nil || attempt == 5 || !errors.Is(err, syscall.EADDRINUSE) || !anyPort(o) {
			return m, err
		}
	}
}

func anyPort(o MemberOptions) bool {
	for _, a := range append(o.Clients, o.Peers...) {
		if a.Port() == 0 {
			return true
		}
	}
	return false
}

// smallSegments makes etcd reserve less disk for its log than the 2 × 64 MB that suit large clusters. It is a variable of
// etcd's package, so it is set once, before the first member starts.
var smallSegments = sync.OnceFunc(func() { wal.SegmentSizeBytes = walSegment })

func startMember(ctx context.Context, o MemberOptions) (_ *Member, err error) {
	smallSegments()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("control data: %w", err)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("control data: %w", err)
	}
	m := &Member{dir: o.Dir}
	if m.unlock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.cleanUp()
		}
	}()
	cfg, err := m.config(o)
	if err != nil {
		return nil, err
	}
	m.etcd, err = embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err := m.ready(ctx, cfg); err != nil {
		m.closing.Store(true)
		m.etcd.Server.HardStop() // before Close, which waits for a server that waits to be ready or to be stopped
		m.etcd.Close()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if len(o.Peers) > 0 {
		if err := m.correctPeerURLs(ctx); err != nil {
			m.etcd.Close()
			return nil, err
		}
	}
	return m, nil
}

func (m *Member) config(o MemberOptions) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = o.Dir, o.Name
	cfg.TickMs, cfg.ElectionMs = uint(tick.Milliseconds()), uint(electionTick*tick.Milliseconds())
	cfg.QuotaBackendBytes = quota // also what is mapped into memory
	cfg.MaxTxnOps = maxTxnOps
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2000, 500
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, keepRevisions
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.UnsafeNoFsync = o.Temporary
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(o.Log, &m.closing))
	cfg.AuthToken = "" // no etcd users: certificates
	cfg.InitialClusterToken = clusterToken
	cfg.ServiceRegister = func(s *grpc.Server) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.grpc = append(m.grpc, s)
	}
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	if (len(o.Clients) > 0 || len(o.Peers) > 0) && (o.TLS.Cert == "" || o.TLS.Key == "" || o.TLS.CA == "") {
		return nil, errors.New("control: a certificate, a key and an authority are needed to listen on an address")
	}
	tlsInfo := transport.TLSInfo{
		CertFile: o.TLS.Cert, KeyFile: o.TLS.Key, TrustedCAFile: o.TLS.CA,
		ClientCertAuth: true,
	}
	var err error
	cfg.ListenClientUrls, cfg.ListenPeerUrls = nil, nil
	if len(o.Clients) > 0 {
		cfg.ClientTLSInfo = tlsInfo
		if cfg.ListenClientUrls, err = listenURLs(o.Clients); err != nil {
			return nil, err
		}
	} else {
		socket, err := m.socket()
		if err != nil {
			return nil, err
		}
		cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	for _, u := range cfg.ListenClientUrls {
		m.endpoints = append(m.endpoints, u.String())
	}
	cfg.AdvertisePeerUrls = []url.URL{mustURL(aloneURL)}
	if len(o.Peers) > 0 {
		cfg.PeerTLSInfo = tlsInfo
		if cfg.ListenPeerUrls, err = listenURLs(o.Peers); err != nil {
			return nil, err
		}
		cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
		if len(o.AdvertisePeers) > 0 {
			cfg.AdvertisePeerUrls = nil
			for _, s := range o.AdvertisePeers {
				u, err := url.Parse(s)
				if err != nil || u.Scheme != "https" {
					return nil, fmt.Errorf("control: peer URL %q: want https://host:port", s)
				}
				cfg.AdvertisePeerUrls = append(cfg.AdvertisePeerUrls, *u)
			}
		}
	}
	for _, u := range cfg.AdvertisePeerUrls {
		m.peers = append(m.peers, u.String())
	}
	cfg.InitialCluster = o.InitialCluster
	if cfg.InitialCluster == "" {
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	}
	return cfg, nil
}

func mustURL(s string) url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // a constant
	}
	return *u
}

// listenURLs finds ports where none is given.
func listenURLs(addrs []netip.AddrPort) ([]url.URL, error) {
	mesh := netip.MustParsePrefix("fd00::/8")
	var urls []url.URL
	for _, a := range addrs {
		if !a.Addr().IsLoopback() && !mesh.Contains(a.Addr()) {
			return nil, fmt.Errorf("control: address %s: it listens on loopback and mesh addresses only", a.Addr())
		}
		if a.Port() == 0 {
			l, err := net.Listen("tcp", a.String())
			if err != nil {
				return nil, err
			}
			a = l.Addr().(*net.TCPAddr).AddrPort()
			if err := l.Close(); err != nil {
				return nil, err
			}
		}
		urls = append(urls, url.URL{Scheme: "https", Host: a.String()})
	}
	return urls, nil
}

// socket is the path of the clients' socket: in the data directory, or, where that is too long for one (sun_path has 104 bytes
// on some systems), in a directory of its own. Both are 0700.
func (m *Member) socket() (string, error) {
	path, err := filepath.Abs(filepath.Join(m.dir, socketName))
	if err != nil {
		return "", err
	}
	if len(path) > 100 {
		if m.socketDir, err = os.MkdirTemp("", "respmesh-"); err != nil {
			return "", err
		}
		path = filepath.Join(m.socketDir, socketName)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // left by a crash; the directory is locked
		return "", err
	}
	return path, nil
}

// ready waits until the member has a leader and is known to the cluster.
func (m *Member) ready(ctx context.Context, cfg *embed.Config) error {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	// A cluster of one needn't wait for an election's time: nobody else could win it.
	var hurry <-chan time.Time
	if members := m.etcd.Server.Cluster().Members(); len(members) <= 1 && !strings.Contains(cfg.InitialCluster, ",") && cfg.IsNewCluster() {
		t := time.NewTicker(2 * time.Millisecond)
		defer t.Stop()
		hurry = t.C
	}
	for {
		select {
		case <-m.etcd.Server.ReadyNotify():
			return nil
		case <-hurry:
			if m.etcd.Server.Leader() != 0 {
				hurry = nil
				continue
			}
			m.campaign(ctx)
		case err := <-m.etcd.Err():
			return err
		case <-m.etcd.Server.StopNotify():
			return errors.New("it stopped")
		case <-timeout.C:
			return fmt.Errorf("no leader after %s; do the other members run?", startTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// campaign makes the member stand for election at once, by the message with which a leader hands over. It does nothing
// until the member has applied who belongs to the cluster.
func (m *Member) campaign(ctx context.Context) {
	s := m.etcd.Server
	id := uint64(s.MemberID())
	_ = s.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: proto.Uint64(id), To: proto.Uint64(id)})
}

// correctPeerURLs makes known where this member is reached now, where that has changed since its last start, as when it
// was alone and gets company.
func (m *Member) correctPeerURLs(ctx context.Context) error {
	self := m.etcd.Server.Cluster().Member(m.etcd.Server.MemberID())
	if self == nil || strings.Join(self.PeerURLs, ",") == strings.Join(m.peers, ",") {
		return nil
	}
	update := *self
	update.PeerURLs = m.peers
	if _, err := m.etcd.Server.UpdateMember(ctx, update); err != nil {
		return fmt.Errorf("control: make the peer URL known: %w", err)
	}
	return nil
}

// Endpoints are the URLs for clients.
func (m *Member) Endpoints() []string { return m.endpoints }

// PeerURLs are where the other members reach it.
func (m *Member) PeerURLs() []string { return m.peers }

// ID is the member's in its cluster.
func (m *Member) ID() uint64 { return uint64(m.etcd.Server.MemberID()) }

// Client makes a client of this member alone. Through its socket it needs no TLS.
func (m *Member) Client(tls *tls.Config) (*clientv3.Client, error) {
	return NewClient(ClientOptions{Endpoints: m.endpoints, TLS: tls})
}

// Done is closed when the member has stopped, also by itself.
func (m *Member) Done() <-chan struct{} { return m.etcd.Server.StopNotify() }

// Close stops the member. Clients that are still connected are cut off.
func (m *Member) Close() error {
	m.close.Do(func() {
		m.closing.Store(true)
		// etcd would wait for watches to end by themselves, for seconds.
		m.mu.Lock()
		for _, s := range m.grpc {
			stopAtOnce(s)
		}
		m.mu.Unlock()
		m.etcd.Close()
		m.cleanUp()
	})
	return nil
}

// stopAgain is how long a server has to stop until it is told once more.
const stopAgain = 100 * time.Millisecond

// stopAtOnce cuts off a server's clients. Stop waits for all of them, but closes only those that are there when it is called: a call
// that comes by HTTP a moment later, as the listeners are etcd's and still open, lasts as long as it likes. So it is told again.
func stopAtOnce(s *grpc.Server) {
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		s.Stop()
		close(stopped)
	})
	again := time.NewTicker(stopAgain)
	defer again.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-again.C:
			wg.Go(s.Stop)
		}
	}
}

func (m *Member) cleanUp() {
	if m.socketDir != "" {
		_ = os.RemoveAll(m.socketDir)
	}
	m.unlock()
}

// lockDir keeps two processes from the same data.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control data: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("control data %s is in use by another process", dir)
	}
	return func() { _ = f.Close() }, nil
}
