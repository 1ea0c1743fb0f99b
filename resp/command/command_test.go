package command

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/classes.golden")

// mixed spells a name in capitals with small endings.
func mixed(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

func TestLookup(t *testing.T) {
	n := 0
	for s := range All() {
		if s.ID != n || ByID(n) != s {
			t.Errorf("%s: ID %d, want %d", s.Name, s.ID, n)
		}
		n++
		words := strings.Split(s.Name, "|")
		for _, spell := range []func(string) string{strings.ToLower, strings.ToUpper, mixed} {
			var args []string
			for _, w := range words {
				args = append(args, spell(w))
			}
			if got := Lookup(argv(args...)); got != s {
				t.Errorf("Lookup(%q) = %v", args, got)
			}
			if got := ByName(spell(s.Name)); got != s {
				t.Errorf("ByName(%q) = %v", spell(s.Name), got)
			}
		}
		if p := s.Parent(); (p != nil) != (len(words) == 2) || p != nil && p.Name != words[0] {
			t.Errorf("%s: parent %v", s.Name, p)
		}
		for sub := range s.Subcommands() {
			if sub.Parent() != s {
				t.Errorf("%s: parent isn't %s", sub.Name, s.Name)
			}
		}
	}
	if n != Count {
		t.Errorf("%d entries, Count = %d", n, Count)
	}

	for _, args := range [][]string{
		{}, {""}, {"nope"}, {"get "}, {"client|setname"}, {"sort\x7fro"}, {"\x07et"}, {strings.Repeat("x", 1000)}, {"GET|X"},
	} {
		if s := Lookup(argv(args...)); s != nil {
			t.Errorf("Lookup(%q) = %s", args, s.Name)
		}
	}
	for _, name := range []string{"", "nope", "get|x", "client|nope", "client|", "|"} {
		if s := ByName(name); s != nil {
			t.Errorf("ByName(%q) = %s", name, s.Name)
		}
	}
	for _, tt := range []struct{ args, want string }{
		{"get k", "get"}, {"client", "client"}, {"client nope", "client"}, {"Client SetName x", "client|setname"},
		{"command", "command"}, {"xgroup create k", "xgroup|create"},
	} {
		if s := Lookup(argv(strings.Fields(tt.args)...)); s == nil || s.Name != tt.want {
			t.Errorf("Lookup(%s) = %v, want %s", tt.args, s, tt.want)
		}
	}
}

func TestArity(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		ok   bool
	}{
		{"get", 2, true}, {"get", 1, false}, {"get", 3, false}, {"mget", 1, false}, {"mget", 2, true}, {"mget", 99, true},
		{"ping", 1, true}, {"client|setname", 3, true}, {"client|setname", 2, false}, {"command", 1, true},
	} {
		if ok := ByName(tt.name).ArityOK(tt.n); ok != tt.ok {
			t.Errorf("%s with %d arguments: %v", tt.name, tt.n, ok)
		}
	}
}

// Every entry's class is on record: a change of the table shows up as a change of the golden file.
func TestClasses(t *testing.T) {
	const golden = "testdata/classes.golden"
	var b strings.Builder
	for s := range All() {
		fmt.Fprintf(&b, "%-28s %s\n", s.Name, s.Class)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, old := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(old)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(old) {
			w = old[i]
		}
		if g != w {
			t.Fatalf("line %d: %q, %s has %q (go test -update writes it anew)", i+1, g, golden, w)
		}
	}
}

