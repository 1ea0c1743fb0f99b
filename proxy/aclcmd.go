package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"respmesh/proxy/acl"
	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// aclCommand answers the ACL family but for what changes users: that is the control API's.
func aclCommand(s *session, w *work, args [][]byte) {
	if len(args) < 2 {
		w.error("ERR wrong number of arguments for 'acl' command")
		return
	}
	switch sub := strings.ToLower(string(args[1])); sub {
	case "whoami":
		w.out = frame.AppendBulkString(w.out, s.user.Name)
	case "users":
		names := s.users.names()
		w.out = frame.AppendArray(w.out, len(names))
		for _, n := range names {
			w.out = frame.AppendBulkString(w.out, n)
		}
	case "list":
		names := s.users.names()
		w.out = frame.AppendArray(w.out, len(names))
		for _, n := range names {
			w.out = frame.AppendBulkString(w.out, "user "+n+" "+s.users.byName[n].line())
		}
	case "getuser":
		s.getUser(w, string(args[2]))
	case "cat":
		aclCat(w, args)
	case "dryrun":
		s.dryRun(w, args)
	case "log":
		aclLog(s, w, args)
	case "genpass":
		genPass(w, args)
	case "help":
		lines := []string{"ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", "CAT [<category>]",
			"DRYRUN <username> <command> [<arg> ...]", "GENPASS [<bits>]", "GETUSER <username>", "LIST", "LOG [<count> | RESET]", "USERS", "WHOAMI",
			"Users are added and changed through the control API, not here."}
		w.out = frame.AppendArray(w.out, len(lines))
		for _, l := range lines {
			w.out = frame.AppendSimple(w.out, l)
		}
	default:
		w.error(command.UnknownError(args))
	}
}

func (a *accounts) names() []string {
	names := make([]string, 0, len(a.byName))
	for n := range a.byName {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// line is the user in ACL LIST, without the password's hash.
func (u *account) line() string {
	text := u.rules.String()
	if u.noPass {
		state, rest, _ := strings.Cut(text, " ")
		return state + " nopass " + rest
	}
	return text
}

func (s *session) getUser(w *work, name string) {
	u := s.users.byName[name]
	if u == nil {
		w.out = frame.AppendNull(w.out, s.proto)
		return
	}
	d := u.rules.Describe()
	if u.noPass {
		d.Flags = append(d.Flags, "nopass")
	}
	w.out = frame.AppendMap(w.out, 6, s.proto)
	w.out = frame.AppendSet(frame.AppendBulkString(w.out, "flags"), len(d.Flags), s.proto)
	for _, f := range d.Flags {
		w.out = frame.AppendBulkString(w.out, f)
	}
	w.out = frame.AppendArray(frame.AppendBulkString(w.out, "passwords"), 0) // not even their hashes are told
	text := func(k, v string) { w.out = frame.AppendBulkString(frame.AppendBulkString(w.out, k), v) }
	rules := func(d acl.Description) {
		text("commands", d.Commands)
		text("keys", d.Keys)
		text("channels", d.Channels)
	}
	rules(d)
	w.out = frame.AppendArray(frame.AppendBulkString(w.out, "selectors"), len(d.Selectors))
	for _, sel := range d.Selectors {
		w.out = frame.AppendMap(w.out, 3, s.proto)
		rules(sel)
	}
}

func aclCat(w *work, args [][]byte) {
	var names []string
	switch {
	case len(args) > 3:
		w.error("ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.")
		return
	case len(args) == 3:
		c, ok := command.CategoryByName(strings.ToLower(string(args[2])))
		if !ok {
			w.error("ERR Unknown category '" + printableName(args[2]) + "'")
			return
		}
		for spec := range command.All() {
			if spec.Categories&c != 0 && !spec.IsContainer() {
				names = append(names, spec.Name)
			}
		}
	default:
		for name := range (^command.Categories(0)).Names() {
			names = append(names, name)
		}
	}
	w.out = frame.AppendArray(w.out, len(names))
	for _, n := range names {
		w.out = frame.AppendBulkString(w.out, n)
	}
}

func (s *session) dryRun(w *work, args [][]byte) {
	u := s.users.byName[string(args[2])]
	if u == nil {
		w.error("ERR User '" + printableName(args[2]) + "' not found")
		return
	}
	args = args[3:]
	spec := command.Lookup(args)
	switch {
	case spec == nil || spec.IsContainer() && len(args) > 1:
		w.error("ERR Command '" + printableName(args[0]) + "' not found")
		return
	case !spec.ArityOK(len(args)):
		w.error(command.ArityError(spec))
		return
	}
	d, _ := u.rules.Check(spec, args, nil)
	switch d.Kind {
	case acl.DeniedCommand:
		w.out = frame.AppendBulkString(w.out, "This user has no permissions to run the '"+spec.Name+"' command")
	case acl.DeniedKey:
		w.out = frame.AppendBulkString(w.out, "This user has no permissions to access the '"+string(args[d.Arg])+"' key")
	case acl.DeniedChannel:
		w.out = frame.AppendBulkString(w.out, "This user has no permissions to access the '"+string(args[d.Arg])+"' channel")
	default:
		w.ok()
	}
}

func genPass(w *work, args [][]byte) {
	bits := 256
	if len(args) == 3 {
		n, err := strconv.Atoi(string(args[2]))
		if err != nil || n <= 0 || n > 4096 {
			w.error("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")
			return
		}
		bits = n
	}
	digits := (bits + 3) / 4
	raw := make([]byte, (digits+1)/2)
	rand.Read(raw)
	w.out = frame.AppendBulkString(w.out, hex.EncodeToString(raw)[:digits])
}
