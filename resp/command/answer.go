package command

import (
	"iter"
	"path"
	"strings"

	"respmesh/resp/frame"
)

// AppendAnswer appends the reply to a command of the COMMAND family, which depends on nothing but the table: COMMAND,
// COMMAND COUNT, DOCS, GETKEYS, GETKEYSANDFLAGS, HELP, INFO and LIST. COMMAND DOCS doesn't describe arguments.
func AppendAnswer(dst []byte, args [][]byte, proto int) []byte {
	s := Lookup(args)
	switch {
	case s == nil || s.IsContainer() && len(args) > 1:
		return frame.AppendError(dst, UnknownError(args))
	case !s.ArityOK(len(args)):
		return frame.AppendError(dst, ArityError(s))
	}
	switch s.Name {
	case "command":
		return appendAllInfo(dst, proto)
	case "command|info":
		if len(args) == 2 {
			return appendAllInfo(dst, proto)
		}
		dst = frame.AppendArray(dst, len(args)-2)
		for _, name := range args[2:] {
			if s := ByName(string(name)); s != nil {
				dst = AppendCommandReply(dst, s, proto)
			} else {
				dst = frame.AppendNull(dst, proto)
			}
		}
		return dst
	case "command|count":
		return frame.AppendInt(dst, int64(count()))
	case "command|docs":
		return appendDocs(dst, args[2:], proto)
	case "command|list":
		return appendList(dst, args[2:])
	case "command|getkeys":
		return appendGetKeys(dst, args[2:], false, proto)
	case "command|getkeysandflags":
		return appendGetKeys(dst, args[2:], true, proto)
	case "command|help":
		dst = frame.AppendArray(dst, len(help))
		for _, line := range help {
			dst = frame.AppendSimple(dst, line)
		}
		return dst
	}
	return frame.AppendError(dst, UnknownError(args))
}

var help = [...]string{
	"COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
	"(no subcommand)",
	"    Return details about all Redis commands.",
	"COUNT",
	"    Return the total number of commands in this Redis server.",
	"LIST",
	"    Return a list of all commands in this Redis server.",
	"INFO [<command-name> ...]",
	"    Return details about multiple Redis commands.",
	"    If no command names are given, documentation details for all",
	"    commands are returned.",
	"DOCS [<command-name> ...]",
	"    Return documentation details about multiple Redis commands.",
	"    If no command names are given, documentation details for all",
	"    commands are returned.",
	"GETKEYS <full-command>",
	"    Return the keys from a full Redis command.",
	"GETKEYSANDFLAGS <full-command>",
	"    Return the keys and the access flags from a full Redis command.",
	"HELP",
	"    Prints this help.",
}

func appendAllInfo(dst []byte, proto int) []byte {
	dst = frame.AppendArray(dst, count())
	for s := range commands() {
		dst = AppendCommandReply(dst, s, proto)
	}
	return dst
}

func appendDocs(dst []byte, names [][]byte, proto int) []byte {
	if len(names) == 0 {
		dst = frame.AppendMap(dst, count(), proto)
		for s := range commands() {
			dst = appendDoc(dst, s, proto)
		}
		return dst
	}
	found := make([]*Spec, 0, len(names))
	for _, name := range names {
		if s := ByName(string(name)); s != nil {
			found = append(found, s)
		}
	}
	dst = frame.AppendMap(dst, len(found), proto)
	for _, s := range found {
		dst = appendDoc(dst, s, proto)
	}
	return dst
}

func appendDoc(dst []byte, s *Spec, proto int) []byte {
	fields := [...]struct{ name, value string }{
		{"summary", s.Summary}, {"since", s.Since}, {"group", s.Group}, {"complexity", s.Complexity},
	}
	n := min(s.subs, 1)
	for _, f := range fields {
		if f.value != "" {
			n++
		}
	}
	dst = frame.AppendBulkString(dst, s.Name)
	dst = frame.AppendMap(dst, n, proto)
	for _, f := range fields {
		if f.value != "" {
			dst = frame.AppendBulkString(frame.AppendBulkString(dst, f.name), f.value)
		}
	}
	if s.subs > 0 {
		dst = frame.AppendBulkString(dst, "subcommands")
		dst = frame.AppendMap(dst, s.subs, proto)
		for sub := range s.Subcommands() {
			dst = appendDoc(dst, sub, proto)
		}
	}
	return dst
}

// appendList answers COMMAND LIST [FILTERBY MODULE name|ACLCAT category|PATTERN pattern].
func appendList(dst []byte, args [][]byte) []byte {
	matches := func(*Spec) bool { return true }
	if len(args) > 0 {
		if len(args) != 3 || !EqualFold(args[0], "filterby") {
			return frame.AppendError(dst, "ERR syntax error")
		}
		value := string(args[2])
		switch {
		case EqualFold(args[1], "module"):
			matches = func(*Spec) bool { return false }
		case EqualFold(args[1], "aclcat"):
			category, _ := CategoryByName(strings.ToLower(value))
			matches = func(s *Spec) bool { return s.Categories&category != 0 }
		case EqualFold(args[1], "pattern"):
			pattern := strings.ToLower(value)
			matches = func(s *Spec) bool {
				ok, err := path.Match(pattern, s.Name) // names have no slash and patterns of use no [^
				return ok && err == nil
			}
		default:
			return frame.AppendError(dst, "ERR syntax error")
		}
	}
	n := 0
	for s := range All() {
		if matches(s) {
			n++
		}
	}
	dst = frame.AppendArray(dst, n)
	for s := range All() {
		if matches(s) {
			dst = frame.AppendBulkString(dst, s.Name)
		}
	}
	return dst
}

func appendGetKeys(dst []byte, args [][]byte, flags bool, proto int) []byte {
	s := Lookup(args)
	switch {
	case s == nil || s.IsContainer() && len(args) > 1:
		return frame.AppendError(dst, "ERR Invalid command specified")
	case !s.hasKeys():
		return frame.AppendError(dst, "ERR The command has no key arguments")
	case !s.ArityOK(len(args)):
		return frame.AppendError(dst, "ERR Invalid number of arguments specified for command")
	}
	keys, _ := s.AppendKeys(nil, args)
	if len(keys) == 0 {
		if s.Is(FlagNoMandatoryKeys) {
			return frame.AppendArray(dst, 0)
		}
		return frame.AppendError(dst, "ERR Invalid arguments specified for command")
	}
	dst = frame.AppendArray(dst, len(keys))
	for _, k := range keys {
		if flags {
			dst = frame.AppendArray(dst, 2)
		}
		dst = frame.AppendBulk(dst, args[k.Index])
		if flags {
			dst = appendNames(dst, k.Flags.Names(), "", proto)
		}
	}
	return dst
}

// commands yields the entries that aren't subcommands.
func commands() iter.Seq[*Spec] {
	return func(yield func(*Spec) bool) {
		for s := range All() {
			if s.parent == s.ID && !yield(s) {
				return
			}
		}
	}
}

// count is what COMMAND COUNT tells: subcommands aren't counted.
func count() int {
	n := 0
	for range commands() {
		n++
	}
	return n
}
