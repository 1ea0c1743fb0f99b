package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Settings are what may change while sessions go on. They come with the topology and hold from the next command on.
type Settings struct {
	// PasswordHash is the SHA-256 of the password in hexadecimal digits; empty: none asked for. Sessions that have
	// given the one before stay.
	PasswordHash string
	Users        []User        // besides the default user
	Near         time.Duration // remote replicas further away aren't read; 0: no bound
	MaxLag       time.Duration // replicas that haven't heard the primary for longer aren't read; 0: no bound
	// Hedge is how long beyond the round trip a read waits for another node's replica before the next nearest copy is asked too; 0:
	// none is.
	Hedge       time.Duration
	MaxSessions int // default 10000
	MaxRequest  int // bytes of a whole command; 0: Options.Limits alone
	MaxValue    int // bytes of one argument; 0: no bound
	// CommandsPerSecond of all sessions of this node; what is more is delayed. 0: no bound.
	CommandsPerSecond int
	Concurrency       int           // sessions of this node that are at work at the same time; 0: no bound
	DailyCommands     int64         // charged commands (see Options.Usage); 0: no bound
	IdleTimeout       time.Duration // sessions that say nothing for longer are closed; 0: never
	// ForeignCursors: the primary is of another engine than its replicas, so that SCAN's cursors mean nothing to them.
	ForeignCursors bool
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

func (g *Gateway) maxSessions() int {
	return cmp.Or(g.view.Load().settings.MaxSessions, defaultMaxSessions)
}
