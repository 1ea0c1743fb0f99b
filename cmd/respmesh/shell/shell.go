// Package shell is the prompt that `respmesh redis connect` opens where there is no redis-cli. It speaks RESP over any
// byte stream and prints replies as redis-cli does: for people on a terminal, bare otherwise. Names of commands are
// completed from the table of resp/command, which also says what each takes.
package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/term"

	"respmesh/resp/frame"
)

// Options of a prompt.
type Options struct {
	Dial     func(ctx context.Context) (net.Conn, error) // to the database; called again after a connection was lost
	User     string                                      // "": the default user
	Password string                                      // "": none is sent
	Prompt   string                                      // "personal/demo> "

	In       io.Reader
	Out      io.Writer
	Terminal int      // descriptor of the terminal behind In, to be put into raw mode while a line is typed; -1: there is none
	Human    bool     // print for people, as on a terminal
	History  *History // nil: none is kept
}

// Shell reads commands and prints replies.
type Shell struct {
	opts   Options
	conn   net.Conn // nil until the next command needs one
	stop   func() bool
	reader *frame.Reader
	one    bool // command runs for RunCommand
}

// Errors that end the prompt early.
var errQuit = errors.New("quit")

// Run reads commands until the end of the input, "quit", or ctx ends. Replies that are errors are printed; a failure to
// connect is returned only for the first connection.
func Run(ctx context.Context, opts Options) error {
	s := &Shell{opts: opts}
	defer s.drop()
	if err := s.connect(ctx); err != nil {
		return err
	}
	next := s.lines()
	if opts.Terminal >= 0 {
		next = s.edited()
	}
	for ctx.Err() == nil {
		line, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.line(ctx, line); errors.Is(err, errQuit) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// ReplyError is an error reply to the command of RunCommand.
type ReplyError struct{ Reply string }

func (e *ReplyError) Error() string { return e.Reply }

// RunCommand runs one command and prints its reply. An error reply is a *ReplyError and isn't printed.
func RunCommand(ctx context.Context, opts Options, args []string) error {
	s := &Shell{opts: opts, one: true}
	defer s.drop()
	if err := s.connect(ctx); err != nil {
		return err
	}
	err := s.command(ctx, args)
	var refused *ReplyError
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case ctx.Err() != nil:
		return nil // Ctrl-C is how a subscription ends
	}
	return fmt.Errorf("the connection was lost (%w); the command may have been executed", err)
}

// lines reads an input that isn't a terminal.
func (s *Shell) lines() func() (string, error) {
	in := bufio.NewScanner(s.opts.In)
	in.Buffer(make([]byte, 0, 4096), 1<<20)
	return func() (string, error) {
		if in.Scan() {
			return in.Text(), nil
		}
		if err := in.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
}

// edited reads lines from a terminal. It is raw only while a line is typed, so that Ctrl-C interrupts a command.
func (s *Shell) edited() func() (string, error) {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{s.opts.In, s.opts.Out}, s.opts.Prompt)
	if s.opts.History != nil {
		t.History = s.opts.History
	}
	c := &completer{show: func(hint string) { fmt.Fprintln(t, hint) }}
	t.AutoCompleteCallback = c.key
	return func() (string, error) {
		if w, h, err := term.GetSize(s.opts.Terminal); err == nil && w > 0 && h > 0 {
			if err := t.SetSize(w, h); err != nil {
				return "", err
			}
		}
		old, err := term.MakeRaw(s.opts.Terminal)
		if err != nil {
			return "", err
		}
		line, err := t.ReadLine()
		if rerr := term.Restore(s.opts.Terminal, old); err == nil {
			err = rerr
		}
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(s.opts.Out) // the shell's own prompt begins on a line of its own
		}
		return line, err
	}
}

