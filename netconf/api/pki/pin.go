package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
)

// Pin is the SHA-256 of a certificate's public key (SubjectPublicKeyInfo), in base64: it stays when the certificate is
// renewed with the same key (RFC 7469 calls it so).
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ErrPin is what a connection fails with whose server has another key than the pinned one.
var ErrPin = errors.New("the server's key isn't the pinned one")

// Pinned is a client's configuration that trusts exactly the key of a pin, whatever the certificate's names, issuer and
// dates are. TLS itself proves that the server holds the key.
func Pinned(pin string) (*tls.Config, error) {
	want, err := base64.StdEncoding.Strict().DecodeString(pin)
	if err != nil || len(want) != sha256.Size {
		return nil, fmt.Errorf("a pin is the base64 form of 32 bytes, such as the node prints")
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it, also for resumed sessions
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrPin
			}
			have := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(have[:], want) != 1 {
				return fmt.Errorf("%w: it is %s; somebody is in between, or the node has a new key", ErrPin, base64.StdEncoding.EncodeToString(have[:]))
			}
			return nil
		},
	}, nil
}
