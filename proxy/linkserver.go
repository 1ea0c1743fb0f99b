package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// LinkServer answers other nodes' links: see the package comment for the protocol.
type LinkServer struct {
	opt   LinkOptions
	log   *slog.Logger
	table *table

	kept keptReplies

	mu      sync.Mutex
	waiting map[*served]struct{} // links whose client waits in the store
}

// NewLinkServer makes a server; it has no state between calls of Serve.
func NewLinkServer(opt LinkOptions) *LinkServer {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &LinkServer{opt: opt, log: opt.Log, table: newTable(), waiting: make(map[*served]struct{})}
}

// Lost ends the links from a node that can't be reached any more, on which a client waits for something. The client is
// told that the outcome is unknown, and what would be taken for it from now on would be lost to everybody.
func (ls *LinkServer) Lost(node netip.Addr) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.waiting {
		if at, err := netip.ParseAddrPort(l.conn.RemoteAddr().String()); err == nil && at.Addr().Unmap() == node {
			l.cancel()
		}
	}
}

// wait notes that a link's client waits, until the function it returns is called.
func (ls *LinkServer) wait(l *served) (end func()) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.waiting[l] = struct{}{}
	return func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		delete(ls.waiting, l)
	}
}

// Serve accepts links until ctx ends, then closes them and waits for their goroutines.
func (ls *LinkServer) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !errors.Is(err, net.ErrClosed) {
				ls.log.Warn("accept failed", "error", err)
			}
			return fmt.Errorf("accept link: %w", err)
		}
		wg.Go(func() {
			l := &served{ls: ls, conn: conn, r: frame.NewReader(conn), spawn: wg.Go}
			l.ctx, l.cancel = context.WithCancel(withWorker(ctx, l))
			closed := context.AfterFunc(l.ctx, func() { conn.Close() })
			defer closed()
			defer conn.Close()
			defer l.cancel()
			l.run()
		})
	}
}

// served is one connection of a LinkServer.
type served struct {
	ls     *LinkServer
	conn   net.Conn
	r      *frame.Reader
	spawn  func(func())
	ctx    context.Context
	cancel context.CancelFunc

	turn   turn
	store  Store
	opened StoreState // as the store was then
	sc     StoreConn
	proto  int
	tracks bool    // CLIENT TRACKING is on: pushes come while commands are executed
	out    *output // pinned only: pushes come between replies
	replid string  // position that the other side was told last
	offset int64
	reqs   []command.Request
	n      int
	reply  []byte
	head   []byte
	hello  []byte // the reply to LINK, before everything else
}

// run reads the first commands, of which LINK or REPLICATE decides what the connection is.
func (l *served) run() {
	for {
		var c frame.Command
		if err := l.r.ReadCommand(&c); err != nil {
			return
		}
		verb, name, ok := parseVerb(c.Args)
		if !ok {
			l.refuse("ERR expected RESPMESH LINK, REPLICATE or STATUS")
			return
		}
		org, db, _ := strings.Cut(name, "/")
		store, found := l.ls.opt.Lookup(org, db)
		switch {
		case !found:
			l.refuse("ERR unknown database '" + name + "'")
			return
		case verb == "STATUS":
			if _, err := l.conn.Write(appendStatus(nil, store, l.charged(c.Args))); err != nil {
				return
			}
		case verb == "REPLICATE":
			if _, err := l.conn.Write(frame.AppendSimple(nil, "OK")); err != nil || l.ls.opt.Replicate == nil {
				return
			}
			if err := l.ls.opt.Replicate(l.ctx, org, db, l.conn, l.r); err != nil && l.ctx.Err() == nil {
				l.ls.log.Info("replica left", "database", name, "from", l.conn.RemoteAddr(), "error", err)
			}
			return
		case verb == "LINK" && len(c.Args) == 6:
			l.store = store
			l.turn.share = l.ls.opt.Turns.of(name)
			defer l.turn.share.leave()
			l.link(string(c.Args[3]), string(c.Args[4]), string(c.Args[5]))
			return
		default:
			l.refuse("ERR malformed RESPMESH " + verb)
			return
		}
	}
}

// charged takes what STATUS says beyond the database: node, day and commands charged. The answer is what all nodes have.
func (l *served) charged(args [][]byte) (all int64) {
	if len(args) != 6 || l.ls.opt.Charged == nil {
		return -1
	}
	org, db, _ := strings.Cut(string(args[2]), "/")
	n, ok := frame.ParseInt(args[5])
	if !ok || n < 0 {
		return -1
	}
	return l.ls.opt.Charged(org, db, string(args[3]), string(args[4]), n)
}

func parseVerb(args [][]byte) (verb, name string, ok bool) {
	if len(args) < 3 || !command.EqualFold(args[0], "respmesh") {
		return "", "", false
	}
	return strings.ToUpper(string(args[1])), string(args[2]), true
}

func (l *served) refuse(text string) { l.conn.Write(frame.AppendError(nil, text)) }

