package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// meet has a client and a server shake hands and gives both sides' errors. Over TCP: on a net.Pipe both could wait for
// the other to read its alert.
func meet(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		a, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer a.Close()
		s := tls.Server(a, server)
		if err = s.Handshake(); err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	b, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := tls.Client(b, client)
	atClient = c.Handshake()
	if atClient == nil { // TLS 1.3 tells of a refused client certificate later
		_, atClient = io.ReadFull(c, make([]byte, 1))
	}
	b.Close()
	return <-done, atClient
}

func node(t *testing.T, ca *CA, name string) (server, client *tls.Config) {
	t.Helper()
	key, err := OpenKey(filepath.Join(t.TempDir(), "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := Request(key, "ignored")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignNode(csr, name, netip.MustParseAddr("fd00:1::7"))
	if err != nil {
		t.Fatal(err)
	}
	server, client, err = Config(ca.PEM(), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

func openCA(t *testing.T, dir string) *CA {
	t.Helper()
	ca, err := OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestMutualTLS(t *testing.T) {
	ca, other := openCA(t, t.TempDir()), openCA(t, t.TempDir())
	server, client := node(t, ca, "mad-1")
	_, stranger := node(t, other, "mad-1")
	client.ServerName = "fd00:1::7"
	if s, c := meet(t, server, client); s != nil || c != nil {
		t.Fatalf("%v, %v", s, c)
	}
	client.ServerName = "fd00:1::8"
	if _, c := meet(t, server, client); c == nil {
		t.Error("a server at another address is taken for this one")
	}
	stranger.RootCAs, stranger.ServerName = client.RootCAs, "mad-1"
	if s, _ := meet(t, server, stranger); s == nil {
		t.Error("a client of another mesh is let in")
	}
	nobody := &tls.Config{RootCAs: client.RootCAs, ServerName: "mad-1"}
	if s, _ := meet(t, server, nobody); s == nil {
		t.Error("a client without a certificate is let in")
	}
	leaf := server.Certificates[0].Leaf
	if leaf.Subject.CommonName != "mad-1" || leaf.IsCA {
		t.Errorf("subject %s, CA %v", leaf.Subject, leaf.IsCA)
	}
}

func TestCAIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "control")
	first := openCA(t, dir)
	for name, mode := range map[string]os.FileMode{".": 0o700 | os.ModeDir, "ca.key": 0o600, "ca.crt": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if !bytes.Equal(openCA(t, dir).PEM(), first.PEM()) {
		t.Error("it was made anew")
	}
	// Killed between the two files.
	if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if again := openCA(t, dir); !again.cert.PublicKey.(*ecdsa.PublicKey).Equal(first.cert.PublicKey) {
		t.Error("the key was made anew")
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestWrongFiles(t *testing.T) {
	dir := t.TempDir()
	openCA(t, dir)
	key, cert := filepath.Join(dir, "ca.key"), filepath.Join(dir, "ca.crt")
	try := func(text string) {
		t.Helper()
		if _, err := OpenCA(dir); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	try("others may read it; run chmod 600")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	try("it isn't the certificate of ca.key beside it")
	if err := os.WriteFile(key, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	try("it isn't a private key in PEM")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	try("it isn't a certificate in PEM")
}

func TestRequests(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short, err := Request(weak, "x")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := Request(key, "x")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged := pem.EncodeToMemory(block)
	for what, csr := range map[string][]byte{
		"nothing": nil, "junk": []byte("junk"), "a forged one": forged, "a short key": short,
		"two": append(bytes.Clone(good), good...), "another block": pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: block.Bytes}),
	} {
		if CheckRequest(csr) == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if err := CheckRequest(good); err != nil {
		t.Error(err)
	}
}

func TestPinnedServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.key")
	s, err := OpenServer(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenServer(path)
	if err != nil || again.Pin() != s.Pin() {
		t.Fatalf("after a restart the pin is %s, was %s, %v", again.Pin(), s.Pin(), err)
	}
	other, err := OpenServer(filepath.Join(t.TempDir(), "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := Pinned(s.Pin())
	if err != nil {
		t.Fatal(err)
	}
	if atServer, atClient := meet(t, s.Config(), client); atServer != nil || atClient != nil {
		t.Errorf("%v, %v", atServer, atClient)
	}
	if _, err := meet(t, other.Config(), client); !errors.Is(err, ErrPin) {
		t.Errorf("another server: %v", err)
	}
	for _, pin := range []string{"", "x", "AAAA", s.Pin() + "=", strings.ToLower(s.Pin())[:43] + "\n"} {
		if _, err := Pinned(pin); err == nil {
			t.Errorf("pin %q is taken", pin)
		}
	}
}

// The certificate is renewed while the server runs; the pin stays.
func TestServerRenews(t *testing.T) {
	s, err := OpenServer(filepath.Join(t.TempDir(), "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	first, err := s.certificate(now.Add(serverLifetime / 3))
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(serverLifetime * 2 / 3)
	second, err := s.certificate(later)
	if err != nil {
		t.Fatal(err)
	}
	if first == second || second.Leaf.NotAfter.Before(later.Add(serverLifetime/2)) || Pin(second.Leaf) != s.Pin() {
		t.Errorf("until %s, then until %s", first.Leaf.NotAfter, second.Leaf.NotAfter)
	}
}

// A node's certificate never outlives the CA's.
func TestLifetimes(t *testing.T) {
	ca := openCA(t, t.TempDir())
	soon := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	ca.cert.NotAfter = soon
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := Request(key, "x")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignNode(csr, "x", netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if _, end, err := Validity(cert); err != nil || !end.Equal(soon) {
		t.Errorf("until %s, %v", end, err)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if leaf.SerialNumber.BitLen() != 127 {
		t.Errorf("serial of %d bits", leaf.SerialNumber.BitLen())
	}
}
