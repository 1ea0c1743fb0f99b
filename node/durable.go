package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/embedded"
	"respmesh/store/psync"
)

// snapshotName is Redis's own name for a snapshot. One is loaded where there is no append-only file yet.
const snapshotName = "dump.rdb"

// openLog opens the append-only file.
func (s *store) openLog(o storeOptions) (err error) {
	s.aof, err = aof.Open(aof.Options{Dir: o.data, Policy: o.fsync, FS: o.fs, Log: o.log})
	return err
}

// load fills the engine from the disk and makes it a primary whose changes are kept.
func (s *store) load(o storeOptions) error {
	if s.aof.Found() {
		sum, err := s.aof.Load(s.engine)
		if err != nil {
			return err
		}
		o.log.Info("append-only file loaded", "bytes", sum.Bytes, "commands", sum.Commands)
	} else if err := s.loadSnapshot(filepath.Join(o.data, snapshotName)); err != nil {
		return err
	}
	s.engine.SetReplica(false)
	return s.aof.Start(s.engine)
}

func (s *store) loadSnapshot(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	if err := s.engine.Restore(f); err != nil {
		return fmt.Errorf("load snapshot %s: %w", path, err)
	}
	return nil
}

// persistence is what the engine's INFO and CONFIG GET say.
func (s *store) persistence() embedded.Persistence {
	i := s.aof.Info()
	return embedded.Persistence{
		AppendOnly: true, Fsync: i.Policy.String(), Rewriting: i.Rewriting, Size: i.Size, Base: i.Base, Failure: s.aof.Err(),
	}
}

// bothLogs takes effects for the disk and for the replicas.
type bothLogs struct {
	disk   *aof.Writer
	stream *psync.Log
}

func (b bothLogs) Append(p []byte) {
	b.disk.Append(p)
	b.stream.Append(p)
}

// loggedConn answers a batch once what it did is in the append-only file, as safely as its policy says. Under the policy
// always, reads too wait for what they may have seen.
type loggedConn struct {
	conn   *embedded.Conn
	aof    *aof.Writer
	always bool // the policy
}

// Do implements proxy.StoreConn.
func (c *loggedConn) Do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	for len(reqs) > 0 {
		n := oneReplyEach(reqs)
		dst = c.do(ctx, dst, reqs[:n])
		reqs = reqs[n:]
	}
	return dst
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

func (c *loggedConn) do(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	from, before := len(dst), c.aof.Appended()
	dst = c.conn.Do(ctx, dst, reqs)
	pos := c.aof.Appended()
	if pos == c.aof.Committed() {
		return dst
	}
	if !c.always && (pos == before || !mayWrite(reqs)) {
		return dst
	}
	if err := c.aof.Commit(pos); err != nil && pos > before {
		dst = unacknowledged(dst, from, reqs, err)
	}
	return dst
}

// mayWrite tells whether any of the commands may have changed something.
func mayWrite(reqs []command.Request) bool {
	for i := range reqs {
		if changes(reqs[i].Spec) {
			return true
		}
	}
	return false
}

func changes(s *command.Spec) bool {
	return s != nil && (s.Is(command.FlagWrite|command.FlagMayReplicate) || s.Name == "exec")
}

// unacknowledged takes back the good replies of writes whose effects couldn't be logged: the data has them, and will
// keep them if the log can be written again before the process ends. Who isn't told so would believe them safe.
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

// Close implements proxy.StoreConn.
func (c *loggedConn) Close() error { return c.conn.Close() }
