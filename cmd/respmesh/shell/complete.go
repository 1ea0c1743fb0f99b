package shell

import (
	"fmt"
	"slices"
	"strings"

	"respmesh/resp/command"
)

// Complete lists what the word at the end of a line may become: commands, or the subcommands of a container. The case
// of what was typed is kept.
func Complete(line string) []string {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasSuffix(line, " ") {
		words = append(words, "")
	}
	typed := words[len(words)-1]
	var found []string
	add := func(name string) {
		if typed != strings.ToLower(typed) || typed == "" {
			name = strings.ToUpper(name)
		}
		found = append(found, name)
	}
	switch len(words) {
	case 1:
		for s := range command.All() {
			if s.Parent() == nil && hasPrefix(s.Name, typed) {
				add(s.Name)
			}
		}
	case 2:
		if strings.EqualFold(words[0], "help") {
			for s := range command.All() {
				if s.Parent() == nil && hasPrefix(s.Name, typed) {
					add(s.Name)
				}
			}
			return found
		}
		if s := command.ByName(words[0]); s != nil {
			for sub := range s.Subcommands() {
				if name := sub.Name[len(s.Name)+1:]; hasPrefix(name, typed) {
					add(name)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

func hasPrefix(name, typed string) bool { return strings.HasPrefix(name, strings.ToLower(typed)) }

// Hint says what a command takes, such as "SET key arg [arg ...]", as far as the table knows; "" for an unknown one.
func Hint(words []string) string {
	s := lookup(words)
	if s == nil {
		return ""
	}
	b := strings.Builder{}
	b.WriteString(strings.ToUpper(strings.ReplaceAll(s.Name, "|", " ")))
	if s.IsContainer() {
		if s.Arity < -1 {
			b.WriteString(" subcommand [arg ...]")
		}
		return b.String()
	}
	first := 1
	if s.Parent() != nil {
		first = 2
	}
	least := s.Arity
	if least < 0 {
		least = -least
	}
	for i := first; i < least; i++ {
		if isKey(s, i) {
			b.WriteString(" key")
		} else {
			b.WriteString(" arg")
		}
	}
	if s.Arity < 0 {
		switch {
		case s.FirstKey > 0 && s.LastKey < 0 && s.KeyStep == 1:
			b.WriteString(" [key ...]")
		case s.FirstKey > 0 && s.LastKey < 0:
			b.WriteString(" [key arg ...]")
		default:
			b.WriteString(" [arg ...]")
		}
	}
	return b.String()
}

// isKey tells whether the argument at position i of the shortest form is a key.
func isKey(s *command.Spec, i int) bool {
	if s.FirstKey <= 0 || i < s.FirstKey {
		return false
	}
	last := s.LastKey
	if last < 0 {
		least := s.Arity
		if least < 0 {
			least = -least
		}
		last += least
		last = max(last, s.FirstKey)
	}
	return i <= last && (s.KeyStep <= 1 && i == s.FirstKey || s.KeyStep > 0 && (i-s.FirstKey)%s.KeyStep == 0)
}

func lookup(words []string) *command.Spec {
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	return command.Lookup(args)
}

// Help is the answer to "help COMMAND".
func Help(words []string) string {
	if len(words) == 0 {
		return `Type a command of Redis. Tab completes its name, then shows what it takes.
  help COMMAND   what a command does
  clear          clear the screen
  quit           leave (or Ctrl-D)
`
	}
	s := lookup(words)
	if s == nil {
		return fmt.Sprintf("There is no command %s.\n", Quote([]byte(strings.Join(words, " "))))
	}
	return fmt.Sprintf("  %s\n  summary: %s\n  since: %s\n  group: %s\n", Hint(words), strings.TrimSpace(s.Summary), s.Since, s.Group)
}

// completer completes on Tab: as far as all matches agree, then through them by turns; behind a whole command it shows
// what the command takes.
type completer struct {
	show func(string) // prints a line above the prompt

	matches []string // the last Tab's, to go through
	base    string   // the line before the word that is completed
	next    int
	shown   string // the line that Tab made
}

func (c *completer) key(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		c.matches = nil
		return "", 0, false
	}
	if c.matches != nil && line == c.shown && pos == len(line) {
		return c.turn()
	}
	head, tail := line[:pos], line[pos:]
	if tail != "" {
		return line, pos, true // in the middle of a line Tab does nothing
	}
	cut := strings.LastIndexByte(head, ' ') + 1
	typed := head[cut:]
	matches := Complete(head)
	switch {
	case strings.TrimSpace(head) == "":
		return line, pos, true
	case len(matches) == 1:
		line = head[:cut] + matches[0] + " "
		if typed == "" || !strings.EqualFold(strings.TrimSuffix(line, " "), head) {
			return line, len(line), true
		}
		c.hint(line)
		return line, len(line), true
	case len(matches) == 0 || typed == "" && len(strings.Fields(head)) > 1:
		c.hint(head)
		return line, pos, true
	}
	c.matches, c.base, c.next = matches, head[:cut], 0
	if common := commonPrefix(matches); len(common) > len(typed) {
		c.shown = c.base + common
		return c.shown, len(c.shown), true
	}
	return c.turn()
}

func (c *completer) turn() (string, int, bool) {
	c.shown = c.base + c.matches[c.next]
	c.next = (c.next + 1) % len(c.matches)
	return c.shown, len(c.shown), true
}

func (c *completer) hint(line string) {
	if h := Hint(strings.Fields(line)); h != "" {
		c.show(h)
	}
}

func commonPrefix(words []string) string {
	prefix := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}
