package frame

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// outcome is what a reader makes of a stream: the commands or replies, and the error that ended it.
type outcome struct {
	frames   []string
	consumed int64
	err      string
}

// readCommands reads all commands of src, checking that those of one batch stay valid together until the next Fill.
func readCommands(t testing.TB, src io.Reader, limits Limits) (out outcome) {
	t.Helper()
	r := NewReader(src)
	r.SetLimits(limits)
	type kept struct {
		c    Command
		text string
	}
	var batch []kept
	for {
		var c Command
		ok, err := r.NextCommand(&c)
		if ok {
			if len(c.Args) == 0 {
				t.Fatal("command without arguments")
			}
			if want := AppendCommand(nil, c.Args...); !bytes.Equal(c.Raw, want) {
				t.Fatalf("Raw = %q, arguments encode as %q", c.Raw, want)
			}
			text := fmt.Sprintf("%q", c.Args)
			batch = append(batch, kept{c, text})
			out.frames = append(out.frames, text)
			continue
		}
		for _, k := range batch {
			if got := fmt.Sprintf("%q", k.c.Args); got != k.text {
				t.Fatalf("command changed before Fill: %s, was %s", got, k.text)
			}
		}
		batch = batch[:0]
		if err == nil {
			err = r.fillFrame()
		}
		if err != nil {
			out.consumed, out.err = r.Consumed(), err.Error()
			return out
		}
	}
}

// splits calls check with readers that hand data out whole, in bytes, and cut in two at every place.
func splits(data []byte, check func(name string, src io.Reader)) {
	check("whole", bytes.NewReader(data))
	check("bytes", &pieces{data, 1})
	for i := 1; i < len(data) && len(data) <= 2048; i++ {
		check(fmt.Sprintf("cut at %d", i), &cutAt{data, i})
	}
}

type cutAt struct {
	b   []byte
	cut int
}

func (c *cutAt) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	b := c.b
	if c.cut > 0 {
		b = b[:c.cut]
	}
	n := copy(p, b)
	c.b, c.cut = c.b[n:], c.cut-n
	return n, nil
}

func TestNextCommand(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string // arguments of each command, as %q prints them
		err  string   // io.EOF if empty
	}{
		{in: ""},
		{in: "*1\r\n$4\r\nPING\r\n", want: []string{`["PING"]`}},
		{in: "*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n", want: []string{`["GET" ""]`, `["PING"]`}},
		{in: "*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", want: []string{`["GET" "\r\n\r\n"]`}},
		{in: "*0\r\n*-1\r\n*-7\r\n\r\n\n*1\r\n$1\r\na\r\n*0\r\n", want: []string{`["a"]`}},
		{in: "PING\r\nget  k \nGET 'k v'\r\n", want: []string{`["PING"]`, `["get" "k"]`, `["GET" "k v"]`}},
		{in: " \t set k \"a\\x41\\n\\r\\t\\b\\a\\q\\\"\" \r\n", want: []string{`["set" "k" "aA\n\r\t\b\aq\""]`}},
		{in: `set k 'it\'s \n'` + "\r\n", want: []string{`["set" "k" "it's \\n"]`}},
		{in: `set "" ''` + "\n", want: []string{`["set" "" ""]`}},
		{in: "set a\"b\" c\x00 d\n", want: []string{`["set" "ab" "c\x00" "d"]`}},
		{in: "a\vb \v c\n", want: []string{`["a\vb" "c"]`}},
		{in: `a "\xzz\x4"` + "\n", want: []string{`["a" "xzzx4"]`}},
		{in: "set k \"v\n", err: "Protocol error: unbalanced quotes in request"},
		{in: "set k 'v\n", err: "Protocol error: unbalanced quotes in request"},
		{in: "set k \"v\"w\n", err: "Protocol error: unbalanced quotes in request"},
		{in: "set k 'v'w\n", err: "Protocol error: unbalanced quotes in request"},
		{in: "set k \"v\\\n", err: "Protocol error: unbalanced quotes in request"},
		{in: "PING", err: "unexpected EOF"},
		{in: "*1\r\n$4\r\nPING\r", err: "unexpected EOF"},
		{in: "*1\r\n$4\r\nPING\r\n*x\r\n", want: []string{`["PING"]`}, err: "Protocol error: invalid multibulk length"},
		{in: "*\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*+1\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*01\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*1048577\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*99999999999999999999\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*1\n$4\r\nPING\r\n", err: "Protocol error: invalid multibulk length"},
		{in: "*1\r\n:4\r\n", err: "Protocol error: expected '$', got ':'"},
		{in: "*1\r\nPING\r\n", err: "Protocol error: expected '$', got 'P'"},
		{in: "*1\r\n$-1\r\n", err: "Protocol error: invalid bulk length"},
		{in: "*1\r\n$\r\n", err: "Protocol error: invalid bulk length"},
		{in: "*1\r\n$536870913\r\n", err: "Protocol error: invalid bulk length"},
		{in: "*1\r\n$04\r\nPING\r\n", err: "Protocol error: invalid bulk length"},
		{in: "*1\r\n$4\r\nPINGxx", err: "Protocol error: expected CRLF after bulk"},
	} {
		want := outcome{frames: tt.want, err: tt.err}
		if want.err == "" {
			want.err = io.EOF.Error()
		}
		splits([]byte(tt.in), func(name string, src io.Reader) {
			got := readCommands(t, src, DefaultLimits)
			got.consumed = 0
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q, %s:\n got %v\nwant %v", tt.in, name, got, want)
			}
		})
	}
}

