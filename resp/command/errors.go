package command

import (
	"bytes"
	"fmt"
	"strings"
)

// The server's formats cut what the client sent at 128 bytes.
const maxQuoted = 128

// UnknownError returns the text of Redis's error, without the '-', for a command that Lookup doesn't find, or of which
// it finds but the container.
func UnknownError(args [][]byte) string {
	if len(args) == 0 {
		return "ERR unknown command"
	}
	if s := find(args[0]); s != nil && s.IsContainer() && len(args) > 1 {
		return fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", quoted(args[1], maxQuoted), strings.ToUpper(s.Name))
	}
	var b strings.Builder
	for _, arg := range args[1:] {
		if b.Len() >= maxQuoted {
			break
		}
		fmt.Fprintf(&b, "'%s' ", quoted(arg, maxQuoted-b.Len()))
	}
	return fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", quoted(args[0], maxQuoted), b.String())
}

// quoted does what C's "%.*s" does, and clears line ends away as Redis does in errors.
func quoted(b []byte, limit int) string {
	b = b[:min(len(b), limit)]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(string(b))
}

// ArityError returns the text of Redis's error, without the '-', for a wrong number of arguments.
func ArityError(s *Spec) string {
	return "ERR wrong number of arguments for '" + s.Name + "' command"
}

// IsHTTP reports whether the first line of a command is one of HTTP's. Redis closes such a connection without an
// answer: somebody makes a browser send commands to it.
func IsHTTP(args [][]byte) bool {
	return len(args) > 0 && (EqualFold(args[0], "post") || EqualFold(args[0], "host:"))
}
