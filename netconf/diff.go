package netconf

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxAuditLines bounds the record of one change.
const maxAuditLines = 100

// Diff says what is different between two topologies, a line for each record that was added, removed or changed.
// Secrets, and what counts on its own, aren't in it.
func Diff(before, after *Topology) []string {
	var l lines
	if before.Infra != after.Infra {
		l.add("infrastructure: prefix " + after.Infra.String())
	}
	compare(&l, before.Orgs, after.Orgs, func(o Org) string { return "org " + o.Name }, func(o Org) []field {
		return []field{{"prefix", o.Prefix.String()}}
	})
	compare(&l, before.Nodes, after.Nodes, func(n Node) string { return "node " + n.Name }, func(n Node) []field {
		return []field{{"region", n.Region}, {"key", n.Key}, {"address", n.Addr.String()}, {"endpoint", n.Endpoint}, {"draining", yes(n.Draining)}}
	})
	// By ID: one that took the place of another of the same name is another.
	compare(&l, before.Databases, after.Databases, func(d Database) string { return "database " + d.Org + "/" + d.Name + "\x00" + d.ID }, databaseFields)
	compare(&l, before.Users, after.Users, func(u User) string { return "user " + u.Org + "/" + u.Database + " " + u.Name }, func(u User) []field {
		return []field{{"rules", u.Rules}, {"password", secret(u.PasswordHash)}}
	})
	compare(&l, before.Peers, after.Peers, func(p Peer) string { return "peer " + p.Org + "/" + p.Name }, func(p Peer) []field {
		return []field{{"region", p.Region}, {"key", p.Key}, {"address", p.Addr.String()}, {"roaming", yes(p.Roaming)}}
	})
	compare(&l, before.Tokens, after.Tokens, func(k Token) string { return "token " + k.ID }, func(k Token) []field {
		return []field{{"name", k.Name}, {"scope", string(k.Scope)}, {"org", k.Org}, {"region", k.Region}, {"expires", at3339(k.Expires)},
			{"reusable", yes(k.Reusable)}, {"used by", k.UsedBy}}
	})
	return l.bounded()
}

func databaseFields(d Database) []field {
	f := []field{{"primary", d.Primary}, {"replicas", strings.Join(d.Replicas, ",")}, {"plan", d.Plan},
		{"eviction", yes(d.Eviction)}, {"password", secret(d.PasswordHash)}, {"engine", d.Engine.Kind}, {"engine URL", secret(d.Engine.URL)},
		{"pending engine", d.Pending.Kind}, {"pending engine URL", secret(d.Pending.URL)}}
	if d.MaxMemory != 0 {
		f = append(f, field{"memory", strconv.FormatInt(d.MaxMemory, 10)})
	}
	if l := d.Lead; l.Node != "" {
		how := "handed to "
		if l.Force {
			how = "forced to "
		}
		f = append(f, field{"lead", how + l.Node + " after term " + strconv.FormatInt(l.Term, 10)})
	}
	if d.MinReplicas != 0 {
		f = append(f, field{"min replicas", strconv.Itoa(d.MinReplicas)})
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"max sessions", int64(d.Limits.MaxSessions)}, {"commands per second", int64(d.Limits.CommandsPerSecond)},
		{"concurrency", int64(d.Limits.Concurrency)}, {"max value", d.Limits.MaxValue}} {
		if n.value != 0 {
			f = append(f, field{n.name, strconv.FormatInt(n.value, 10)})
		}
	}
	if d.Limits.IdleTimeout != 0 {
		f = append(f, field{"idle timeout", d.Limits.IdleTimeout.String()})
	}
	if d.Near != 0 {
		f = append(f, field{"near", d.Near.String()})
	}
	if d.MaxLag != 0 {
		f = append(f, field{"max lag", d.MaxLag.String()})
	}
	if d.Hedge != 0 {
		f = append(f, field{"hedge", d.Hedge.String()})
	}
	return append(f, field{"address", d.Address.String()})
}

// field is one value of a record, as text; empty values are the same as none. A value that secret has made is
// compared and never written.
type field struct{ name, value string }

const secretMark = "\x00"

func secret(s string) string {
	if s == "" {
		return ""
	}
	return secretMark + s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func at3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// compare adds the lines of one kind of records. What follows a zero byte in the name tells records apart and isn't
// written.
func compare[T any](l *lines, before, after []T, name func(T) string, fields func(T) []field) {
	old := make(map[string]T, len(before))
	for _, r := range before {
		old[name(r)] = r
	}
	for _, r := range after {
		full := name(r)
		title, _, _ := strings.Cut(full, "\x00")
		was, existed := old[full]
		delete(old, full)
		if !existed {
			l.add(strings.TrimSuffix(title+": added, "+describe(fields(r)), ", "))
			continue
		}
		for _, c := range changes(fields(was), fields(r)) {
			l.add(title + ": " + c)
		}
	}
	gone := make([]string, 0, len(old))
	for full := range old {
		title, _, _ := strings.Cut(full, "\x00")
		gone = append(gone, title+": removed")
	}
	slices.Sort(gone)
	for _, line := range gone {
		l.add(line)
	}
}

// describe lists the fields of a new record.
func describe(fields []field) string {
	var parts []string
	for _, f := range fields {
		if f.value != "" && !strings.HasPrefix(f.value, secretMark) {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	return strings.Join(parts, ", ")
}

func changes(before, after []field) []string {
	old := make(map[string]string, len(before))
	for _, f := range before {
		old[f.name] = f.value
	}
	var lines []string
	add := func(name, was, is string) {
		switch {
		case was == is:
		case strings.HasPrefix(was, secretMark), strings.HasPrefix(is, secretMark):
			lines = append(lines, name+" changed")
		default:
			nothing := "none"
			if was == yes(true) || is == yes(true) {
				nothing = "no"
			}
			lines = append(lines, fmt.Sprintf("%s %s → %s", name, cmp.Or(was, nothing), cmp.Or(is, nothing)))
		}
	}
	for _, f := range after {
		add(f.name, old[f.name], f.value)
		delete(old, f.name)
	}
	for _, f := range before {
		if was, left := old[f.name]; left {
			add(f.name, was, "")
		}
	}
	return lines
}

// lines collects at most maxAuditLines and counts the rest.
type lines struct {
	list []string
	more int
}

func (l *lines) add(line string) {
	if len(l.list) == maxAuditLines {
		l.more++
		return
	}
	l.list = append(l.list, strings.ToValidUTF8(line, "?"))
}

func (l *lines) bounded() []string {
	if l.more > 0 {
		return append(l.list, fmt.Sprintf("and %d more", l.more))
	}
	return l.list
}