// line carries out one line. Only a failure to write or to go on is an error.
func (s *Shell) line(ctx context.Context, line string) error {
	args, err := split(line)
	if err != nil {
		return s.print("Invalid argument(s)\n")
	}
	if len(args) == 0 {
		return nil
	}
	switch name := strings.ToLower(args[0]); name {
	case "quit", "exit":
		return errQuit
	case "help", "?":
		return s.print(Help(args[1:]))
	case "clear":
		if s.opts.Human {
			return s.print("\x1b[H\x1b[2J")
		}
		return nil
	}
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return s.print(fmt.Sprintf("Could not connect: %v\n", err))
		}
	}
	if err := s.command(ctx, args); err != nil {
		s.drop()
		if ctx.Err() != nil {
			return nil
		}
		return s.print(fmt.Sprintf("Error: the connection was lost (%v); the command may have been executed\n", err))
	}
	return nil
}

// command sends one and prints what comes back. Of a subscription and of MONITOR there is no end but that of ctx.
func (s *Shell) command(ctx context.Context, args []string) error {
	if _, err := s.conn.Write(frame.AppendCommandString(nil, args...)); err != nil {
		return err
	}
	stream := false
	switch strings.ToLower(args[0]) {
	case "subscribe", "psubscribe", "ssubscribe", "monitor":
		stream = true
	}
	for first := true; ; first = false {
		r, err := s.reply()
		if err != nil {
			return err
		}
		if s.one && r.IsError() {
			return &ReplyError{string(r.Text())}
		}
		if err := s.show(r); err != nil {
			return err
		}
		switch {
		case r.Kind() == frame.Push && !stream: // came between; the answer follows
		case !stream || r.IsError():
			return nil
		case first && s.opts.Human:
			if err := s.print("Reading messages... (press Ctrl-C to quit)\n"); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// reply reads the next one; what attributes say isn't shown.
func (s *Shell) reply() (frame.Reply, error) {
	var r frame.Reply
	for {
		if err := s.reader.ReadReply(&r); err != nil {
			return r, err
		}
		if r.Kind() != frame.Attribute {
			return r, nil
		}
	}
}

func (s *Shell) show(r frame.Reply) error {
	if s.opts.Human {
		return s.print(Format(r))
	}
	return s.print(Raw(r))
}

func (s *Shell) print(text string) error {
	_, err := io.WriteString(s.opts.Out, text)
	return err
}

// AuthError is what the database said to the user and password.
type AuthError struct{ Reply string }

func (e *AuthError) Error() string { return e.Reply }

func (s *Shell) connect(ctx context.Context) error {
	conn, err := s.opts.Dial(ctx)
	if err != nil {
		return err
	}
	s.conn, s.reader = conn, frame.NewReader(conn)
	s.stop = context.AfterFunc(ctx, func() { conn.Close() }) // ends a read that waits
	if s.opts.Password == "" {
		return nil
	}
	if err := Auth(conn, s.reader, s.opts.User, s.opts.Password); err != nil {
		s.drop()
		return err
	}
	return nil
}

// Auth says who we are. A refusal is an *AuthError.
func Auth(w io.Writer, r *frame.Reader, user, password string) error {
	args := []string{"AUTH", password}
	if user != "" {
		args = []string{"AUTH", user, password}
	}
	if _, err := w.Write(frame.AppendCommandString(nil, args...)); err != nil {
		return err
	}
	var reply frame.Reply
	if err := r.ReadReply(&reply); err != nil {
		return err
	}
	if reply.IsError() {
		return &AuthError{string(reply.Text())}
	}
	return nil
}

func (s *Shell) drop() {
	if s.conn != nil {
		s.stop()
		s.conn.Close()
		s.conn = nil
	}
}

// split takes a line apart as redis-server takes an inline command: quotes and escapes.
func split(line string) ([]string, error) {
	if strings.TrimSpace(line) == "" {
		return nil, nil
	}
	var c frame.Command
	if err := frame.NewReader(strings.NewReader(" " + line + "\r\n")).ReadCommand(&c); err != nil {
		return nil, err
	}
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		args[i] = string(a)
	}
	return args, nil
}
