package node

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"

	"respmesh/netconf/api/pki"
	"respmesh/netconf/etcd"
)

// serverKeys are a node's key and certificate for the control plane, and the key of its API for other hosts.
type serverKeys struct {
	dir string
	key crypto.Signer
	api *pki.Server
	ca  atomic.Pointer[pki.CA] // on members of the control plane, where nodes are enrolled; nil elsewhere
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
func openKeys(dir string, authority bool) (_ *serverKeys, err error) {
	k := &serverKeys{dir: dir}
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
		k.ca.Store(ca)
	}
	return k, nil
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
	return replaceFile(k.path(nodeCertName), cert)
}

// keep writes down what another node's authority has signed.
func (k *serverKeys) keep(ca, cert string) error {
	if err := replaceFile(k.path(caCertName), []byte(ca)); err != nil {
		return err
	}
	return replaceFile(k.path(nodeCertName), []byte(cert))
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
	return client, err
}

func controlURL(addr netip.Addr) string {
	return "https://" + netip.AddrPortFrom(addr, controlPort).String()
}
