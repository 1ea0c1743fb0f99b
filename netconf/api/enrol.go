package api

import (
	"context"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

// Enrolment. A node that joins has made its WireGuard key and a key for the control plane, neither of which travels.
//
//  1. GET /v1/join gives the server's X25519 key S, made at its start, and a nonce that is good for two minutes.
//  2. POST /v1/join brings the token, name, region, WireGuard public key W, endpoint, a certificate request, the nonce
//     and a proof that the sender holds W's private key:
//
//     key   = HKDF-SHA256(secret: X25519(W private, S), salt: nonce, info: "respmesh join v1"), 32 bytes
//     proof = HMAC-SHA256(key, S | W | token id | name | region | endpoint | SHA-256(csr)), each part behind its
//     length in 4 bytes, big endian
//
//  3. One transaction checks the token once more, adds the node and uses the token up. A retry of a used token by the
//     same key, name and region gets the same node again: an answer that was lost costs nothing.
//
// The nonce is time, randomness and a MAC over both, so that the server remembers nothing of those who only ask.

// Enroller gives a node that joined what it needs for the control plane.
type Enroller interface {
	// Ready tells whether nodes can be enrolled here now. It may change.
	Ready() bool
	// Enrol signs the node's certificate. It is called after the node is in the registry, and again for a retry.
	Enrol(ctx context.Context, node netconf.Node, csr []byte) (Enrolment, error)
	// Share answers a node of the mesh that asks for the CA's key. Only a member of the control plane gets it.
	Share(ctx context.Context, node netconf.Node, question *pki.Question) (sealed []byte, err error)
}

// Enrolment is what a node needs for the control plane.
type Enrolment struct {
	CA, Certificate []byte   // PEM
	Control         []string // endpoints
}

// LocalEnroller signs with a CA that is on this node.
type LocalEnroller struct {
	CA      func() *pki.CA  // nil: it isn't here (yet)
	Control func() []string // the endpoints to hand out
	// Member tells whether a node is a member of the control plane, with a vote.
	Member func(ctx context.Context, node netconf.Node) (bool, error)
}

// Ready implements Enroller.
func (e LocalEnroller) Ready() bool { return e.CA() != nil }

// Enrol implements Enroller.
func (e LocalEnroller) Enrol(_ context.Context, node netconf.Node, csr []byte) (Enrolment, error) {
	ca := e.CA()
	if ca == nil {
		return Enrolment{}, errNoEnroller
	}
	cert, err := ca.SignNode(csr, node.Name, node.Addr)
	if err != nil {
		return Enrolment{}, err
	}
	return Enrolment{CA: ca.PEM(), Certificate: cert, Control: e.Control()}, nil
}

// Share implements Enroller.
func (e LocalEnroller) Share(ctx context.Context, node netconf.Node, question *pki.Question) ([]byte, error) {
	ca := e.CA()
	if ca == nil {
		return nil, errNoEnroller
	}
	member, err := e.Member(ctx, node)
	switch {
	case err != nil:
		return nil, fmt.Errorf("who carries the control plane: %w", err)
	case !member:
		return nil, failf(CodeForbidden, "node %s doesn't carry the control plane; only such nodes hold the CA's key", node.Name)
	}
	sealed, err := ca.Share(question, node.Name)
	if err != nil {
		return nil, failf(CodeForbidden, "%v", err)
	}
	return sealed, nil
}

const (
	nonceLifetime = 2 * time.Minute
	nonceTime     = 8
	nonceRandom   = 16
	nonceMAC      = 32
	joinInfo      = "respmesh join v1"
)

// challenges makes nonces and checks proofs.
type challenges struct {
	key *ecdh.PrivateKey
	mac [32]byte
}

func newChallenges() (*challenges, error) {
	c := &challenges{}
	_, _ = rand.Read(c.mac[:]) // never fails
	var err error
	if c.key, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make the key that joining nodes prove theirs to: %w", err)
	}
	return c, nil
}

