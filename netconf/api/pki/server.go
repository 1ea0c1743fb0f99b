package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"sync"
	"time"
)

// serverLifetime is short because renewing costs nothing: clients pin the key, which stays.
const serverLifetime = 90 * 24 * time.Hour

// Server has the control API's server certificate: self-signed, for a key that is kept, renewed in memory when half of
// its time is over.
type Server struct {
	key crypto.Signer
	pin string

	mu   sync.Mutex
	cert *tls.Certificate
}

// OpenServer reads the key's file, or makes it (0600).
func OpenServer(path string) (*Server, error) {
	key, err := OpenKey(path)
	if err != nil {
		return nil, fmt.Errorf("API certificate: %w", err)
	}
	s := &Server{key: key}
	cert, err := s.certificate(time.Now())
	if err != nil {
		return nil, fmt.Errorf("API certificate: %w", err)
	}
	s.pin = Pin(cert.Leaf)
	return s, nil
}

// Pin is what clients pin: print it where the API's address is printed.
func (s *Server) Pin() string { return s.pin }

// Config is the server's side of TLS.
func (s *Server) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate(time.Now()) },
	}
}

// certificate gives the current certificate, or makes it.
func (s *Server) certificate(now time.Time) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert != nil && now.Before(s.cert.Leaf.NotAfter.Add(-serverLifetime/2)) {
		return s.cert, nil
	}
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "respmesh control API"},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(serverLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"respmesh"},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, s.key.Public(), s.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	s.cert = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.key, Leaf: leaf}
	return s.cert, nil
}
