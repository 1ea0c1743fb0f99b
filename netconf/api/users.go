package api

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"respmesh/netconf"
)

const (
	minPassword = 16
	maxPassword = 512
)

func listUsers(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	l := Users{Users: []User{}}
	for _, u := range c.topo.UsersOf(d.Org, d.Name) {
		l.Users = append(l.Users, User{Name: u.Name, Rules: u.Rules})
	}
	return l, nil
}

func getUser(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	name := c.PathValue("user")
	for _, u := range c.topo.UsersOf(d.Org, d.Name) {
		if u.Name == name {
			return User{Name: u.Name, Rules: u.Rules}, nil
		}
	}
	return nil, noUser(d, name)
}

func noUser(d netconf.Database, name string) error {
	return failf(CodeNotFound, "user %q of database %s/%s isn't there; respmesh redis users list shows who is", clip(name), d.Org, d.Name)
}

func putUser(c *call) (any, error) {
	var in UserRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	seen, err := c.database()
	if err != nil {
		return nil, err
	}
	name := c.PathValue("user")
	switch {
	case name == "default":
		return nil, failf(CodeInvalid, "the user default is the database's own; give it another password with respmesh redis reset")
	case in.Password != "" && (len(in.Password) < minPassword || len(in.Password) > maxPassword):
		return nil, failf(CodeInvalid, "the password has to have %d to %d characters; leave it out to have one made", minPassword, maxPassword)
	}
	if err := checkRules(in.Rules); err != nil {
		return nil, err
	}
	if check := c.s.opt.CheckRules; check != nil {
		if err := check(in.Rules); err != nil {
			return nil, failf(CodeInvalid, "%v; nothing was changed", err)
		}
	}
	generated, hash := newSecret()
	if in.Password != "" {
		generated, hash = "", hashSecret(in.Password)
	}
	u := netconf.User{Org: seen.Org, Database: seen.Name, Name: name, Rules: strings.Join(strings.Fields(in.Rules), " ")}
	var shown string
	_, err = c.update(func(d *netconf.Draft) error {
		u.PasswordHash, shown = hash, generated
		i := slices.IndexFunc(d.Users, func(o netconf.User) bool {
			return o.Org == u.Org && o.Database == u.Database && o.Name == u.Name
		})
		switch {
		case i < 0:
			if err := roomForUser(d, seen); err != nil {
				return err
			}
		case in.Password == "":
			u.PasswordHash, shown = d.Users[i].PasswordHash, ""
		}
		return d.SetUser(u)
	})
	if err != nil {
		return nil, err
	}
	out := NewUser{User: User{Name: u.Name, Rules: u.Rules}, Password: shown}
	if shown != "" {
		out.URL = urlOf(seen, url.UserPassword(name, shown))
	}
	return out, nil
}

func deleteUser(c *call) (any, error) {
	seen, err := c.database()
	if err != nil {
		return nil, err
	}
	name := c.PathValue("user")
	_, err = c.update(func(d *netconf.Draft) error {
		if !slices.ContainsFunc(d.Users, func(u netconf.User) bool {
			return u.Org == seen.Org && u.Database == seen.Name && u.Name == name
		}) {
			return noUser(seen, name)
		}
		return d.RemoveUser(seen.Org, seen.Name, name)
	})
	return nil, err
}

// aclRule is one ACL rule (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/). Passwords and
// on/off aren't rules here: a user is on while it is there, and has the one password.
var aclRule = regexp.MustCompile(`^(?:~.+|%(?:R|W|RW)~.+|&.+|[+-]@?[a-z][a-z0-9_.|-]*|allkeys|resetkeys|allchannels|resetchannels|allcommands|nocommands)$`)

func checkRules(rules string) error {
	words := strings.Fields(rules)
	if len(words) == 0 {
		return failf(CodeInvalid, "rules are missing; write them as ~cache:* +@read, or ~* +@all for everything")
	}
	for _, w := range words {
		if aclRule.MatchString(w) {
			continue
		}
		shown := fmt.Sprintf("rule %q", clip(w))
		if strings.ContainsAny(w[:1], "><#!") {
			shown = "a rule that sets a password" // not repeated
		}
		return failf(CodeInvalid, "%s isn't possible; use ~pattern, %%R~pattern, %%W~pattern, &channel, +command, -command, +@category, -@category", shown)
	}
	return nil
}