func (c *challenges) sign(nonce []byte) []byte {
	h := hmac.New(sha256.New, c.mac[:])
	h.Write(nonce[:nonceTime+nonceRandom])
	return h.Sum(nil)
}

func (c *challenges) nonce(now time.Time) []byte {
	n := make([]byte, nonceTime+nonceRandom, nonceTime+nonceRandom+nonceMAC)
	binary.BigEndian.PutUint64(n, uint64(now.Unix()))
	_, _ = rand.Read(n[nonceTime:])
	return append(n, c.sign(n)...)
}

// check tells whether a nonce is one of this server's and young enough.
func (c *challenges) check(nonce []byte, now time.Time) bool {
	if len(nonce) != nonceTime+nonceRandom+nonceMAC || !hmac.Equal(c.sign(nonce), nonce[nonceTime+nonceRandom:]) {
		return false
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(nonce)), 0)
	return now.Sub(made).Abs() <= nonceLifetime
}

// joinProof computes a proof: the node from its private key and the server's public one, the server the other way
// round.
func joinProof(private *ecdh.PrivateKey, public *ecdh.PublicKey, server, wireguard, nonce []byte, in JoinRequest) ([]byte, error) {
	shared, err := private.ECDH(public)
	if err != nil { // a key of low order, which anybody could prove to hold
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, shared, nonce, joinInfo, 32)
	if err != nil {
		return nil, err
	}
	id, _, _ := splitToken(in.Token)
	csr := sha256.Sum256([]byte(in.CSR))
	h := hmac.New(sha256.New, key)
	for _, part := range [][]byte{server, wireguard, []byte(id), []byte(in.Name), []byte(in.Region), []byte(in.Endpoint), csr[:]} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return h.Sum(nil), nil
}

// prove fills in the node's side.
func (in *JoinRequest) prove(private *ecdh.PrivateKey, ch JoinChallenge) error {
	server, err := base64.StdEncoding.DecodeString(ch.PublicKey)
	if err != nil {
		return fmt.Errorf("the challenge's key isn't base64: %w", err)
	}
	public, err := ecdh.X25519().NewPublicKey(server)
	if err != nil {
		return fmt.Errorf("the challenge's key: %w", err)
	}
	nonce, err := base64.StdEncoding.DecodeString(ch.Nonce)
	if err != nil {
		return fmt.Errorf("the challenge's nonce isn't base64: %w", err)
	}
	wireguard := private.PublicKey().Bytes()
	in.PublicKey, in.Nonce = base64.StdEncoding.EncodeToString(wireguard), ch.Nonce
	proof, err := joinProof(private, public, server, wireguard, nonce, *in)
	if err != nil {
		return fmt.Errorf("prove to hold the WireGuard key: %w", err)
	}
	in.Proof = base64.StdEncoding.EncodeToString(proof)
	return nil
}

// verify is the server's side.
func (c *challenges) verify(in JoinRequest, now time.Time) error {
	wireguard, err := base64.StdEncoding.Strict().DecodeString(in.PublicKey)
	if err != nil || len(wireguard) != 32 {
		return failf(CodeInvalid, "wireguard_key has to be the base64 form of 32 bytes, as wg pubkey prints it")
	}
	nonce, err := base64.StdEncoding.DecodeString(in.Nonce)
	if err != nil || !c.check(nonce, now) {
		return failf(CodeInvalid, "the nonce is too old, or another server's; get one with GET /v1/join and repeat")
	}
	public, err := ecdh.X25519().NewPublicKey(wireguard)
	if err != nil {
		return failf(CodeInvalid, "wireguard_key isn't a key")
	}
	want, err := joinProof(c.key, public, c.key.PublicKey().Bytes(), wireguard, nonce, in)
	if err != nil {
		return failf(CodeInvalid, "wireguard_key is one that everybody holds; make another with wg genkey")
	}
	have, err := base64.StdEncoding.DecodeString(in.Proof)
	if err != nil || !hmac.Equal(have, want) {
		return failf(CodeForbidden, "the proof doesn't fit wireguard_key and the request: the sender doesn't hold the private key")
	}
	return nil
}
