package acl

import (
	"slices"
	"strings"

	"respmesh/resp/command"
)

// permission is what a key pattern allows.
type permission uint8

const (
	read permission = 1 << iota
	write
)

type keyPattern struct {
	pattern string
	allows  permission
}

// selector is one set of rules; a command is allowed when any of a user's selectors allows it.
type selector struct {
	all         bool // every command, also those that aren't in the table
	allKeys     bool
	allChannels bool
	commands    [(command.Count + 63) / 64]uint64 // by command.Spec.ID
	firstArgs   map[int][]string                  // by ID: allowed with these first arguments only
	keys        []keyPattern
	channels    []string
	base        bool     // the command rules begin with every command
	words       []string // the command rules, for Describe
}

func (s *selector) has(id int) bool { return s.commands[id/64]&(1<<(id%64)) != 0 }

func (s *selector) apply(w string) error {
	switch strings.ToLower(w) {
	case "allkeys", "~*":
		s.keys, s.allKeys = nil, true
		return nil
	case "resetkeys":
		s.keys, s.allKeys = nil, false
		return nil
	case "allchannels", "&*":
		s.channels, s.allChannels = nil, true
		return nil
	case "resetchannels":
		s.channels, s.allChannels = nil, false
		return nil
	case "allcommands", "+@all":
		s.setAll(true)
		return nil
	case "nocommands", "-@all":
		s.setAll(false)
		return nil
	}
	switch w[0] {
	case '~', '%':
		return s.addKey(w)
	case '&':
		return s.addChannel(w)
	case '+', '-':
		return s.addCommand(w)
	}
	return &SyntaxError{w, syntax}
}

func (s *selector) addKey(w string) error {
	if s.allKeys {
		return &SyntaxError{w, afterAllKeys}
	}
	allows, pattern := read|write, w[1:]
	if w[0] == '%' {
		allows = 0
		at := strings.IndexByte(w, '~')
		if at < 0 {
			return &SyntaxError{w, syntax}
		}
		for _, c := range strings.ToUpper(w[1:at]) {
			switch {
			case c == 'R' && allows&read == 0:
				allows |= read
			case c == 'W' && allows&write == 0:
				allows |= write
			default:
				return &SyntaxError{w, syntax}
			}
		}
		if allows == 0 {
			return &SyntaxError{w, syntax}
		}
		pattern = w[at+1:]
	}
	if i := slices.IndexFunc(s.keys, func(p keyPattern) bool { return p.pattern == pattern }); i >= 0 {
		s.keys[i].allows |= allows
		return nil
	}
	s.keys = append(s.keys, keyPattern{pattern, allows})
	return nil
}

func (s *selector) addChannel(w string) error {
	if s.allChannels {
		return &SyntaxError{w, afterAllChan}
	}
	if !slices.Contains(s.channels, w[1:]) {
		s.channels = append(s.channels, w[1:])
	}
	return nil
}

func (s *selector) setAll(allow bool) {
	s.all, s.base, s.words, s.firstArgs = allow, allow, nil, nil
	for i := range s.commands {
		s.commands[i] = 0
		if allow {
			s.commands[i] = ^uint64(0)
		}
	}
}

func (s *selector) addCommand(w string) error {
	allow, name := w[0] == '+', strings.ToLower(w[1:])
	switch {
	case strings.HasPrefix(name, "@"):
		category, ok := command.CategoryByName(name[1:])
		if !ok {
			return &SyntaxError{w, unknownName}
		}
		for spec := range command.All() {
			if spec.Categories&category != 0 {
				s.set(spec, allow)
			}
		}
	case allow && strings.Contains(name, "|"):
		at := strings.LastIndexByte(name, '|')
		spec := command.ByName(name[:at])
		switch {
		case spec == nil:
			return &SyntaxError{w, unknownName}
		case spec.Parent() != nil:
			return &SyntaxError{w, subOfSub}
		case at == len(name)-1:
			return &SyntaxError{w, syntax}
		case spec.IsContainer():
			if spec = command.ByName(name); spec == nil {
				return &SyntaxError{w, unknownName}
			}
			s.set(spec, true)
		default:
			if s.firstArgs == nil {
				s.firstArgs = make(map[int][]string)
			}
			s.firstArgs[spec.ID] = append(s.firstArgs[spec.ID], name[at+1:])
		}
	default:
		spec := command.ByName(name)
		if spec == nil {
			return &SyntaxError{w, unknownName}
		}
		s.set(spec, allow)
	}
	s.note(w[:1] + name)
	return nil
}

// set allows or forbids a command with its subcommands.
func (s *selector) set(spec *command.Spec, allow bool) {
	delete(s.firstArgs, spec.ID)
	if !allow {
		s.all = false
	}
	s.bit(spec.ID, allow)
	for sub := range spec.Subcommands() {
		s.bit(sub.ID, allow)
	}
}

func (s *selector) bit(id int, allow bool) {
	if allow {
		s.commands[id/64] |= 1 << (id % 64)
	} else {
		s.commands[id/64] &^= 1 << (id % 64)
	}
}

// note keeps a command rule for Describe; a rule for the same name, or for what is below it, is replaced.
func (s *selector) note(w string) {
	s.words = slices.DeleteFunc(s.words, func(o string) bool {
		return o[1:] == w[1:] || strings.HasPrefix(o[1:], w[1:]+"|")
	})
	s.words = append(s.words, w)
}
