package embedded

import (
	"slices"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

func pubsubCommands() []registration {
	return []registration{
		{"subscribe", func(x *call) { subscribeGeneric(x, subChannel) }, lockExclusive},
		{"psubscribe", func(x *call) { subscribeGeneric(x, subPattern) }, lockExclusive},
		{"ssubscribe", func(x *call) { subscribeGeneric(x, subShard) }, lockExclusive},
		{"unsubscribe", func(x *call) { unsubscribeGeneric(x, subChannel) }, lockExclusive},
		{"punsubscribe", func(x *call) { unsubscribeGeneric(x, subPattern) }, lockExclusive},
		{"sunsubscribe", func(x *call) { unsubscribeGeneric(x, subShard) }, lockExclusive},
		{"publish", func(x *call) { publishGeneric(x, false) }, lockExclusive},
		{"spublish", func(x *call) { publishGeneric(x, true) }, lockExclusive},
		{"pubsub|channels", func(x *call) { pubsubChannels(x, subChannel) }, lockExclusive},
		{"pubsub|shardchannels", func(x *call) { pubsubChannels(x, subShard) }, lockExclusive},
		{"pubsub|numsub", func(x *call) { pubsubNumsub(x, subChannel) }, lockExclusive},
		{"pubsub|shardnumsub", func(x *call) { pubsubNumsub(x, subShard) }, lockExclusive},
		{"pubsub|numpat", func(x *call) { x.int(int64(len(x.e.pubsub.subs[subPattern]))) }, lockExclusive},
		{"pubsub|help", pubsubHelp, lockShared},
	}
}

// The kinds of subscription.
const (
	subChannel = iota
	subPattern
	subShard
	subKinds
)

// The words of confirmations and messages by kind.
func subscribeWord(kind int) string {
	return [...]string{"subscribe", "psubscribe", "ssubscribe"}[kind]
}
func unsubscribeWord(kind int) string {
	return [...]string{"unsubscribe", "punsubscribe", "sunsubscribe"}[kind]
}

// subscriptions of one session, in the order in which they were made.
type subscriptions [subKinds][]string

func (s *subscriptions) count() int {
	return len(s[subChannel]) + len(s[subPattern]) + len(s[subShard])
}

// counted is the number in the confirmation of a kind: shard channels count by themselves.
func (s *subscriptions) counted(kind int) int64 {
	if kind == subShard {
		return int64(len(s[subShard]))
	}
	return int64(len(s[subChannel]) + len(s[subPattern]))
}

// pubsub is who listens to what. The engine's lock guards it: the write lock for changes and for publishing.
type pubsub struct {
	subs  [subKinds]map[string][]*Conn
	order []string // patterns, as they first came
	conns int      // sessions with a subscription
}

func (p *pubsub) init() {
	for i := range p.subs {
		p.subs[i] = map[string][]*Conn{}
	}
}

func (p *pubsub) sessions() int { return p.conns }

func (p *pubsub) add(c *Conn, kind int, name string) {
	if slices.Contains(p.subs[kind][name], c) {
		return
	}
	if c.subs.count() == 0 {
		p.conns++
	}
	if kind == subPattern && len(p.subs[kind][name]) == 0 {
		p.order = append(p.order, name)
	}
	c.subs[kind] = append(c.subs[kind], name)
	p.subs[kind][name] = append(p.subs[kind][name], c)
}

func (p *pubsub) remove(c *Conn, kind int, name string) {
	i := slices.Index(c.subs[kind], name)
	if i < 0 {
		return
	}
	c.subs[kind] = slices.Delete(c.subs[kind], i, i+1)
	rest := slices.DeleteFunc(p.subs[kind][name], func(o *Conn) bool { return o == c })
	if len(rest) > 0 {
		p.subs[kind][name] = rest
	} else {
		delete(p.subs[kind], name)
		if kind == subPattern {
			p.order = slices.DeleteFunc(p.order, func(s string) bool { return s == name })
		}
	}
	if c.subs.count() == 0 {
		p.conns--
	}
}

// drop ends all subscriptions of a session.
func (p *pubsub) drop(c *Conn) {
	for kind := range c.subs {
		for len(c.subs[kind]) > 0 {
			p.remove(c, kind, c.subs[kind][0])
		}
	}
}

// allowedSubscribed tells whether a RESP2 session with subscriptions may use a command.
func allowedSubscribed(spec *command.Spec) bool {
	switch spec.Name {
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "ping", "quit", "reset":
		return true
	}
	return false
}

func subscribeGeneric(x *call, kind int) {
	if x.c.push == nil {
		x.errf("ERR %s is not possible on this connection", x.spec.Name)
		return
	}
	for _, name := range x.args[1:] {
		x.e.pubsub.add(x.c, kind, string(name))
		x.push(3)
		x.bulkString(subscribeWord(kind))
		x.bulk(name)
		x.int(x.c.subs.counted(kind))
	}
}

func (x *call) push(n int) { x.out = frame.AppendPush(x.out, n, x.proto) }

func unsubscribeGeneric(x *call, kind int) {
	names := x.args[1:]
	if len(names) == 0 {
		for _, s := range x.c.subs[kind] {
			names = append(names, []byte(s))
		}
	}
	if len(names) == 0 {
		x.push(3)
		x.bulkString(unsubscribeWord(kind))
		x.null()
		x.int(x.c.subs.counted(kind))
	}
	for _, name := range names {
		x.e.pubsub.remove(x.c, kind, string(name))
		x.push(3)
		x.bulkString(unsubscribeWord(kind))
		x.bulk(name)
		x.int(x.c.subs.counted(kind))
	}
}

func publishGeneric(x *call, shard bool) {
	channel, message := x.args[1], x.args[2]
	n := 0
	if shard {
		n = x.deliver(x.e.pubsub.subs[subShard][string(channel)], "smessage", channel, message)
	} else {
		n = x.publish(channel, message)
	}
	x.int(int64(n))
	x.dirty++ // replicas have subscribers too
}

// publish sends a message to a channel's subscribers and those whose patterns match, and tells how many that were.
func (x *call) publish(channel, message []byte) int {
	p := &x.e.pubsub
	n := x.deliver(p.subs[subChannel][string(channel)], "message", channel, message)
	for _, pattern := range p.order {
		if match([]byte(pattern), channel, false) {
			n += x.deliver(p.subs[subPattern][pattern], "pmessage", []byte(pattern), channel, message)
		}
	}
	return n
}

// deliver sends a message to sessions, in the protocol of each.
func (x *call) deliver(to []*Conn, word string, parts ...[]byte) int {
	var frames [4][]byte // by protocol
	for _, c := range to {
		f := frames[c.proto]
		if f == nil {
			f = frame.AppendBulkString(frame.AppendPush(nil, 1+len(parts), c.proto), word)
			for _, b := range parts {
				f = frame.AppendBulk(f, b)
			}
			frames[c.proto] = f
		}
		if c == x.c {
			x.out = append(x.out, f...) // before the reply, in its place among the replies
		} else {
			c.push(f)
		}
	}
	return len(to)
}

func pubsubChannels(x *call, kind int) {
	if len(x.args) > 3 {
		x.errf("ERR unknown subcommand or wrong number of arguments for '%.128s'. Try PUBSUB HELP.", x.args[1])
		return
	}
	var names []string
	for name := range x.e.pubsub.subs[kind] {
		if len(x.args) == 2 || match(x.args[2], []byte(name), false) {
			names = append(names, name)
		}
	}
	x.array(len(names))
	for _, name := range names {
		x.bulkString(name)
	}
}

func pubsubNumsub(x *call, kind int) {
	x.array(2 * (len(x.args) - 2))
	for _, name := range x.args[2:] {
		x.bulk(name)
		x.int(int64(len(x.e.pubsub.subs[kind][string(name)])))
	}
}

func pubsubHelp(x *call) {
	x.help(
		"PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"CHANNELS [<pattern>]",
		"    Return the currently active channels matching a <pattern> (default: '*').",
		"NUMPAT",
		"    Return number of subscriptions to patterns.",
		"NUMSUB [<channel> ...]",
		"    Return the number of subscribers for the specified channels, excluding",
		"    pattern subscriptions(default: no channels).",
		"SHARDCHANNELS [<pattern>]",
		"    Return the currently active shard level channels matching a <pattern> (default: '*').",
		"SHARDNUMSUB [<shardchannel> ...]",
		"    Return the number of subscribers for the specified shard level channel(s)",
		"HELP",
		"    Prints this help.",
	)
}
