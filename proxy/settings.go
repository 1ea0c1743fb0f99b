package proxy

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"
)

// Settings are what may change while sessions go on. They come with the topology and hold from the next command on.
type Settings struct {
	// PasswordHash is the SHA-256 of the password in hexadecimal digits; empty: none asked for. Sessions that have
	// given the one before stay.
	PasswordHash string
	Near         time.Duration // remote replicas further away aren't read; 0: no bound
	MaxLag       time.Duration // replicas that haven't heard the primary for longer aren't read; 0: no bound
	MaxSessions  int           // default 10000
}

const defaultMaxSessions = 10_000

// HashPassword is what Settings want of a password; nothing of none.
func HashPassword(password string) string {
	if password == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// asksPassword says whether new sessions have to authenticate.
func (g *Gateway) asksPassword() bool { return g.view.Load().settings.PasswordHash != "" }

// rightPassword compares in a time that tells nothing of the password. Without one, anything is right, as in Redis.
func (g *Gateway) rightPassword(password []byte) bool {
	want := g.view.Load().settings.PasswordHash
	sum := sha256.Sum256(password)
	var got [2 * sha256.Size]byte
	hex.Encode(got[:], sum[:])
	return subtle.ConstantTimeCompare([]byte(want), got[:]) == 1 || want == ""
}

func (g *Gateway) maxSessions() int {
	return cmp.Or(g.view.Load().settings.MaxSessions, defaultMaxSessions)
}
