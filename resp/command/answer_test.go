package command

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"respmesh/resp/frame"
)

func children(p frame.Reply) (all []frame.Reply) {
	p.Each(func(p frame.Reply) bool {
		all = append(all, p)
		return true
	})
	return all
}

// sorted returns the element of COMMAND INFO with its subcommands in the order of names. The server's own order changes
// with each start.
func sorted(p frame.Reply) []byte {
	fields := children(p)
	if len(fields) != 10 {
		return p.Raw
	}
	var subs []string
	for _, s := range children(fields[9]) {
		subs = append(subs, string(s.Raw))
	}
	slices.SortFunc(subs, func(a, b string) int { return strings.Compare(nameOf(a), nameOf(b)) })
	last := fields[9].Raw
	out := bytes.Clone(p.Raw[:len(p.Raw)-len(last)])
	out = append(out, last[:bytes.IndexByte(last, '\n')+1]...)
	return append(out, strings.Join(subs, "")...)
}

func nameOf(element string) string { return strings.Split(element, "\r\n")[2] }

func TestCommandInfo(t *testing.T) {
	for _, proto := range []int{2, 3} {
		srv := startServer(t, proto)
		for s := range All() {
			reply := children(srv.do("COMMAND", "INFO", s.Name))
			want := sorted(reply[0])
			if got := AppendCommandReply(nil, s, proto); !bytes.Equal(got, want) {
				t.Errorf("RESP%d %s:\n got %q\nwant %q", proto, s.Name, got, want)
			}
		}
		if all := children(srv.do("COMMAND")); len(all) != count() {
			t.Errorf("%d commands, the server has %d", count(), len(all))
		}
	}
}

func TestAppendAnswer(t *testing.T) {
	for _, proto := range []int{2, 3} {
		srv := startServer(t, proto)
		for _, line := range []string{
			"COMMAND COUNT", "COMMAND COUNT x", "COMMAND HELP", "COMMAND nope", "command info get nope config|get client|nope",
			"COMMAND GETKEYS get", "COMMAND GETKEYS get k", "COMMAND GETKEYS nope k", "COMMAND GETKEYS ping x",
			"COMMAND GETKEYS config foo", "COMMAND GETKEYS config", "COMMAND GETKEYS get a b", "COMMAND GETKEYS zunion 0",
			"COMMAND GETKEYS zunion x y", "COMMAND GETKEYS spublish a b", "COMMAND GETKEYS eval s 0", "COMMAND GETKEYS eval s 1",
			"COMMAND GETKEYSANDFLAGS set k v", "COMMAND GETKEYSANDFLAGS set k v get", "COMMAND GETKEYSANDFLAGS ping x",
			"COMMAND GETKEYSANDFLAGS bitfield k get u8 0", "COMMAND LIST x", "COMMAND LIST FILTERBY x y",
			"COMMAND LIST FILTERBY PATTERN", "COMMAND LIST FILTERBY MODULE x", "COMMAND LIST FILTERBY ACLCAT nope",
			"COMMAND LIST FILTERBY ACLCAT @geo", "COMMAND DOCS nope",
		} {
			args := strings.Fields(line)
			want := string(srv.do(args...).Raw)
			if got := string(AppendAnswer(nil, argv(args...), proto)); got != want {
				t.Errorf("RESP%d %s:\n got %q\nwant %q", proto, line, got, want)
			}
		}

		for _, line := range []string{
			"COMMAND LIST", "COMMAND LIST FILTERBY ACLCAT geo", "COMMAND LIST FILTERBY ACLCAT GEO",
			"COMMAND LIST FILTERBY PATTERN ge*", "COMMAND LIST FILTERBY PATTERN Config*", "COMMAND LIST FILTERBY PATTERN *|get",
			"COMMAND LIST FILTERBY PATTERN *",
		} {
			args := strings.Fields(line)
			want := sortedTexts(srv.do(args...))
			got := sortedTexts(frame.Reply{Raw: AppendAnswer(nil, argv(args...), proto)})
			if !slices.Equal(got, want) {
				t.Errorf("RESP%d %s:\n got %q\nwant %q", proto, line, got, want)
			}
		}

		// The order of commands and subcommands is the server's secret; what belongs to one of them is not.
		for _, line := range []string{"COMMAND", "COMMAND INFO", "COMMAND DOCS", "COMMAND DOCS config|get get"} {
			args := strings.Fields(line)
			want := flatten(srv.do(args...))
			got := flatten(frame.Reply{Raw: AppendAnswer(nil, argv(args...), proto)})
			if got != want {
				t.Errorf("RESP%d %s: not the server's", proto, line)
			}
		}
	}
}

func sortedTexts(p frame.Reply) (all []string) {
	for _, e := range children(p) {
		all = append(all, string(e.Text()))
	}
	slices.Sort(all)
	return all
}

// flatten prints COMMAND and COMMAND DOCS replies with commands sorted, and of the documentation what we have.
func flatten(p frame.Reply) string {
	var lines []string
	all := children(p)
	if len(all) > 0 && all[0].Kind() == frame.Array {
		for _, e := range all {
			lines = append(lines, fmt.Sprintf("%q", sorted(e)))
		}
	}
	for i := 0; i+1 < len(all) && all[i].Kind() == frame.Bulk; i += 2 {
		doc := children(all[i+1])
		for j := 0; j < len(doc); j += 2 {
			switch field := string(doc[j].Text()); field {
			case "summary", "since", "group", "complexity":
				lines = append(lines, fmt.Sprintf("%s %s %q", all[i].Text(), field, doc[j+1].Text()))
			case "subcommands":
				lines = append(lines, flatten(doc[j+1]))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
