package aof_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/aof"
	"respmesh/store/rdb"
)

const (
	files = dir + "/appendonlydir/"
	incr1 = files + "appendonly.aof.1.incr.aof"
)

// diskWith is a disk with an append-only file of one incremental part.
func diskWith(incr string) *memFS {
	m := newMemFS()
	put(m, files+"appendonly.aof.manifest", "file appendonly.aof.1.incr.aof seq 1 type i\n")
	put(m, incr1, incr)
	return m
}

func put(m *memFS, name, data string) {
	i := &inode{data: []byte(data), synced: len(data)}
	m.live[name], m.durable[name] = i, i
}

func resp(lines ...string) string {
	var b []byte
	for _, l := range lines {
		b = frame.AppendCommandString(b, strings.Fields(l)...)
	}
	return string(b)
}

// A file that is cut off anywhere loads up to the last whole command or transaction, and then goes on.
func TestTornAtEveryByte(t *testing.T) {
	whole := resp("SELECT 0", "SET a 1") + "#TS:1700000000\r\n" + resp("INCR a", "MULTI", "INCR a", "INCR a", "EXEC", "SET b xyz")
	ends := map[int]string{} // of whole prefixes: what a is then
	a := ""
	for _, step := range []struct{ upTo, a string }{
		{resp("SELECT 0"), ""}, {resp("SET a 1"), "1"}, {"#TS:1700000000\r\n", "1"}, {resp("INCR a"), "2"},
		{resp("MULTI", "INCR a", "INCR a", "EXEC"), "4"}, {resp("SET b xyz"), "4"},
	} {
		a += step.upTo
		ends[len(a)] = step.a
	}
	good := 0
	for n := range len(whole) + 1 {
		if _, ok := ends[n]; ok {
			good = n
		}
		for _, zeros := range []int{0, 100} {
			m := diskWith(whole[:n] + strings.Repeat("\x00", zeros))
			d, err := openDB(aof.Options{Dir: dir, FS: m})
			if err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			if cut := int64(n - good + zeros); d.loaded.Cut != cut || int64(len(m.live[incr1].data)) < int64(good) {
				t.Fatalf("cut at %d with %d zeros: %+v, want %d cut", n, zeros, d.loaded, cut)
			}
			s := d.session()
			want := "$-1\r\n"
			if ends[good] != "" {
				want = "$1\r\n" + ends[good] + "\r\n"
			}
			if got := s.do(t, "GET a"); got != want {
				t.Fatalf("cut at %d: a is %q, want %q", n, got, want)
			}
			s.do(t, "SET c on")
			d.close()
			if d, err = openDB(aof.Options{Dir: dir, FS: m}); err != nil || d.loaded.Cut != 0 {
				t.Fatalf("cut at %d, second start: %v", n, err)
			}
			if got := d.session().do(t, "GET c"); got != "$2\r\non\r\n" {
				t.Fatalf("cut at %d, second start: %q", n, got)
			}
			d.close()
		}
	}
}