func TestClassRules(t *testing.T) {
	for s := range All() {
		readonly, write := s.Is(FlagReadonly), s.Is(FlagWrite)
		switch s.Class {
		case Local:
			if readonly || write || s.hasKeys() {
				t.Errorf("%s: local, and yet about keys", s.Name)
			}
		case Read:
			if write || s.Is(FlagMayReplicate) {
				t.Errorf("%s: read, and yet it may write", s.Name)
			}
		case Write:
			if !write {
				t.Errorf("%s: write, without the flag", s.Name)
			}
		case PrimaryOnly, Pinned, Refused:
		default:
			t.Errorf("%s: class %v", s.Name, s.Class)
		}
		if readonly && s.Class != Read && s.Name != "pfcount" && s.Name != "touch" {
			t.Errorf("%s: readonly, but %v", s.Name, s.Class)
		}
		// XREAD and XREADGROUP block only when told to.
		if s.Is(FlagBlocking) && s.Class != Pinned && !strings.HasPrefix(s.Name, "xread") {
			if s.Name != "wait" {
				t.Errorf("%s: blocking, but %v", s.Name, s.Class)
			}
		}
		if s.Is(FlagPubSub) && s.Class == Write {
			t.Errorf("%s: %v", s.Name, s.Class)
		}
	}
}

func TestUnknownError(t *testing.T) {
	r := startServer(t, 2)
	long := strings.Repeat("x", 200)
	for _, args := range [][]string{
		{"nope"}, {"nope", "a", "b"}, {"nope", ""}, {"nope", "a\r\nb"}, {"no\r\npe"}, {"no\x00pe", "a\x00b", "c"}, {"", ""},
		{long, long, long}, {"nope", long[:120], "abcdefghij", "k"}, {"nope", long[:124], "abcdef"},
		{"nope", long[:125], "abcdef"}, {"nope", long[:126], "b"}, {"NoPe", "\xff\xfe", "é"}, {"client|setname", "x"},
		{"config", "nope"}, {"Config", "nope", "x"}, {"config", long}, {"config", "a\nb\x00c"}, {"command", "nope"},
		{"get|x"}, {"xgroup", "", "k"},
	} {
		want := string(r.do(args...).Text())
		if got := UnknownError(argv(args...)); got != want {
			t.Errorf("%q:\n got %q\nwant %q", args, got, want)
		}
	}
	for _, args := range [][]string{{"get"}, {"GET", "a", "b"}, {"config"}, {"Config", "GET"}, {"client", "setname"}} {
		want := string(r.do(args...).Text())
		s := Lookup(argv(args...))
		if s.ArityOK(len(args)) {
			t.Errorf("%q: arity accepted", args)
		}
		if got := ArityError(s); got != want {
			t.Errorf("%q:\n got %q\nwant %q", args, got, want)
		}
	}
}

func TestIsHTTP(t *testing.T) {
	if !IsHTTP(argv("POST", "/")) || !IsHTTP(argv("Host:", "x")) || IsHTTP(argv("GET", "/")) || IsHTTP(nil) {
		t.Error("IsHTTP")
	}
}

func TestNoAllocations(t *testing.T) {
	args := argv("Set", "k", "v")
	sub := argv("CLIENT", "SETNAME", "x")
	mset := argv("mset", "a", "1", "b", "2", "c", "3")
	xread := argv("XREAD", "COUNT", "2", "STREAMS", "a", "b", "0", "0")
	keys := make([]Key, 0, 8)
	if n := testing.AllocsPerRun(1000, func() {
		Lookup(args)
		Lookup(sub)
		for _, args := range [...][][]byte{args, mset, xread} {
			keys, _ = Lookup(args).AppendKeys(keys[:0], args)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, args := range [][][]byte{
		argv("GET", "k"), argv("set", "k", "v"), argv("ZRANGEBYSCORE", "k"), argv("CLIENT", "SETNAME", "x"), argv("nope"),
	} {
		b.Run(string(args[0]), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Lookup(args)
			}
		})
	}
}

func BenchmarkAppendKeys(b *testing.B) {
	for _, args := range [][][]byte{
		argv("get", "k"), argv("mset", "a", "1", "b", "2", "c", "3"), argv("xread", "count", "2", "streams", "a", "b", "0", "0"),
		argv("zunionstore", "d", "2", "a", "b"),
	} {
		s := Lookup(args)
		b.Run(s.Name, func(b *testing.B) {
			var keys []Key
			b.ReportAllocs()
			for b.Loop() {
				keys, _ = s.AppendKeys(keys[:0], args)
			}
		})
	}
}