func TestCommandLimits(t *testing.T) {
	command := func(args ...string) string { return string(AppendCommandString(nil, args...)) }
	eleven := make([]string, 11)
	small := Limits{Inline: 20, Bulk: 8, Args: 3}
	for _, tt := range []struct {
		limits Limits
		in     string
		err    string // accepted if empty
	}{
		{PreAuthLimits, command(eleven[:10]...), ""},
		{PreAuthLimits, command(eleven...), "Protocol error: unauthenticated multibulk length"},
		{PreAuthLimits, "*1048577\r\n", "Protocol error: invalid multibulk length"},
		{PreAuthLimits, command(strings.Repeat("x", 16384)), ""},
		{PreAuthLimits, command(strings.Repeat("x", 16385)), "Protocol error: unauthenticated bulk length"},
		{PreAuthLimits, "*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"},
		{PreAuthLimits, strings.Repeat("x ", 11) + "\n", "Protocol error: unauthenticated multibulk length"},
		{DefaultLimits, strings.Repeat("x", 65536) + "\n", ""},
		{DefaultLimits, strings.Repeat("x", 65537) + "\n", "Protocol error: too big inline request"},
		{DefaultLimits, strings.Repeat("x", 65537), "Protocol error: too big inline request"},
		{Limits{}, command(eleven...), ""},
		{small, command("a", "b", "12345678"), ""},
		{small, command("a", "b", "123456789"), "Protocol error: invalid bulk length"},
		{small, command("a", "b", "c", "d"), "Protocol error: invalid multibulk length"},
		{small, "a b c d\n", "Protocol error: invalid multibulk length"},
		{small, "12345678901234567890\n", ""},
		{small, "123456789012345678901\n", "Protocol error: too big inline request"},
		{Limits{Bulk: 1 << 19, Args: 9}, command(strings.Repeat("x", 1<<19), strings.Repeat("x", 1<<19), "abc"), ""},
		{
			Limits{Bulk: 1 << 19, Args: 9},
			command(strings.Repeat("x", 1<<19), strings.Repeat("x", 1<<19), strings.Repeat("x", 1<<19)),
			"Protocol error: frame too long",
		},
	} {
		name := tt.in[:min(len(tt.in), 20)]
		for _, size := range []int{1 << 30, 4096} {
			got := readCommands(t, &pieces{[]byte(tt.in), size}, tt.limits)
			switch {
			case tt.err == "" && (len(got.frames) != 1 || got.err != "EOF"):
				t.Errorf("%q: refused: %s", name, got.err)
			case tt.err == "frame too long":
			case tt.err != "" && tt.err != got.err:
				// A frame that came with one read is taken, however long: the bound is on what is kept waiting.
				if size == 4096 || tt.err != "Protocol error: frame too long" {
					t.Errorf("%q: error %q, want %q", name, got.err, tt.err)
				}
			}
		}
	}
}

func TestProtocolErrorIsFinal(t *testing.T) {
	r := NewReader(strings.NewReader("*1\r\n:1\r\n*1\r\n$4\r\nPING\r\n"))
	var c Command
	err := r.ReadCommand(&c)
	var pe *ProtocolError
	if !errors.As(err, &pe) {
		t.Fatalf("err = %v, want a *ProtocolError", err)
	}
	if got, want := string(pe.AppendReply(nil)), "-ERR Protocol error: expected '$', got ':'\r\n"; got != want {
		t.Errorf("reply %q, want %q", got, want)
	}
	if again := r.ReadCommand(&c); again != err {
		t.Errorf("then %v, want the same error", again)
	}
	if _, again := r.NextReply(&Reply{}); again != err {
		t.Errorf("then %v, want the same error", again)
	}
}

