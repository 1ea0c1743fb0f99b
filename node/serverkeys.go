package node

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"respmesh/netconf/api/pki"
	"respmesh/netconf/etcd"
)

// serverKeys are a node's key and certificate for the control plane, and the key of its API for other hosts.
type serverKeys struct {
	dir string
	key crypto.Signer
	api *pki.Server
	ca  atomic.Pointer[pki.CA] // on members of the control plane, where nodes are enrolled; nil elsewhere
	// cert is the node's certificate, as the control plane's client shows it. A member of the control plane reads the file.
	cert atomic.Pointer[tls.Certificate]
	life time.Duration // of certificates that are signed here; 0: as usual
}

// Files in the directory of the keys.
const (
	keysDir      = "pki"
	nodeKeyName  = "node.key"
	nodeCertName = "node.crt"
	caCertName   = "ca.crt"
	apiKeyName   = "api.key"
)

// openKeys reads the keys, or makes them. With authority, also those that sign other nodes' certificates.
func openKeys(dir string, life time.Duration, authority bool) (_ *serverKeys, err error) {
	k := &serverKeys{dir: dir, life: life}
	if k.key, err = pki.OpenKey(k.path(nodeKeyName)); err != nil {
		return nil, err
	}
	if k.api, err = pki.OpenServer(k.path(apiKeyName)); err != nil {
		return nil, err
	}
	if _, serr := os.Stat(k.path("ca.key")); serr == nil || authority {
		ca, err := pki.OpenCA(dir)
		if err != nil {
			return nil, err
		}
		k.hold(ca)
	}
	return k, nil
}

// hold has the CA sign from now on.
func (k *serverKeys) hold(ca *pki.CA) {
	ca.Lifetime = k.life
	k.ca.Store(ca)
}

func (k *serverKeys) path(name string) string { return filepath.Join(k.dir, name) }

// request asks for a certificate.
func (k *serverKeys) request(name string) ([]byte, error) { return pki.Request(k.key, name) }

// sign makes the node's own certificate, where the CA's key is.
func (k *serverKeys) sign(name string, addr netip.Addr) error {
	csr, err := k.request(name)
	if err != nil {
		return err
	}
	cert, err := k.ca.Load().SignNode(csr, name, addr)
	if err != nil {
		return err
	}
	return k.replace(cert)
}

// replace has a new certificate used from the next connection on.
func (k *serverKeys) replace(cert []byte) error {
	ca, err := os.ReadFile(k.path(caCertName))
	if err != nil {
		return fmt.Errorf("control CA: %w", err)
	}
	if err := pki.CheckNode(ca, cert, k.key); err != nil {
		return err
	}
	if err := replaceFile(k.path(nodeCertName), cert); err != nil {
		return err
	}
	return k.load(cert)
}

func (k *serverKeys) load(cert []byte) error {
	block, _ := pem.Decode(cert)
	if block == nil {
		return errors.New("node certificate: it isn't PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("node certificate: %w", err)
	}
	k.cert.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: k.key, Leaf: leaf})
	return nil
}

// keep writes down what another node's authority has signed.
func (k *serverKeys) keep(ca, cert string) error {
	if err := replaceFile(k.path(caCertName), []byte(ca)); err != nil {
		return err
	}
	return k.replace([]byte(cert))
}

// question asks another member for the CA's key.
func (k *serverKeys) question() (*pki.Question, error) {
	cert, err := os.ReadFile(k.path(nodeCertName))
	if err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	return pki.Ask(k.key, cert)
}

// files are what an etcd member needs.
func (k *serverKeys) files() etcd.TLSFiles {
	return etcd.TLSFiles{Cert: k.path(nodeCertName), Key: k.path(nodeKeyName), CA: k.path(caCertName)}
}

// client is the client's side of TLS with the control plane.
func (k *serverKeys) client() (*tls.Config, error) {
	ca, err := os.ReadFile(k.path(caCertName))
	if err != nil {
		return nil, fmt.Errorf("control CA: %w", err)
	}
	cert, err := os.ReadFile(k.path(nodeCertName))
	if err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	_, client, err := pki.Config(ca, cert, k.key)
	if err != nil {
		return nil, err
	}
	if err := k.load(cert); err != nil {
		return nil, err
	}
	client.Certificates = nil
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.cert.Load(), nil }
	return client, nil
}

func controlURL(addr netip.Addr) string {
	return "https://" + netip.AddrPortFrom(addr, controlPort).String()
}
