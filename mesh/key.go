package mesh

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// KeyLen is the length of a WireGuard key, private or public.
const KeyLen = 32

// PublicKey is a Curve25519 public key: what a peer is known by.
type PublicKey [KeyLen]byte

// PrivateKey is a Curve25519 private key. No formatting verb, logger or encoder
// prints it; only [PrivateKey.Encode] gives it out.
type PrivateKey struct {
	// A function, because package fmt looks into unexported fields and through
	// pointers, where it can't call our Format.
	secret func() [KeyLen]byte
}

func privateKey(b [KeyLen]byte) PrivateKey {
	return PrivateKey{func() [KeyLen]byte { return b }}
}

const hiddenKey = "(private key)"

// NewPrivateKey makes a random private key.
func NewPrivateKey() (PrivateKey, error) {
	var b [KeyLen]byte
	if _, err := rand.Read(b[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("make a private key: %w", err)
	}
	// WireGuard's tools store keys already clamped.
	b[0] &= 248
	b[31] = b[31]&127 | 64
	return privateKey(b), nil
}

// ParsePrivateKey reads a private key in base64, as `wg genkey` prints it. The
// error never repeats the text.
func ParsePrivateKey(s string) (PrivateKey, error) {
	b, err := decodeKey(s)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("private key: %w", err)
	}
	return privateKey(b), nil
}

// ParsePublicKey reads a public key in base64, as `wg pubkey` prints it.
func ParsePublicKey(s string) (PublicKey, error) {
	b, err := decodeKey(s)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return b, nil
}

func decodeKey(s string) (k [KeyLen]byte, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(s))
	if err != nil {
		return k, errors.New("not base64")
	}
	if len(b) != KeyLen {
		return k, fmt.Errorf("%d bytes, a key has %d", len(b), KeyLen)
	}
	copy(k[:], b)
	if k == ([KeyLen]byte{}) {
		return k, errors.New("all zero")
	}
	return k, nil
}

// IsZero says whether the key was never set.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String is the key in base64, as WireGuard's tools print it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

func (k PublicKey) hex() string { return hex.EncodeToString(k[:]) }

// MarshalText is String.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParsePublicKey.
func (k *PublicKey) UnmarshalText(b []byte) (err error) {
	*k, err = ParsePublicKey(string(b))
	return err
}

// IsZero says whether the key was never set.
func (k PrivateKey) IsZero() bool { return k.secret == nil }

// Equal says whether both are the same key, in constant time.
func (k PrivateKey) Equal(other PrivateKey) bool {
	a, b := k.bytes(), other.bytes()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (k PrivateKey) bytes() (b [KeyLen]byte) {
	if k.secret != nil {
		b = k.secret()
	}
	return b
}

// Public is the public half of the key.
func (k PrivateKey) Public() PublicKey {
	// Any 32 bytes are an X25519 private key, so there is no error to return.
	b := k.bytes()
	p, err := ecdh.X25519().NewPrivateKey(b[:])
	if err != nil {
		return PublicKey{}
	}
	return PublicKey(p.PublicKey().Bytes())
}

// Encode gives the key itself in base64, to be written to a file or a
// configuration that is given to its owner. Nothing else reveals it.
func (k PrivateKey) Encode() string {
	b := k.bytes()
	return base64.StdEncoding.EncodeToString(b[:])
}

func (k PrivateKey) hex() string {
	b := k.bytes()
	return hex.EncodeToString(b[:])
}

// Format hides the key from every formatting verb.
func (k PrivateKey) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(hiddenKey)) }

// LogValue hides the key from log/slog.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(hiddenKey) }

// MarshalText hides the key from encoders; Encode is the way to store it.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(hiddenKey), nil }

// LoadOrCreateKey reads the private key kept in the file, or makes one and keeps
// it there with mode 0600. A file that others may read is refused; of two
// processes that start at once, both get the key of the first.
func LoadOrCreateKey(path string) (PrivateKey, error) {
	k, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = NewPrivateKey(); err != nil {
		return PrivateKey{}, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return PrivateKey{}, fmt.Errorf("keep a private key: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(k.Encode() + "\n")
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return PrivateKey{}, fmt.Errorf("keep a private key: %w", err)
	}
	// A link, unlike a rename, never replaces a key that is already there.
	switch err := os.Link(tmp.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return loadKey(path)
	case err != nil:
		return PrivateKey{}, fmt.Errorf("keep a private key: %w", err)
	}
	return k, nil
}

func loadKey(path string) (PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load a private key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load a private key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return PrivateKey{}, fmt.Errorf("load a private key: %s may be read by others (mode %04o): chmod 600 it", path, st.Mode().Perm())
	}
	var buf [128]byte
	n, err := f.Read(buf[:])
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load a private key from %s: %w", path, err)
	}
	k, err := ParsePrivateKey(string(buf[:n]))
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load %s: %w", path, err)
	}
	return k, nil
}