// A length announces memory; only bytes received may claim it.
func TestAnnouncedLengthsCostNothing(t *testing.T) {
	for _, in := range []string{
		"*1048576\r\n$536870912\r\nabc",
		"*1048576\r\n",
		"*1\r\n$536870912\r\n" + strings.Repeat("x", 10000),
	} {
		r := NewReader(strings.NewReader(in))
		if err := r.ReadCommand(&Command{}); err != io.ErrUnexpectedEOF {
			t.Fatalf("err = %v", err)
		}
		if len(r.buf) > max(minBuffer, 2*len(in)) {
			t.Errorf("%.20q: a buffer of %d bytes for %d received", in, len(r.buf), len(in))
		}
		if cap(r.scan.spans) > 16 {
			t.Errorf("%.20q: room for %d arguments", in, cap(r.scan.spans))
		}
	}
}

// Were the arguments that came before scanned again with each read, this would take minutes.
func TestScanResumes(t *testing.T) {
	const n = 200_000
	args := make([]string, n)
	for i := range args {
		args[i] = "x"
	}
	in := AppendCommandString(nil, args...)
	var c Command
	if err := NewReader(&pieces{in, 1}).ReadCommand(&c); err != nil {
		t.Fatal(err)
	}
	if len(c.Args) != n || !bytes.Equal(c.Raw, in) {
		t.Error("command isn't what was sent")
	}
	var p Reply
	if err := NewReader(&pieces{in, 1}).ReadReply(&p); err != nil {
		t.Fatal(err)
	}
	if p.Len() != n || !bytes.Equal(p.Raw, in) {
		t.Error("reply isn't what was sent")
	}

	big := AppendCommandString(nil, "SET", "k", strings.Repeat("v", 64<<20))
	if err := NewReader(&pieces{big, 16 << 10}).ReadCommand(&c); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.Raw, big) {
		t.Error("big command isn't what was sent")
	}
}

func TestBufferGrowsAndShrinks(t *testing.T) {
	ping := AppendCommandString(nil, "PING")
	big := AppendCommandString(nil, "SET", "k", strings.Repeat("v", 4<<20))
	src := &script{}
	r := NewReader(src)
	var c Command
	read := func(what []byte) {
		t.Helper()
		src.next = append(src.next, what)
		if err := r.ReadCommand(&c); err != nil {
			t.Fatal(err)
		}
	}
	read(ping)
	if len(r.buf) != minBuffer {
		t.Errorf("buffer of %d bytes for small commands, want %d", len(r.buf), minBuffer)
	}
	read(big)
	if len(r.buf) < len(big) || len(r.buf) > len(big)+2*minRoom {
		t.Errorf("buffer of %d bytes for a command of %d", len(r.buf), len(big))
	}
	read(ping)
	if len(r.buf) > warmBuffer {
		t.Errorf("buffer of %d bytes kept after a big command", len(r.buf))
	}
	for range 10 * calmWarm {
		read(ping)
	}
	if len(r.buf) != minBuffer {
		t.Errorf("buffer of %d bytes kept by a calm connection, want %d", len(r.buf), minBuffer)
	}

	// A busy connection reads more at once.
	for range 20 {
		src.next = append(src.next, bytes.Repeat(ping, 10000))
	}
	for range 20 * 10000 {
		if err := r.ReadCommand(&c); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.buf) != warmBuffer {
		t.Errorf("buffer of %d bytes on a busy connection, want %d", len(r.buf), warmBuffer)
	}
}

// script is a source of prepared reads.
type script struct{ next [][]byte }

func (s *script) Read(p []byte) (int, error) {
	if len(s.next) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.next[0])
	if s.next[0] = s.next[0][n:]; len(s.next[0]) == 0 {
		s.next = s.next[1:]
	}
	return n, nil
}