func TestDamageIsRefused(t *testing.T) {
	before := resp("SELECT 0", "SET a 1")
	after := resp("SET b 2", "SET c 3", "SET d 4", "SET e 5")
	for name, damage := range map[string]string{
		"garbage":      "garbage\r\n",
		"zeros":        "\x00\x00\x00\x00",
		"long length":  "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$900000\r\ny\r\n",
		"short length": "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\nyyyy\r\n",
		"long count":   "*400\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\ny\r\n",
		"no arguments": "*0\r\n",
		"unknown":      resp("NOTHING x"),
	} {
		m := diskWith(before + damage + after)
		_, err := openDB(aof.Options{Dir: dir, FS: m})
		if !errors.Is(err, aof.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if at := fmt.Sprint("byte ", len(before), ":"); name != "long count" && !strings.Contains(err.Error(), at) {
			t.Errorf("%s: no %q in %v", name, at, err)
		}
		if len(m.live[incr1].data) != len(before+damage+after) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	// What the target refuses.
	if _, err := openDB(aof.Options{Dir: dir, FS: diskWith(before + resp("INCR a x") + after)}); !errors.Is(err, aof.ErrDamaged) {
		t.Error(err)
	}
	// A part that ends within a command, though another follows.
	m := diskWith(before + "*3\r\n$3")
	put(m, files+"appendonly.aof.manifest", "file appendonly.aof.1.incr.aof seq 1 type i\nfile appendonly.aof.2.incr.aof seq 2 type i\n")
	put(m, files+"appendonly.aof.2.incr.aof", after)
	if _, err := openDB(aof.Options{Dir: dir, FS: m}); !errors.Is(err, aof.ErrDamaged) {
		t.Error(err)
	}
	// But if nothing does, it is the last.
	put(m, files+"appendonly.aof.2.incr.aof", "")
	if d, err := openDB(aof.Options{Dir: dir, FS: m}); err != nil {
		t.Error(err)
	} else {
		d.close()
	}
	// One that the manifest has and the directory hasn't.
	delete(m.live, incr1)
	if _, err := openDB(aof.Options{Dir: dir, FS: m}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestManifest(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "the manifest is empty",
		"file a seq 1 type b":     "line 1: the line isn't complete",
		"\n":                      "line 1: want file",
		"file a seq 1\n":          "line 1: want file",
		"file a/b seq 1 type i\n": "line 1: file name",
		"file a seq x type i\n":   "line 1: sequence number",
		"file a seq 0 type i\n":   "line 1: sequence number",
		"file a seq 1 type x\n":   "line 1: unknown type",
		"file \"a seq 1 type i\n": "line 1: unbalanced quotes",
		"file a seq 1 type b\nfile b seq 2 type b\n":            "line 2: a second base",
		"# c\nfile a seq 2 type i\nfile b seq 1 type i\n":       "line 3: sequence number 1 after 2",
		"file " + strings.Repeat("a", 1100) + " seq 1 type i\n": "line 1: the line is too long",
	} {
		m := newMemFS()
		put(m, files+"appendonly.aof.manifest", text)
		if _, err := aof.Open(aof.Options{Dir: dir, FS: m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	m := newMemFS()
	put(m, files+"appendonly.aof.manifest", "# by hand\nseq 7 file \"of \\\"mine\\\".aof\" type i\nfile old.rdb seq 3 type h\n")
	put(m, files+`of "mine".aof`, resp("SET k v"))
	put(m, files+"old.rdb", "history")
	d := mustOpen(t, aof.Options{Dir: dir, FS: m})
	if got := d.session().do(t, "GET k"); got != "$1\r\nv\r\n" {
		t.Errorf("got %q", got)
	}
	if m.live[files+"old.rdb"] != nil {
		t.Error("the history is still there")
	}
	if got := string(m.live[files+"appendonly.aof.manifest"].data); got != "file \"of \\\"mine\\\".aof\" seq 7 type i\n" {
		t.Errorf("manifest %q", got)
	}
}

// FuzzLoad loads what isn't a file: it must end with an error or with a file that loads again without a cut.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(resp("SELECT 0", "SET a 1", "MULTI", "INCR a", "EXEC")))
	f.Add([]byte(resp("MULTI", "INCR a")))
	f.Add([]byte("#TS:1\r\n" + resp("SET a 1") + "*3\r\n$3\r\nSET"))
	f.Add([]byte("REDIS0010\xff"))
	f.Add([]byte("*1\r\n$-1\r\n"))
	f.Add([]byte("*2147483647\r\n"))
	f.Add([]byte(resp("SET a 1") + "\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := diskWith(string(data))
		var first counting
		w, err := aof.Open(aof.Options{Dir: dir, FS: m})
		if err != nil {
			t.Fatal(err)
		}
		sum, err := w.Load(&first)
		if err != nil {
			if len(m.live[incr1].data) != len(data) {
				t.Fatal("a file that is refused was changed")
			}
			return
		}
		if sum.Bytes+sum.Cut != int64(len(data)) {
			t.Fatalf("%+v of %d bytes", sum, len(data))
		}
		var second counting
		if w, err = aof.Open(aof.Options{Dir: dir, FS: m}); err != nil {
			t.Fatal(err)
		}
		again, err := w.Load(&second)
		if err != nil || again.Cut != 0 || second.executed != first.executed {
			t.Fatalf("the second time: %+v, %v; executed %d, then %d", again, err, first.executed, second.executed)
		}
	})
}

// counting is a target that only counts what is executed.
type counting struct {
	queued, executed int
	inTx             bool
}

// Restore implements aof.Target.
func (*counting) Restore(r io.Reader) error {
	for in := rdb.NewReader(r); ; {
		if _, err := in.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Apply implements aof.Target.
func (c *counting) Apply(reqs []command.Request) error {
	for _, q := range reqs {
		switch q.Spec.Name {
		case "multi":
			c.inTx = true
		case "exec":
			c.executed += c.queued
			c.inTx, c.queued = false, 0
		case "discard":
			c.inTx, c.queued = false, 0
		case "select":
		default:
			if c.inTx {
				c.queued++
			} else {
				c.executed++
			}
		}
	}
	return nil
}
