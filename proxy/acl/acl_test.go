package acl

import (
	"errors"
	"strings"
	"testing"

	"respmesh/resp/command"
)

func split(line string) (args [][]byte) {
	for _, w := range strings.Fields(line) {
		args = append(args, []byte(w))
	}
	return args
}

func verdict(t testing.TB, u *User, line string) Kind {
	t.Helper()
	args := split(line)
	spec := command.Lookup(args)
	if spec == nil {
		t.Fatalf("%s isn't in the table", line)
	}
	d, _ := u.Check(spec, args, nil)
	return d.Kind
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		rules   string
		allowed string
		command string // denied for the command
		key     string
		channel string
	}{
		{"", "hello 3|auth a b|quit", "get k|ping|client id", "", ""},
		{All, "get k|flushall|subscribe a|config set a b", "", "", ""},
		{"+@all", "ping|flushall|keys *", "", "get k|mset a 1 b 2", "publish c m|subscribe c"},
		{"~a* +@read", "get a|mget a ab|keys *", "set a 1", "get b|mget a b", ""},
		{"~* +@all -@write", "get a|ping", "set a 1|del a", "", "publish c m"},
		{"%R~r* %W~w* +@all", "get r|append w x|copy r w", "", "get w|append r x|set r 1|copy w r|incr w|getset w 1|set w 1 GET", "publish c m"},
		{"~* +client|id +select|0", "client id|select 0", "client list|select 1|get k", "", ""},
		{"~* +@all -client|kill -config", "client id|client list|get k", "client kill a|config get a|config set a b", "", ""},
		{"&news:* +@pubsub", "subscribe news:a|psubscribe news:*|publish news:x m|unsubscribe other", "get k", "", "subscribe other|psubscribe news:a*|publish other m"},
		{"~a +get (~b +set) (%R~c +@read)", "get a|set b 1|get c", "incr a", "get b|set c 1|mget a b", ""},
		{"~l* +sort", "sort l by nothing|sort l limit 0 by", "get l", "sort l by w*|sort l get #|sort x", ""},
		{"~* +@all reset", "quit", "get k", "", ""},
		{"~x +get resetkeys ~y -@all +set", "set y 1", "get y", "set x 1", ""},
		{ReadOnly, "get k|mget a b|zrange z 0 1|subscribe c|info|ping|multi|exec|xread streams s 0", "set k 1|keys *|flushall|scan 0|config get x|publish c m|eval x 0|acl list|monitor", "", ""},
	} {
		u, err := Parse(tt.rules)
		if err != nil {
			t.Errorf("%q: %v", tt.rules, err)
			continue
		}
		for kind, lines := range []string{tt.allowed, tt.command, tt.key, tt.channel} {
			for line := range strings.SplitSeq(lines, "|") {
				if line == "" {
					continue
				}
				if got := verdict(t, u, line); got != Kind(kind) {
					t.Errorf("%q: %s: %d, want %d", tt.rules, line, got, kind)
				}
			}
		}
		again, err := Parse(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q: String %q isn't read back: %v", tt.rules, u, err)
		}
	}
}

func TestSyntax(t *testing.T) {
	for rules, reason := range map[string]string{
		"+nope": unknownName, "-nope": unknownName, "+@nope": unknownName, "-select|0": unknownName, "+client|nope": unknownName,
		"+client|id|x": subOfSub, "+get|": syntax, "bla": syntax, "%X~a": syntax, "%~a": syntax, "%RR~a": syntax, "%R": syntax,
		"~* ~a": afterAllKeys, "allkeys %R~a": afterAllKeys, "&* &a": afterAllChan, "(+get": unmatched, "(+nope)": unknownName,
		">secret": noPasswords, "<secret": noPasswords, "#abc": noPasswords, "nopass": noPasswords, "+": unknownName, "(on)": syntax,
	} {
		_, err := Parse(rules)
		e, ok := errors.AsType[*SyntaxError](err)
		if !ok || e.Reason != reason || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", rules, err, reason)
		}
	}
}

func TestScripts(t *testing.T) {
	eval, ro := command.ByName("eval"), command.ByName("eval_ro")
	for rules, want := range map[string][2]bool{
		All: {true, true}, "": {}, "~a* +@all &*": {}, "~* +@all": {false, true}, "%R~* +@all &*": {false, true},
		"%R~* +@read": {false, true}, "~* &* +@all -set": {false, true}, "~* &* +@all -get": {}, "~a +eval (~* &* +@all)": {true, true},
		"~* &* +@all -debug -shutdown -multi": {true, true},
	} {
		u, err := Parse(rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{u.MayScript(eval), u.MayScript(ro)}; got != want {
			t.Errorf("%q: %v, want %v", rules, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{All, ReadOnly, "~a (+get ~b) &c -@all +client|id %R~x", "( )", "(", "reset on", "+@all -@all", "+select|0 -select"} {
		f.Add(s)
	}
	args := split("set k v get")
	spec := command.Lookup(args)
	f.Fuzz(func(t *testing.T, rules string) {
		u, err := Parse(rules)
		if err != nil {
			return
		}
		text := u.String()
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%q → %q: %v", rules, text, err)
		}
		a, _ := u.Check(spec, args, nil)
		b, _ := again.Check(spec, args, nil)
		if again.String() != text || a != b || u.Unrestricted() != again.Unrestricted() {
			t.Fatalf("%q → %q → %q", rules, text, again)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	u, err := Parse("~user:* ~cache:* +@all -@dangerous")
	if err != nil {
		b.Fatal(err)
	}
	args := split("get cache:12345")
	spec := command.Lookup(args)
	scratch := make([]command.Key, 0, 4)
	b.ReportAllocs()
	for b.Loop() {
		var d Denial
		if d, scratch = u.Check(spec, args, scratch); d.Kind != Allowed {
			b.Fatal(d)
		}
	}
}