func TestNoAllocations(t *testing.T) {
	var c Command
	var p Reply
	set := NewReader(&repeat{b: set3()})
	replies := append(AppendSimple(nil, "OK"), AppendBulkString(nil, "v")...)
	replies = AppendInt(AppendNull(replies, 2), 12345)
	replies = AppendBulkString(AppendBulkString(AppendMap(replies, 1, 3), "k"), "v")
	rep := NewReader(&repeat{b: replies})
	dst := make([]byte, 0, 1024)
	for name, f := range map[string]func(){
		"command": func() {
			if err := set.ReadCommand(&c); err != nil {
				t.Fatal(err)
			}
		},
		"reply": func() {
			if err := rep.ReadReply(&p); err != nil {
				t.Fatal(err)
			}
		},
		"append": func() {
			dst = AppendCommand(dst[:0], c.Args...)
			dst = AppendDouble(dst, 0.1, 2)
			dst = AppendInt(dst, 1<<40)
		},
	} {
		for range 10000 { // let the buffers find their size
			f()
		}
		if n := testing.AllocsPerRun(10000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestSourceErrors(t *testing.T) {
	boom := errors.New("boom")
	// An error that comes with bytes is reported after them; one that isn't the end may pass.
	src := &failing{data: []byte("*1\r\n$4\r\nPING\r\n*1"), err: boom}
	r := NewReader(src)
	var c Command
	if err := r.ReadCommand(&c); err != nil {
		t.Fatal(err)
	}
	if err := r.ReadCommand(&c); err != boom {
		t.Fatalf("err = %v, want %v", err, boom)
	}
	if err := NewReader(empty{}).Fill(); err != io.ErrNoProgress {
		t.Errorf("err = %v, want %v", err, io.ErrNoProgress)
	}
	if err := NewReader(strings.NewReader("")).ReadCommand(&c); err != io.EOF {
		t.Errorf("err = %v, want %v", err, io.EOF)
	}
}

type failing struct {
	data []byte
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	n := copy(p, f.data)
	f.data = f.data[n:]
	return n, f.err
}

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, nil }

// The handshake of replication mixes lines, a payload that isn't RESP, and then commands.
func TestHandOver(t *testing.T) {
	in := "+CONTINUE\r\n\n\n+FULLRESYNC abc 1\r\n$5\r\nREDIS*1\r\n$4\r\nPING\r\n"
	for _, size := range []int{1, 7, 1 << 20} {
		r := NewReader(&pieces{[]byte(in), size})
		var p Reply
		for _, want := range []string{"CONTINUE", "FULLRESYNC abc 1"} {
			if err := r.ReadReply(&p); err != nil || string(p.Text()) != want {
				t.Fatalf("reply %q, %v", p.Text(), err)
			}
		}
		line, err := r.ReadLine()
		if err != nil || string(line) != "$5" {
			t.Fatalf("line %q, %v", line, err)
		}
		payload := make([]byte, 5)
		if _, err := io.ReadFull(r, payload); err != nil || string(payload) != "REDIS" {
			t.Fatalf("payload %q, %v", payload, err)
		}
		before := r.Consumed()
		var c Command
		if err := r.ReadCommand(&c); err != nil || string(c.Args[0]) != "PING" {
			t.Fatalf("command %q, %v", c.Args, err)
		}
		if n := r.Consumed(); n-before != int64(len(c.Raw)) || n != int64(len(in)) {
			t.Errorf("consumed %d bytes, then %d", before, n)
		}
		if len(r.Buffered()) != 0 {
			t.Errorf("%q left", r.Buffered())
		}
	}

	r := NewReader(strings.NewReader("*1\r\n$4\r\nPING\r\nrest"))
	if err := r.ReadCommand(&Command{}); err != nil {
		t.Fatal(err)
	}
	if string(r.Buffered()) != "rest" {
		t.Errorf("buffered %q", r.Buffered())
	}
}

// A command that is too long is read past without being kept, and what follows is understood.
func TestExcess(t *testing.T) {
	long := AppendCommandString(nil, "SET", "k", strings.Repeat("x", 3000))
	many := AppendCommandString(nil, strings.Fields(strings.Repeat("a ", 500))...)
	fits := AppendCommandString(nil, "SET", "k", strings.Repeat("y", 900))
	in := slices.Concat(fits, long, fits, many, many, fits)
	want := []int{0, len(long), 0, len(many), len(many), 0}
	for step := 1; step < 700; step += 1 + step/3 {
		r := NewReader(iotest(in, step))
		r.SetLimits(Limits{Request: 1000})
		for i, excess := range want {
			var c Command
			if err := r.ReadCommand(&c); err != nil || c.Excess != excess {
				t.Fatalf("step %d, command %d: %d, %v", step, i, c.Excess, err)
			}
			if excess == 0 && !bytes.Equal(c.Raw, fits) || excess > 0 && len(c.Args) > 0 {
				t.Fatalf("step %d, command %d: %q", step, i, c.Raw)
			}
			if len(r.buf) > 8<<10 {
				t.Fatalf("step %d: a buffer of %d", step, len(r.buf))
			}
		}
		if r.Consumed() != int64(len(in)) {
			t.Errorf("step %d: %d of %d bytes counted", step, r.Consumed(), len(in))
		}
	}
	r := NewReader(strings.NewReader("*2\r\n$1\r\na\r\n$5000\r\n" + strings.Repeat("x", 5000) + "zz"))
	r.SetLimits(Limits{Request: 1000})
	var c Command
	if err := r.ReadCommand(&c); err == nil || !strings.Contains(err.Error(), "expected CRLF") {
		t.Error(err)
	}
}

// iotest gives at most step bytes at once.
func iotest(b []byte, step int) io.Reader { return &stepReader{b, step} }

type stepReader struct {
	b    []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.step)], r.b)
	r.b = r.b[n:]
	return n, nil
}
