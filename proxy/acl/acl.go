// Package acl checks commands against Redis's access rules (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/),
// as redis-server 7.0.15 does, from the command table alone.
//
// Rules are words: on, off, reset; +command, +command|subcommand, +command|firstarg, -command, +@category, -@category,
// allcommands, nocommands; ~pattern, %R~pattern, %W~pattern, allkeys, resetkeys; &pattern, allchannels, resetchannels;
// (selector), clearselectors. Passwords aren't rules here: whoever keeps the user keeps its password. A user starts
// enabled, with no command, key or channel.
//
// One thing differs. What a script calls is checked by redis-server as it runs; a gateway only sees the script. So a
// script is allowed, besides by Check, only to users who could call everything from it: see MayScript.
package acl

import (
	"fmt"
	"strings"

	"respmesh/resp/command"
)

// ReadOnly are the rules of a user that reads everything and changes nothing.
const ReadOnly = "%R~* &* +@read +@connection +@transaction +subscribe +psubscribe +ssubscribe +unsubscribe +punsubscribe " +
	"+sunsubscribe -@dangerous -scan +info"

// All are the rules of a user that may do everything.
const All = "~* &* +@all"

// User is what the rules of one user say. It is immutable.
type User struct {
	off       bool
	root      selector
	selectors []selector
}

// SyntaxError is a rule that can't be taken.
type SyntaxError struct{ Rule, Reason string }

func (e *SyntaxError) Error() string { return fmt.Sprintf("access rule %q: %s", e.Rule, e.Reason) }

const (
	syntax       = "syntax error"
	unknownName  = "unknown command or category name"
	subOfSub     = "a first argument of a subcommand can't be named"
	afterAllKeys = "a pattern after ~* has no effect; put resetkeys before it"
	afterAllChan = "a pattern after &* has no effect; put resetchannels before it"
	noPasswords  = "passwords aren't part of the rules"
	unmatched    = "a parenthesis isn't closed"
)

// Parse reads rules separated by spaces.
func Parse(rules string) (*User, error) {
	u := &User{}
	words := strings.Fields(rules)
	for i := 0; i < len(words); i++ {
		w := words[i]
		if strings.HasPrefix(w, "(") {
			from := i
			for !strings.HasSuffix(words[i], ")") {
				if i++; i == len(words) {
					return nil, &SyntaxError{words[from], unmatched}
				}
			}
			sel, err := parseSelector(strings.Join(words[from:i+1], " "))
			if err != nil {
				return nil, err
			}
			u.selectors = append(u.selectors, sel)
			continue
		}
		if err := u.apply(w); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func parseSelector(text string) (selector, error) {
	var s selector
	for w := range strings.FieldsSeq(strings.TrimSuffix(strings.TrimPrefix(text, "("), ")")) {
		if err := s.apply(w); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (u *User) apply(w string) error {
	switch strings.ToLower(w) {
	case "on":
		u.off = false
	case "off":
		u.off = true
	case "sanitize-payload", "skip-sanitize-payload": // RESTORE checks what it is given always
	case "clearselectors":
		u.selectors = nil
	case "reset":
		*u = User{off: true}
	case "nopass", "resetpass":
		return &SyntaxError{w, noPasswords}
	default:
		if strings.ContainsAny(w[:1], "><#!") {
			return &SyntaxError{w[:1] + "…", noPasswords} // the password isn't for messages
		}
		return u.root.apply(w)
	}
	return nil
}

// Enabled says whether the user may log in.
func (u *User) Enabled() bool { return !u.off }

// Unrestricted says that every command is allowed, also those that aren't in the table.
func (u *User) Unrestricted() bool { return u.root.all && u.root.allKeys && u.root.allChannels }

// MayScript says whether a script may be run: by who may call whatever a script can, with any key and channel. For a
// read-only script that is every command that reads.
func (u *User) MayScript(spec *command.Spec) bool {
	readOnly := spec.Is(command.FlagReadonly)
	for i := -1; i < len(u.selectors); i++ {
		s := &u.root
		if i >= 0 {
			s = &u.selectors[i]
		}
		if s.scripts(readOnly) {
			return true
		}
	}
	return false
}
