package node

import (
	"bytes"
	"context"
	"math"
	"strings"

	"respmesh/proxy"
	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/embedded"
)

// storeConn answers a batch once what it did is as safe as the database wants it: in the append-only file as its policy
// says, and at as many replicas as min-replicas says. Under the policy always, reads too wait for what they may have seen.
type storeConn struct {
	store *store
	conn  *embedded.Conn
}

// Do implements proxy.StoreConn.
func (c *storeConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	dst, _ = c.DoWithin(ctx, dst, reqs, math.MaxInt)
	return dst
}

// DoWithin is Do that stops after the command by which the replies have become longer than limit.
func (c *storeConn) DoWithin(ctx context.Context, dst []byte, reqs []command.Request, limit int) (out []byte, done int) {
	from := len(dst)
	for done < len(reqs) && len(dst)-from <= limit {
		n := oneReplyEach(reqs[done:])
		var did int
		dst, did = c.do(ctx, dst, reqs[done:done+n], limit-(len(dst)-from))
		if done += did; did < n {
			break
		}
	}
	return dst, done
}

// oneReplyEach is how many of the commands at the beginning get one reply each. Those that subscribe may get several,
// so they run by themselves.
func oneReplyEach(reqs []command.Request) int {
	for i := range reqs {
		if s := reqs[i].Spec; s != nil && s.Is(command.FlagPubSub) && strings.HasSuffix(s.Name, "subscribe") {
			return max(i, 1)
		}
	}
	return len(reqs)
}

func (c *storeConn) do(ctx context.Context, dst []byte, reqs []command.Request, limit int) (out []byte, done int) {
	s := c.store
	if s.gone.Load() {
		return appendGone(dst, len(reqs)), len(reqs)
	}
	s.opts.overdue.check()
	led, q := s.leads(), s.quorum.Load()
	if led && q.replicas > 0 && mayWrite(reqs) && !s.manned(q) {
		back := proxy.Away(ctx)
		s.awaitReplicas(ctx)
		back()
	}
	from := len(dst)
	_, before := s.log.Position()
	dst, done = c.conn.DoWithin(ctx, dst, reqs, limit)
	if !led {
		return dst, done
	}
	reqs = reqs[:done]
	_, offset := s.log.Position()
	wrote := offset != before && mayWrite(reqs)
	if s.aof != nil {
		if pos := s.aof.Appended(); pos != s.aof.Committed() && (wrote || s.opts.fsync == aof.Always) {
			if err := s.commit(ctx, pos); err != nil && wrote {
				return unacknowledged(dst, from, reqs, err), done
			}
		}
	}
	if wrote {
		s.opts.overdue.check()
	}
	if wrote && (q.replicas > 0 || s.fenced.Load()) {
		back := proxy.Away(ctx)
		err := s.awaitSafe(ctx, q, offset)
		back()
		if err != nil {
			return unacknowledged(dst, from, reqs, err), done
		}
	}
	return dst, done
}

// commit has the file written up to a position. Only a disk is waited for without a turn: the kernel takes what it's given at once.
func (s *store) commit(ctx context.Context, pos int64) error {
	if s.opts.fsync == aof.Always {
		defer proxy.Away(ctx)()
	}
	return s.aof.Commit(pos)
}

// unacknowledged takes back the good replies of writes whose effects may be lost: the data has them, and will
// keep them if all goes well. Who isn't told so would believe them safe.
func unacknowledged(dst []byte, from int, reqs []command.Request, cause error) []byte {
	replies := frame.NewReader(bytes.NewReader(bytes.Clone(dst[from:])))
	dst = dst[:from]
	var r frame.Reply
	for i := range reqs {
		if replies.ReadReply(&r) != nil {
			break // the session ended before the others
		}
		if changes(reqs[i].Spec) && !r.IsError() && !isQueued(r) {
			dst = frame.AppendError(dst, "UNKNOWNOUTCOME the command was executed but may be lost: "+cause.Error())
		} else {
			dst = append(dst, r.Raw...)
		}
	}
	return dst
}

// isQueued tells whether a command waits for its EXEC.
func isQueued(r frame.Reply) bool { return r.Kind() == frame.Simple && string(r.Text()) == "QUEUED" }

// OnLost implements proxy.Losable.
func (c *storeConn) OnLost(f func()) { c.store.sessions.add(c, f) }

// Close implements proxy.StoreConn.
func (c *storeConn) Close() error {
	c.store.sessions.remove(c)
	return c.conn.Close()
}
