package redis

import (
	"bytes"
	"context"
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

// Usage is what a server says of its data.
type Usage struct {
	Version               string // such as "redis 7.0.15"
	Keys                  int64
	Memory                int64 // bytes
	Hits, Misses, Expired int64
}

// Usage asks the server, whose connection may have to be made first.
func (e *Engine) Usage(ctx context.Context) (Usage, error) {
	in, err := e.info(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		Version: "redis " + in["redis_version"], Keys: in.keys(), Memory: in.int("used_memory"),
		Hits: in.int("keyspace_hits"), Misses: in.int("keyspace_misses"), Expired: in.int("expired_keys"),
	}
	if v := in["valkey_version"]; v != "" {
		u.Version = "valkey " + v
	}
	return u, nil
}

// Usage sums up what the shards' primaries say.
func (cl *Cluster) Usage(ctx context.Context) (sum Usage, err error) {
	for _, s := range cl.slots.Load().shards {
		e := cl.member(s.primary, false)
		if e == nil {
			return sum, ErrClosed
		}
		u, err := e.Usage(ctx)
		if err != nil {
			return sum, err
		}
		sum.Version = u.Version
		sum.Keys += u.Keys
		sum.Memory += u.Memory
		sum.Hits += u.Hits
		sum.Misses += u.Misses
		sum.Expired += u.Expired
	}
	return sum, nil
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
