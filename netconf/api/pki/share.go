package pki

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
)

// The CA's key is on every member of the control plane, so that each of them can take nodes in. A member that lacks it asks
// one that has it. It makes a key pair for this one question and signs its public half with the key of its certificate; the
// answer is the CA's key, sealed to that half (RFC 9180: DHKEM X25519, HKDF-SHA256, AES-256-GCM). So the answer is of use to
// the asking process alone, also for whoever repeats the question. What comes back is taken only if it is the key of the CA
// that the node trusts already. Whether the node is a member is for the caller of Share to know.

// shareInfo binds signature and seal to this use.
const shareInfo = "respmesh control CA key v1"

// Question asks for the CA's key.
type Question struct {
	private     hpke.PrivateKey
	Certificate []byte // the node's, PEM
	PublicKey   []byte // of this question
	Signature   []byte // of the node's key over PublicKey
}

// Ask makes a question of the node with a certificate and its key.
func Ask(key crypto.Signer, certificate []byte) (*Question, error) {
	pair, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("ask for the CA's key: %w", err)
	}
	q := &Question{private: pair, Certificate: certificate, PublicKey: pair.PublicKey().Bytes()}
	digest := shareDigest(q.PublicKey)
	if q.Signature, err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		return nil, fmt.Errorf("ask for the CA's key: %w", err)
	}
	return q, nil
}

func shareDigest(public []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(shareInfo+"\x00"), public...))
}

// Share answers the question of the node of that name.
func (ca *CA) Share(q *Question, name string) (sealed []byte, err error) {
	leaf, err := parseCert(q.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if err := verifyNode(leaf, ca.Pool()); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	digest := shareDigest(q.PublicKey)
	switch {
	case leaf.Subject.CommonName != name:
		return nil, errors.New("certificate: it is another node's")
	case !ok || !ecdsa.VerifyASN1(public, digest[:], q.Signature):
		return nil, errors.New("signature: it isn't that of the certificate's key")
	}
	to, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(q.PublicKey)
	if err != nil {
		return nil, errors.New("public key: it isn't one of X25519")
	}
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, err
	}
	return hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(shareInfo), der)
}

// Take opens the answer and keeps the key (0600) beside the CA's certificate in a directory, if it is that CA's.
func (q *Question) Take(dir string, sealed []byte) (*CA, error) {
	der, err := hpke.Open(q.private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(shareInfo), sealed)
	if err != nil {
		return nil, errors.New("the CA's key: it isn't sealed to this node")
	}
	ca, err := readCA(filepath.Join(dir, caCertName))
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || !ca.signedWith(key) {
		return nil, errors.New("the CA's key: it isn't the one of the CA that this node trusts")
	}
	ca.key = key
	if err := writeFile(filepath.Join(dir, caKeyName), pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	return ca, nil
}
