// Package pki makes the certificates of the control plane: a CA of the mesh's own, whose certificates let nodes speak
// with etcd and with each other's etcd members, and a self-signed server certificate for the control API, which clients
// pin by its key. All keys are ECDSA P-256. Private keys are files of mode 0600, written whole or not at all, and none
// but the CA's leaves the machine that made it (see share.go).
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Lifetimes.
const (
	caLifetime   = 20 * 365 * 24 * time.Hour
	nodeLifetime = 90 * 24 * time.Hour // renewed over the mesh at half of it
	clockSkew    = time.Hour
)

const (
	caKeyName  = "ca.key"
	caCertName = "ca.crt"
)

const (
	blockCert    = "CERTIFICATE"
	blockRequest = "CERTIFICATE REQUEST"
	blockKey     = "PRIVATE KEY" // PKCS #8
)

// CA signs the nodes' certificates.
type CA struct {
	// Lifetime of the certificates that it signs; 0: 90 days.
	Lifetime time.Duration

	key  crypto.Signer
	cert *x509.Certificate
	pem  []byte
}

// OpenCA reads a directory's ca.crt and ca.key, and makes what isn't there: the directory (0700), the key, the
// certificate.
func OpenCA(dir string) (*CA, error) {
	key, err := OpenKey(filepath.Join(dir, caKeyName))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, caCertName)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		raw, err := makeCA(key)
		if err == nil {
			err = writeFile(path, raw, 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("control CA: %w", err)
		}
	}
	ca, err := readCA(path)
	if err != nil {
		return nil, err
	}
	if !ca.signedWith(key) {
		return nil, fmt.Errorf("control CA %s: it isn't the certificate of ca.key beside it; restore both from the same backup", path)
	}
	ca.key = key
	return ca, nil
}

// readCA reads the certificate; the key is still missing.
func readCA(path string) (*CA, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("control CA: %w", err)
	}
	cert, err := parseCert(raw)
	if err != nil {
		return nil, fmt.Errorf("control CA %s: %w", path, err)
	}
	return &CA{cert: cert, pem: raw}, nil
}

func (ca *CA) signedWith(key crypto.Signer) bool {
	public, ok := ca.cert.PublicKey.(*ecdsa.PublicKey)
	return ok && public.Equal(key.Public())
}

func makeCA(key crypto.Signer) ([]byte, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "respmesh control CA"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der}), nil
}

// PEM is the CA's certificate.
func (ca *CA) PEM() []byte { return append([]byte(nil), ca.pem...) }

// Pool holds the CA alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// SignNode signs a node's request. Only its key counts: name and addresses are the registry's. The certificate is good
// on both ends of a connection, at the node's address in the mesh, its alias and on loopback.
func (ca *CA) SignNode(request []byte, name string, addr netip.Addr) ([]byte, error) {
	csr, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	now, life := time.Now(), nodeLifetime
	if ca.Lifetime > 0 {
		life = ca.Lifetime
	}
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-min(clockSkew, life/10)),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{name, "localhost"},
		IPAddresses:           []net.IP{net.IPv6loopback, net.IPv4(127, 0, 0, 1)},
	}
	if addr.IsValid() {
		t.IPAddresses = append(t.IPAddresses, addr.AsSlice(), PeerAlias(addr).AsSlice())
	}
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, csr.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der}), nil
}

// PeerAlias is the loopback address that stands for a node's member of the control plane on the hosts of all members: the
// last two bytes are those of the node's address in the mesh. See RFC 1122, 3.2.1.3: all of 127/8 stays inside the host.
func PeerAlias(node netip.Addr) netip.Addr {
	a := node.As16()
	return netip.AddrFrom4([4]byte{127, 114, a[14], a[15]})
}

// Request makes a certificate request for a key.
func Request(key crypto.Signer, name string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockRequest, Bytes: der}), nil
}

// CheckRequest tells whether SignNode would take a request.
func CheckRequest(request []byte) error {
	_, err := parseRequest(request)
	return err
}

func parseRequest(request []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(request)
	if block == nil || block.Type != blockRequest || len(rest) > 0 {
		return nil, errors.New("it has to be one PEM block of type " + blockRequest)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, errors.New("it isn't a PKCS #10 request")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("its signature isn't its key's")
	}
	if k, ok := csr.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		return nil, errors.New("its RSA key is shorter than 2048 bits")
	}
	return csr, nil
}

// Config makes the two configurations of a node with a certificate of the CA's: as a server, which takes only clients
// with one, and as a client, which trusts only servers with one.
func Config(ca, certificate []byte, key crypto.Signer) (server, client *tls.Config, err error) {
	root, err := parseCert(ca)
	if err != nil {
		return nil, nil, fmt.Errorf("control CA: %w", err)
	}
	leaf, err := parseCert(certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("node certificate: %w", err)
	}
	if public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return nil, nil, errors.New("node certificate: it isn't the one of this node's key")
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	pair := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	server = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}
	client = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool}
	return server, client, nil
}

// Validity says from when to when a certificate is good.
func Validity(certificate []byte) (from, to time.Time, err error) {
	c, err := parseCert(certificate)
	if err != nil {
		return from, to, err
	}
	return c.NotBefore, c.NotAfter, nil
}

// CheckNode tells whether a certificate is one that a CA signed for a node's key and that is good now.
func CheckNode(ca, certificate []byte, key crypto.Signer) error {
	_, client, err := Config(ca, certificate, key)
	if err != nil {
		return err
	}
	if err := verifyNode(client.Certificates[0].Leaf, client.RootCAs); err != nil {
		return fmt.Errorf("node certificate: %w", err)
	}
	return nil
}

// verifyNode tells whether a certificate is a node's, of one of these CAs, and good now.
func verifyNode(leaf *x509.Certificate, roots *x509.CertPool) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

func parseCert(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != blockCert {
		return nil, errors.New("it isn't a certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// serial is 128 random bits, less the sign.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	b[0] |= 0x40 // never short, never zero
	return new(big.Int).SetBytes(b[:])
}

// OpenKey reads a private key's file, or makes it (0600, its directory 0700). One that others may read is refused.
func OpenKey(path string) (crypto.Signer, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %s: others may read it; run chmod 600 %s, or make a new one if somebody has", path, path)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != blockKey {
		return nil, fmt.Errorf("key %s: it isn't a private key in PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key %s: it isn't a private key", path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key %s: it isn't an ECDSA key", path)
	}
	return key, nil
}

func makeKey(path string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// writeFile writes a file whole or not at all.
func writeFile(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
