package etcd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"respmesh/netconf"
)

// authority makes an authority and a certificate of it for loopback, good for members and clients.
func authority(t *testing.T) (TLSFiles, *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	sign := func(tmpl, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, parentKey = tmpl, k
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &k.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, k, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	ca, caKey, caPEM := sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	_, k, certPEM := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	files := TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	for file, data := range map[string][]byte{files.Cert: certPEM, files.Key: keyPEM, files.CA: caPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return files, &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func startTestMember(t *testing.T, o MemberOptions) *Member {
	t.Helper()
	o.Temporary, o.Log = true, testLog(t)
	m, err := StartMember(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func loopback() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)}
}

func TestMemberDirectory(t *testing.T) {
	// Raft would wait for an election's time, a second at least, each time. On a busy machine one of several starts has to do.
	var dir string
	var m *Member
	const election = electionTick * tick
	for attempt, took := 0, election; took >= election; attempt++ {
		if attempt == 10 {
			t.Fatal("no start is shorter than an election")
		}
		if m != nil {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		dir = filepath.Join(t.TempDir(), "etcd")
		start := time.Now()
		m = startTestMember(t, MemberOptions{Dir: dir})
		took = time.Since(start)
		t.Logf("first start in %s", took)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if d.IsDir() && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := StartMember(t.Context(), MemberOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("started twice on the same data: %v", err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	<-m.Done()
	// A directory that others could read is closed to them.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // that's the point
		t.Fatal(err)
	}
	start := time.Now()
	startTestMember(t, MemberOptions{Dir: dir})
	t.Logf("second start in %s", time.Since(start))
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info.Mode(), err)
	}
}

func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 20))
	m := startTestMember(t, MemberOptions{Dir: dir})
	c, err := m.Client(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

func TestMemberAddresses(t *testing.T) {
	files, _ := authority(t)
	for name, o := range map[string]MemberOptions{
		"every address": {Clients: []netip.AddrPort{netip.MustParseAddrPort("[::]:0")}, TLS: files},
		"public":        {Peers: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:0")}, TLS: files},
		"no TLS":        {Clients: loopback()},
		"plain peer":    {Peers: loopback(), AdvertisePeers: []string{"http://127.0.0.1:1"}, TLS: files},
	} {
		o.Dir = t.TempDir()
		if m, err := StartMember(t.Context(), o); err == nil {
			t.Errorf("%s: started", name)
			_ = m.Close()
		}
	}
}

func TestMutualTLS(t *testing.T) {
	files, good := authority(t)
	_, foreign := authority(t)
	m := startTestMember(t, MemberOptions{Dir: t.TempDir(), Clients: loopback(), TLS: files})
	for name, c := range map[string]struct {
		tls *tls.Config
		ok  bool
	}{
		"a certificate":             {good, true},
		"no certificate":            {&tls.Config{RootCAs: good.RootCAs, MinVersion: tls.VersionTLS12}, false},
		"another authority's":       {&tls.Config{RootCAs: good.RootCAs, Certificates: foreign.Certificates, MinVersion: tls.VersionTLS12}, false},
		"a server that isn't known": {&tls.Config{RootCAs: foreign.RootCAs, Certificates: good.Certificates, MinVersion: tls.VersionTLS12}, false},
	} {
		client, err := m.Client(c.tls)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if !c.ok {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		}
		if _, err = client.Get(ctx, "x"); (err == nil) != c.ok {
			t.Errorf("with %s: %v", name, err)
		}
		cancel()
		_ = client.Close()
	}
}

// One member grows to three, which survive any one of them, and shrinks again.
func TestThreeMembers(t *testing.T) {
	files, tlsConfig := authority(t)
	dir := t.TempDir()
	options := func(name string) MemberOptions {
		return MemberOptions{Dir: filepath.Join(dir, name), Name: name, Clients: loopback(), Peers: loopback(), TLS: files}
	}
	// The first was alone before, without a peer URL.
	alone := options("a")
	alone.Peers = nil
	m := startTestMember(t, alone)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	members := map[string]*Member{"a": startTestMember(t, options("a"))}
	first, err := members["a"].Client(tlsConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	ports := map[string]netip.AddrPort{}
	for _, name := range []string{"b", "c"} {
		o := options(name)
		o.Peers = []netip.AddrPort{netip.MustParseAddrPort(freePort(t))}
		ports[name] = o.Peers[0]
		o.Join = true
		url := []string{"https://" + o.Peers[0].String()}
		id, cluster, err := AddMember(ctx, first, NewMember{Name: name, PeerURLs: url, Most: 3})
		if err != nil {
			t.Fatal(err)
		}
		if again, same, err := AddMember(ctx, first, NewMember{Name: name, PeerURLs: url, Most: 3}); err != nil || again != id || same != cluster {
			t.Fatalf("added again: %x %s %v", again, same, err)
		}
		o.InitialCluster = cluster
		members[name] = startTestMember(t, o)
		if err := PromoteMember(ctx, first, id); err != nil {
			t.Fatal(err)
		}
	}
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.Endpoints()...)
	}
	client, err := NewClient(ClientOptions{Endpoints: endpoints, TLS: tlsConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r, err := Open(t.Context(), Options{Client: client, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	db := fillMesh(t, r)
	session := newSession(t, r, "mad-1")
	claim(t, session, db, netconf.Primary{})
	for _, gone := range []string{"a", "b", "c"} {
		if err := members[gone].Close(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		update(t, r, addOrg("without-"+gone))
		t.Logf("without %s: changed after %s", gone, time.Since(start))
		o := options(gone)
		o.Clients = []netip.AddrPort{netip.MustParseAddrPort(strings.TrimPrefix(members[gone].Endpoints()[0], "https://"))}
		o.Peers = []netip.AddrPort{netip.MustParseAddrPort(strings.TrimPrefix(members[gone].PeerURLs()[0], "https://"))}
		members[gone] = startTestMember(t, o)
	}
	eventually(t, "the session has survived", session.Running)
	if session.Claims()[db.ID] != 1 {
		t.Errorf("claims after three failures: %v", session.Claims())
	}
	for _, name := range []string{"c", "b"} {
		if err := RemoveMember(ctx, client, name); err != nil {
			t.Fatal(err)
		}
		select {
		case <-members[name].Done(): // by itself
		case <-time.After(patience):
			t.Fatalf("%s was removed and doesn't stop", name)
		}
	}
	update(t, r, addOrg("alone-again"))
	if err := RemoveMember(ctx, client, "b"); !errors.Is(err, netconf.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// A member whose others don't come gives up when it is told to, and leaves nothing behind.
func TestStartAlone(t *testing.T) {
	files, _ := authority(t)
	peers := []netip.AddrPort{netip.MustParseAddrPort(freePort(t))}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	failed := make(chan error, 1)
	dir := t.TempDir()
	go func() {
		m, err := StartMember(ctx, MemberOptions{
			Dir: dir, Name: "a", Clients: loopback(), Peers: peers, TLS: files, Temporary: true, Log: testLog(t),
			InitialCluster: "a=https://" + peers[0].String() + ",b=https://127.0.0.1:1",
		})
		if err == nil {
			_ = m.Close()
		}
		failed <- err
	}()
	select {
	case err := <-failed:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it started, or failed with %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("it hangs")
	}
}

// TestEnoughMembers has a node come when others already have taken the place.
func TestEnoughMembers(t *testing.T) {
	ctx := t.Context()
	m := startTestMember(t, MemberOptions{Dir: t.TempDir(), Temporary: true})
	client, err := m.Client(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	second := NewMember{Name: "b", PeerURLs: []string{"https://127.0.0.1:1"}, Most: 1}
	if _, _, err := AddMember(ctx, client, second); !errors.Is(err, ErrEnoughMembers) {
		t.Fatalf("a second of one member: %v", err)
	}
	if list, err := client.MemberList(ctx); err != nil || len(list.Members) != 1 {
		t.Fatalf("after a second wanted to become a member: %v, %v", list, err)
	}
}

func TestBackupAndRestore(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		file := filepath.Join(t.TempDir(), "topology.json")
		client := s.client(t, nil)
		r := s.registry(t, Options{Client: client, Snapshot: file})
		db := fillMesh(t, r)
		session := newSession(t, r, "mad-1")
		claim(t, session, db, netconf.Primary{})
		want, _ := r.Current()
		var backup bytes.Buffer
		if err := Backup(t.Context(), client, &backup); err != nil {
			t.Fatal(err)
		}
		update(t, r, addOrg("later"))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "restored")
		path := filepath.Join(t.TempDir(), "backup")
		write := func(data []byte) {
			t.Helper()
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for name, damage := range map[string]func([]byte) []byte{
			"cut short":  func(b []byte) []byte { return b[:len(b)-100] },
			"a bit off":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"not one":    func([]byte) []byte { return []byte("hello") },
			"empty file": func([]byte) []byte { return nil },
		} {
			write(damage(bytes.Clone(backup.Bytes())))
			if err := Restore(path, RestoreOptions{Dir: dir}); err == nil {
				t.Errorf("restored a backup that is %s", name)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: something is left: %v", name, err)
			}
		}
		write(backup.Bytes())
		if err := Restore(path, RestoreOptions{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("restored directory: %v %v", info, err)
		}
		if err := Restore(path, RestoreOptions{Dir: dir}); err == nil {
			t.Error("restored over data")
		}
		m := startTestMember(t, MemberOptions{Dir: dir})
		restored, err := m.Client(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = restored.Close() })
		// A node that had seen more follows the backup all the same.
		r = s.registry(t, Options{Client: restored, Snapshot: file})
		got, _ := r.Current()
		if !reflect.DeepEqual(got.State, want.State) {
			t.Errorf("restored:\n%+v\nwas:\n%+v", got.State, want.State)
		}
		update(t, r, addOrg("after"))
		// The lease of before the backup ends, and the term goes on.
		until(t, r, "the old lease gone", func(t *netconf.Topology) bool { return !t.Live.Primaries[db.ID].Held })
		if term := claim(t, newSession(t, r, "mad-2"), db, netconf.Primary{Node: "mad-1", Term: 1}); term != 2 {
			t.Errorf("term %d after the restoration", term)
		}
	})
}

// A registry that follows a server whose data is replaced by a backup under it follows that.
func TestRestoredUnderneath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	m := startTestMember(t, MemberOptions{Dir: dir})
	s := &server{network: "unix", endpoint: m.Endpoints()[0]}
	r := s.registry(t, Options{})
	fillMesh(t, r)
	path := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Backup(t.Context(), s.client(t, nil), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	update(t, r, addOrg("later"))
	if err := errors.Join(m.Close(), os.RemoveAll(dir), Restore(path, RestoreOptions{Dir: dir})); err != nil {
		t.Fatal(err)
	}
	startTestMember(t, MemberOptions{Dir: dir})
	until(t, r, "the state of the backup", func(t *netconf.Topology) bool { return t.Revision == 2 && len(t.Orgs) == 1 })
	eventually(t, "it is connected", r.Connected)
	update(t, r, addOrg("again"))
}

// What an idle embedded member with ten registries and sessions costs. RESPMESH_MEASURE=10s makes it exact.
func TestIdleCost(t *testing.T) {
	span := 500 * time.Millisecond
	if v := os.Getenv("RESPMESH_MEASURE"); v != "" {
		var err error
		if span, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	s := startEmbedded(t)
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	measure := func(what string) float64 {
		before := cpu()
		<-time.After(span)
		share := float64(cpu()-before) / float64(span) * 100
		status, _ := os.ReadFile("/proc/self/status")
		_, rss, _ := strings.Cut(string(status), "VmRSS:")
		rss, _, _ = strings.Cut(rss, "\n")
		t.Logf("%s: %.2f%% of a core, RSS %s", what, share, strings.TrimSpace(rss))
		return share
	}
	measure("member alone")
	for i := range 10 {
		r := s.registry(t, Options{TTL: 3 * time.Second})
		if i == 0 {
			fillMesh(t, r)
		}
		newSession(t, r, fmt.Sprintf("n%d", i))
	}
	if share := measure("member and ten nodes"); share > 50 {
		t.Errorf("idle, it takes %.0f%% of a core", share)
	}
	var size int64
	_ = filepath.WalkDir(filepath.Dir(s.addr), func(_ string, d fs.DirEntry, err error) error {
		if info, ierr := d.Info(); err == nil && ierr == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				size += st.Blocks * 512
			}
		}
		return nil
	})
	t.Logf("on disk: %d MiB", size>>20)
}