// link serves commands from here on.
func (l *served) link(protoArg, dbArg, mode string) {
	proto, err1 := strconv.Atoi(protoArg)
	db, err2 := strconv.Atoi(dbArg)
	l.proto = proto
	pinned := mode == "pinned"
	if err := errors.Join(err1, err2); err != nil || proto != 2 && proto != 3 || !pinned && mode != "shared" {
		l.refuse("ERR malformed RESPMESH LINK")
		return
	}
	push := func([]byte) {}
	if pinned {
		l.out = newOutput(l.conn, 256<<20, l.spawn, func(cutReason) { l.cancel() })
		push = l.out.push
	}
	l.sc = l.store.NewConn(push)
	whenLost(l.sc, l.cancel)
	defer l.sc.Close()
	prepare(l.ctx, l.sc, proto, db)
	role := "replica"
	if l.store.State().Primary {
		role = "primary"
	}
	l.opened = l.store.State()
	l.replid, l.offset = l.store.Position()
	l.hello = fmt.Appendf(nil, "+OK %s %s %d\r\n", role, wordOr(l.replid, "?"), l.offset)
	for {
		if err := l.batch(); err != nil {
			return
		}
		if err := l.r.Fill(); err != nil {
			return
		}
	}
}

func wordOr(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// batch executes what is in the buffer and writes the replies.
func (l *served) batch() error {
	for {
		if l.n == len(l.reqs) {
			l.reqs = append(l.reqs, command.Request{})
		}
		req := &l.reqs[l.n]
		ok, err := l.r.NextCommand(&req.Command)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		req.Spec = command.Lookup(req.Args)
		switch {
		case req.Spec == nil && command.EqualFold(req.Args[0], "respmesh") && len(req.Args) == 3 && command.EqualFold(req.Args[1], "unblock"):
			// came too late for what it was meant for
		case req.Spec == nil && command.EqualFold(req.Args[0], "respmesh") && len(req.Args) == 3 && command.EqualFold(req.Args[1], "fetch"):
			l.execute()
			l.fetched(req.Args[2])
		case req.Spec == nil && command.EqualFold(req.Args[0], "respmesh"):
			l.execute()
			l.reply = appendStatus(l.reply, l.store, l.charged(req.Args)) // STATUS is all that may come here
		case l.out != nil && l.special(req):
		default:
			l.n++
		}
		if l.n >= maxBatch || len(l.reply) >= linkKeep {
			if err := l.flush(); err != nil {
				return err
			}
		}
	}
	return l.flush()
}

// execute runs the commands collected so far.
func (l *served) execute() {
	if l.n == 0 {
		return
	}
	l.turn.take(l.ctx)
	defer l.turn.give()
	st := l.store.State()
	if !st.Primary && !st.Usable {
		for range l.n {
			l.reply = frame.AppendError(l.reply, "MASTERDOWN the replica on this node isn't usable: "+oneLine(st.Reason))
		}
	} else if l.out == nil && (st.Primary != l.opened.Primary || st.Term != l.opened.Term) {
		l.readsOnly()
	} else {
		if l.tracks {
			l.out.holdPushes() // until the replies are written
		}
		l.do(l.reqs[:l.n])
	}
	l.n = 0
}

// away implements worker.
func (l *served) away() (back func()) {
	if l.turn.kind == turnNone {
		return func() {}
	}
	l.turn.give()
	return func() { l.turn.take(l.ctx) }
}

// readsOnly executes what only reads. The store has changed sides since the link was opened, so that writes that came over
// it may have been refused: none that comes after them may be executed.
func (l *served) readsOnly() {
	for i := range l.reqs[:l.n] {
		if l.ls.table.of(l.reqs[i].Spec).class == classRead {
			l.reply = l.sc.Do(l.ctx, l.reply, l.reqs[i:i+1])
		} else {
			l.reply = frame.AppendError(l.reply, readonlyText)
		}
	}
}

func oneLine(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }

// flush writes the replies, the store's position first if it has changed.
func (l *served) flush() error {
	l.execute()
	return l.write()
}

func (l *served) write() error {
	if len(l.reply) == 0 && l.hello == nil {
		return l.ctx.Err()
	}
	replid, offset := l.store.Position()
	head := append(l.head[:0], l.hello...)
	l.hello = nil
	if replid != l.replid {
		head = frame.AppendSimple(frame.AppendInt(frame.AppendSimple(frame.AppendAttribute(head, 2), "offset"), offset), "replid")
		head = frame.AppendSimple(head, replid)
	} else if offset != l.offset {
		head = frame.AppendInt(frame.AppendSimple(frame.AppendAttribute(head, 1), "offset"), offset)
	}
	l.replid, l.offset = replid, offset
	p := l.reply
	if len(head) > 0 {
		head = append(head, p...)
		p = head
	}
	var err error
	if l.out != nil {
		l.out.deliver(p)
		if l.tracks {
			l.out.release()
		}
		err = l.ctx.Err()
	} else {
		_, err = l.conn.Write(p)
	}
	l.head, l.reply = head[:0], l.reply[:0]
	if cap(l.head) > linkKeep {
		l.head = nil
	}
	if cap(l.reply) > linkKeep {
		l.reply = nil
	}
	return err
}
