package acl

import (
	"strings"

	"respmesh/resp/command"
)

// Kind is what a user may not do.
type Kind uint8

// Kinds in the order in which they are told: the more a selector allowed before it refused, the more its refusal says.
const (
	Allowed Kind = iota
	DeniedCommand
	DeniedKey
	DeniedChannel
)

// Denial says why a command isn't allowed; its zero value says that it is.
type Denial struct {
	Kind Kind
	Arg  int // of the key or channel
}

// Check says whether the user may execute a command of the table. The number of arguments must be right. scratch is
// memory for the keys and may be used again with what is returned.
func (u *User) Check(spec *command.Spec, args [][]byte, scratch []command.Key) (Denial, []command.Key) {
	c := check{spec: spec, args: args, keys: scratch[:0]}
	worst := c.selector(&u.root)
	for i := 0; worst.Kind != Allowed && i < len(u.selectors); i++ {
		d := c.selector(&u.selectors[i])
		if d.Kind == Allowed || d.Kind > worst.Kind || d.Kind == worst.Kind && d.Arg > worst.Arg {
			worst = d
		}
	}
	return worst, c.keys
}

// check is one command, with what was found out about it.
type check struct {
	spec  *command.Spec
	args  [][]byte
	keys  []command.Key
	known bool // keys are found
}

func (c *check) selector(s *selector) Denial {
	if !s.all && !c.spec.Is(command.FlagNoAuth) && !s.has(c.spec.ID) && !c.firstArg(s) {
		return Denial{Kind: DeniedCommand}
	}
	if at := c.key(s); at > 0 {
		return Denial{DeniedKey, at}
	}
	if at := c.channel(s); at > 0 {
		return Denial{DeniedChannel, at}
	}
	return Denial{}
}

func (c *check) firstArg(s *selector) bool {
	if len(c.args) < 2 {
		return false
	}
	for _, a := range s.firstArgs[c.spec.ID] {
		if strings.EqualFold(a, string(c.args[1])) {
			return true
		}
	}
	return false
}

// key returns the argument that is a key the selector doesn't allow to be used so, or 0.
func (c *check) key(s *selector) int {
	if s.allKeys || len(c.spec.KeySpecs) == 0 {
		return 0
	}
	if !c.known {
		c.known = true
		c.keys, _ = c.spec.AppendKeys(c.keys, c.args)
	}
	for _, k := range c.keys {
		if k.Flags&command.KeyNotKey == 0 && !s.key(c.args[k.Index], needs(k.Flags)) {
			return k.Index
		}
	}
	if c.spec.Name == "sort" || c.spec.Name == "sort_ro" {
		return c.sortPattern()
	}
	return 0
}

func needs(f command.KeyFlags) (p permission) {
	if f&command.KeyAccess != 0 {
		p |= read
	}
	if f&(command.KeyInsert|command.KeyDelete|command.KeyUpdate) != 0 {
		p |= write
	}
	return p
}

func (s *selector) key(name []byte, p permission) bool {
	for i := range s.keys {
		if k := &s.keys[i]; k.allows&p == p && match(k.pattern, name) {
			return true
		}
	}
	return false
}

// sortPattern finds in SORT the option that names keys by a pattern, which only who may use all keys may give.
func (c *check) sortPattern() int {
	for i := 2; i < len(c.args); i++ {
		left := len(c.args) - i - 1
		switch word := strings.ToLower(string(c.args[i])); {
		case word == "limit" && left >= 2:
			i += 2
		case word == "store" && left >= 1:
			i++
		case word == "by" && left >= 1:
			if i++; strings.Contains(string(c.args[i]), "*") {
				return i
			}
		case word == "get" && left >= 1:
			return i + 1
		}
	}
	return 0
}

// channel returns the argument that is a channel the selector doesn't allow, or 0.
func (c *check) channel(s *selector) int {
	if s.allChannels {
		return 0
	}
	from, to, pattern := 1, len(c.args), false
	switch c.spec.Name {
	case "subscribe", "ssubscribe":
	case "psubscribe":
		pattern = true
	case "publish", "spublish":
		to = min(2, to)
	default:
		return 0
	}
	for i := from; i < to; i++ {
		if !s.channel(c.args[i], pattern) {
			return i
		}
	}
	return 0
}

func (s *selector) channel(name []byte, pattern bool) bool {
	for _, p := range s.channels {
		if pattern && p == string(name) || !pattern && match(p, name) {
			return true
		}
	}
	return false
}

// scripts says whether whatever a script can do is allowed.
func (s *selector) scripts(readOnly bool) bool {
	all := s.allKeys
	for _, k := range s.keys {
		all = all || readOnly && k.pattern == "*" && k.allows&read != 0
	}
	if !all || !s.allChannels && !readOnly {
		return false
	}
	if s.all {
		return true
	}
	for spec := range command.All() {
		switch {
		case spec.Is(command.FlagNoScript|command.FlagNoAuth|command.FlagAdmin) || spec.IsContainer() || spec.Class == command.Refused:
		case readOnly && !spec.Is(command.FlagReadonly):
		case !s.has(spec.ID):
			return false
		}
	}
	return true
}
