package redis

import (
	"bytes"
	"context"
	"slices"
	"strconv"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// several executes a command that is about more than one slot, or about all.
type several func(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte

// splits says how a command with keys of several slots is taken apart; nil: it isn't.
func splits(s *command.Spec) several {
	if s == nil {
		return nil
	}
	switch s.Name {
	case "mget":
		return splitMget
	case "mset":
		return splitMset
	case "del", "unlink", "exists", "touch":
		return splitCount
	}
	return nil
}

// part is the share of one slot in a command; at says which of the keys it has.
type part struct {
	args [][]byte
	at   []int
}

// parts takes a command apart by slot; each key has width-1 arguments behind it.
func parts(r *command.Request, width int) []command.Request {
	reqs, _ := partsAt(r, width)
	return reqs
}

func partsAt(r *command.Request, width int) ([]command.Request, []part) {
	var all []part
	of := make(map[uint16]int)
	for i := 1; i+width <= len(r.Args); i += width {
		slot := slotOf(r.Args[i])
		n, ok := of[slot]
		if !ok {
			n = len(all)
			of[slot] = n
			all = append(all, part{args: [][]byte{r.Args[0]}})
		}
		all[n].args = append(all[n].args, r.Args[i:i+width]...)
		all[n].at = append(all[n].at, i)
	}
	reqs := make([]command.Request, len(all))
	for i, p := range all {
		reqs[i].Spec, reqs[i].Args, reqs[i].Raw = r.Spec, p.args, frame.AppendCommand(nil, p.args...)
	}
	return reqs, all
}

// answers executes the parts and gives their replies; the first error if there is one.
func (c *ClusterConn) answers(ctx context.Context, reqs []command.Request) (replies [][]byte, failed []byte) {
	eachFrame(c.pipeline(ctx, nil, reqs), func(f frame.Reply) {
		if f.IsError() && failed == nil {
			failed = bytes.Clone(f.Raw)
		}
		replies = append(replies, bytes.Clone(f.Raw))
	})
	if failed == nil && len(replies) != len(reqs) {
		failed = frame.AppendError(nil, "ERR the cluster didn't answer all of it")
	}
	return replies, failed
}

func splitMget(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	reqs, at := partsAt(r, 1)
	replies, failed := c.answers(ctx, reqs)
	if failed != nil {
		return append(dst, failed...)
	}
	values := make([][]byte, len(r.Args))
	for i, raw := range replies {
		n := 0
		frame.Reply{Raw: raw}.Each(func(v frame.Reply) bool {
			if n < len(at[i].at) {
				values[at[i].at[n]] = v.Raw
			}
			n++
			return true
		})
	}
	dst = frame.AppendArray(dst, len(r.Args)-1)
	for _, v := range values[1:] {
		dst = append(dst, v...)
	}
	return dst
}

func splitMset(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	if len(r.Args)%2 == 0 {
		return frame.AppendError(dst, command.ArityError(r.Spec))
	}
	replies, failed := c.answers(ctx, parts(r, 2))
	if failed != nil {
		return append(dst, failed...)
	}
	return append(dst, replies[0]...)
}

func splitCount(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	return c.sum(ctx, dst, parts(r, 1))
}

func (c *ClusterConn) sum(ctx context.Context, dst []byte, reqs []command.Request) []byte {
	replies, failed := c.answers(ctx, reqs)
	if failed != nil {
		return append(dst, failed...)
	}
	return appendSum(dst, replies)
}

func appendSum(dst []byte, replies [][]byte) []byte {
	var n int64
	for _, raw := range replies {
		i, _ := frame.Reply{Raw: raw}.Int()
		n += i
	}
	return frame.AppendInt(dst, n)
}

// fanOf says how a command that is about all shards is executed on them; nil: it isn't about all.
func fanOf(s *command.Spec) several {
	if s == nil {
		return nil
	}
	switch s.Name {
	case "keys", "pubsub|channels", "pubsub|shardchannels":
		return fanJoin
	case "dbsize":
		return fanSum
	case "flushall", "flushdb", "script|load", "script|flush", "function|load", "function|delete", "function|flush", "function|restore":
		return fanSame
	case "script|exists":
		return fanSame
	case "scan":
		return fanScan
	case "randomkey":
		return fanRandom
	}
	return nil
}

// everywhere executes a command on all primaries.
func (c *ClusterConn) everywhere(ctx context.Context, r *command.Request) (replies [][]byte, failed []byte) {
	for _, s := range c.cl.slots.Load().shards {
		n := c.node(s.primary, false)
		if n == nil {
			return nil, frame.AppendError(nil, clusterDown)
		}
		out, _ := n.share(ctx, nil, []command.Request{*r}, false)
		if len(out) == 0 || out[0] == '-' {
			if len(out) == 0 {
				out = frame.AppendError(nil, clusterDown)
			}
			return nil, out
		}
		replies = append(replies, out)
	}
	return replies, nil
}

func fanJoin(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	replies, failed := c.everywhere(ctx, r)
	if failed != nil {
		return append(dst, failed...)
	}
	var all [][]byte
	for _, raw := range replies {
		frame.Reply{Raw: raw}.Each(func(e frame.Reply) bool {
			all = append(all, e.Raw)
			return true
		})
	}
	dst = frame.AppendArray(dst, len(all))
	return append(dst, bytes.Join(all, nil)...)
}

func fanSum(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	replies, failed := c.everywhere(ctx, r)
	if failed != nil {
		return append(dst, failed...)
	}
	return appendSum(dst, replies)
}

// fanSame is for what each node answers alike.
func fanSame(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	replies, failed := c.everywhere(ctx, r)
	if failed != nil {
		return append(dst, failed...)
	}
	return append(dst, replies[0]...)
}

func fanRandom(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	replies, failed := c.everywhere(ctx, r)
	if failed != nil {
		return append(dst, failed...)
	}
	for _, raw := range replies {
		if !(frame.Reply{Raw: raw}).IsNull() {
			return append(dst, raw...)
		}
	}
	return append(dst, replies[0]...)
}

// scanShift is where in a cursor the number of the shard is; the servers' own cursors are below, as long as a shard has fewer
// than 2^48 keys.
const scanShift = 48

// fanScan goes through the shards one after the other.
func fanScan(ctx context.Context, c *ClusterConn, dst []byte, r *command.Request) []byte {
	cursor, err := strconv.ParseUint(string(r.Args[1]), 10, 64)
	if err != nil {
		return frame.AppendError(dst, "ERR invalid cursor")
	}
	shards := c.cl.slots.Load().shards
	i := int(cursor >> scanShift)
	if i >= len(shards) { // there were more when it began
		return frame.AppendArray(frame.AppendBulkString(frame.AppendArray(dst, 2), "0"), 0)
	}
	n := c.node(shards[i].primary, false)
	if n == nil {
		return frame.AppendError(dst, clusterDown)
	}
	args := slices.Clone(r.Args)
	args[1] = strconv.AppendUint(nil, cursor&(1<<scanShift-1), 10)
	req := command.Request{Spec: r.Spec}
	req.Args, req.Raw = args, frame.AppendCommand(nil, args...)
	out, _ := n.share(ctx, nil, []command.Request{req}, false)
	if len(out) == 0 || out[0] == '-' {
		return append(dst, out...)
	}
	var elements []frame.Reply
	frame.Reply{Raw: out}.Each(func(e frame.Reply) bool {
		elements = append(elements, e)
		return true
	})
	if len(elements) != 2 {
		return frame.AppendError(dst, "ERR reply of the cluster can't be understood")
	}
	next, _ := strconv.ParseUint(string(elements[0].Text()), 10, 64)
	switch {
	case next != 0:
		next |= uint64(i) << scanShift
	case i+1 < len(shards):
		next = uint64(i+1) << scanShift
	}
	dst = frame.AppendBulkString(frame.AppendArray(dst, 2), strconv.FormatUint(next, 10))
	return append(dst, elements[1].Raw...)
}
