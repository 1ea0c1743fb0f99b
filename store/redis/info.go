package redis

import (
	"bytes"
	"strconv"
	"strings"

	"respmesh/resp/frame"
)

// info is what a server's INFO says.
type info map[string]string

func parseInfo(text []byte) info {
	in := make(info)
	for l := range bytes.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(string(l)), ":"); ok {
			in[k] = v
		}
	}
	return in
}

func (in info) int(field string) int64 {
	n, _ := strconv.ParseInt(in[field], 10, 64)
	return n
}

// replica says whether the server follows another.
func (in info) replica() bool { return in["role"] == "slave" }

// history is the server's: of a replica, how far it has applied it.
func (in info) history() (replid string, offset int64) {
	if in.replica() {
		return in["master_replid"], in.int("slave_repl_offset")
	}
	return in["master_replid"], in.int("master_repl_offset")
}

// keys counts the keys of INFO keyspace.
func (in info) keys() (n int64) {
	for k, v := range in {
		if _, err := strconv.Atoi(strings.TrimPrefix(k, "db")); err != nil || !strings.HasPrefix(k, "db") {
			continue
		}
		for part := range strings.SplitSeq(v, ",") {
			if s, ok := strings.CutPrefix(part, "keys="); ok {
				i, _ := strconv.ParseInt(s, 10, 64)
				n += i
			}
		}
	}
	return n
}

// texts are the elements of an array of scalars.
func texts(f frame.Reply) []string {
	var out []string
	f.Each(func(e frame.Reply) bool {
		out = append(out, string(e.Text()))
		return true
	})
	return out
}
