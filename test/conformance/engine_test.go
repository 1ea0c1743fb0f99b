package conformance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/embedded"
)

// noSaver is there so that the commands are.
type noSaver struct{}

func (noSaver) Save() error              { return nil }
func (noSaver) BackgroundSave() error    { return nil }
func (noSaver) BackgroundRewrite() error { return nil }
func (noSaver) LastSave() time.Time      { return time.Now() }

// engineTarget calls the embedded engine directly.
type engineTarget struct {
	engine *embedded.Engine
	conns  [2]*embedded.Conn

	listener *embedded.Conn
	mu       sync.Mutex
	pushed   []byte // to the listener

	stream *recorder // of what replicas are told, if somebody wants to know
}

func newEngineTarget(t *testing.T) target {
	e := &engineTarget{}
	t.Cleanup(func() { e.close() })
	return e
}

func (e *engineTarget) close() {
	if e.engine == nil {
		return
	}
	for _, c := range e.conns {
		_ = c.Close()
	}
	_ = e.listener.Close()
	_ = e.engine.Close()
	e.engine = nil
}

func (e *engineTarget) reset(proto int) error {
	e.close()
	o := embedded.Options{HashSeed: 1, Version: "7.0.15", Saver: noSaver{}}
	if e.stream != nil {
		o.Sink = e.stream
	}
	e.engine = embedded.New(o)
	for i := range e.conns {
		e.conns[i] = e.engine.NewConn(embedded.ConnOptions{ID: int64(i + 1), Addr: "127.0.0.1:1", Proto: 2, Push: func([]byte) {}})
		if p, err := e.do(i, []string{"HELLO", strconv.Itoa(proto)}); err != nil || p.isError() {
			return fmt.Errorf("HELLO: %v %v", p, err)
		}
	}
	e.pushed = nil
	e.listener = e.engine.NewConn(embedded.ConnOptions{Addr: "127.0.0.1:2", Push: func(p []byte) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.pushed = append(e.pushed, p...)
	}})
	e.listener.Do(context.Background(), nil, []command.Request{request([]string{"PSUBSCRIBE", "__key*"})})
	for _, args := range freshState {
		if p, err := e.do(0, args); err != nil || p.isError() {
			return fmt.Errorf("%q: %v %v", args, p, err)
		}
	}
	return nil
}

func (e *engineTarget) events() (out []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	buf := bufio.NewReader(bytes.NewReader(e.pushed))
	for {
		p, err := readReply(buf)
		if err != nil {
			break
		}
		out = append(out, p.elems[2].text+" "+p.elems[3].text)
	}
	e.pushed = nil
	return out, nil
}

func request(args []string) command.Request {
	req := command.Request{Command: frame.Command{Raw: encode(args)}}
	for _, a := range args {
		req.Args = append(req.Args, []byte(a))
	}
	req.Spec = command.Lookup(req.Args)
	return req
}

func (e *engineTarget) do(conn int, args []string) (reply, error) {
	req := request(args)
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic: %v%s", p, engineFrames(debug.Stack()))
			}
			done <- r
		}()
		r.out = e.conns[conn].Do(ctx, nil, []command.Request{req})
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	var r result
	select {
	case r = <-done:
	case <-late.C:
		r.err = fmt.Errorf("hangs")
	}
	if r.err != nil {
		// Its locks may be held for good: leave this engine to the garbage collector.
		e.engine = nil
		return reply{}, r.err
	}
	in := bytes.NewReader(r.out)
	buf := bufio.NewReader(in)
	p, err := readReply(buf)
	if err == nil && in.Len()+buf.Buffered() > 0 {
		err = fmt.Errorf("more than one reply: %q", r.out)
	}
	return p, err
}

// engineFrames keeps the lines of a stack that are the engine's.
func engineFrames(stack []byte) string {
	var out strings.Builder
	for line := range strings.Lines(string(stack)) {
		if strings.HasPrefix(line, "\t") && strings.Contains(line, "/store/embedded/") {
			out.WriteString("\n      " + strings.TrimSpace(line))
		}
	}
	return out.String()
}
