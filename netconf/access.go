package netconf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// SetUser adds a user to a database that exists, or replaces the one of this name.
func (d *Draft) SetUser(u User) error {
	if _, err := d.Database(u.Org, u.Database); err != nil {
		return err
	}
	is := func(o User) bool { return o.Org == u.Org && o.Database == u.Database && o.Name == u.Name }
	if i := slices.IndexFunc(d.Users, is); i >= 0 {
		d.Users[i] = u
		return nil
	}
	d.Users = append(d.Users, u)
	return nil
}

// RemoveUser removes a user of a database.
func (d *Draft) RemoveUser(org, database, name string) error {
	if _, err := d.Database(org, database); err != nil {
		return err
	}
	return remove(&d.Users, fmt.Sprintf("user %s of database %s/%s", name, org, database), func(u User) bool {
		return u.Org == org && u.Database == database && u.Name == name
	})
}

// AddToken adds a token.
func (d *Draft) AddToken(k Token) error {
	if k.Org != "" {
		if _, err := d.org(k.Org); err != nil {
			return err
		}
	}
	d.Tokens = append(d.Tokens, k)
	return nil
}

// Token gives the record of a token, to be changed in place.
func (d *Draft) Token(id string) (*Token, error) {
	for i := range d.Tokens {
		if d.Tokens[i].ID == id {
			return &d.Tokens[i], nil
		}
	}
	return nil, fmt.Errorf("token %s %w", shorten(id), ErrNotFound)
}

// RemoveToken removes a token: who has it is refused from then on.
func (d *Draft) RemoveToken(id string) error {
	return remove(&d.Tokens, "token "+shorten(id), func(k Token) bool { return k.ID == id })
}

// Expired tells whether a token's lifetime has ended.
func (k Token) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

const (
	maxRules   = 4096 // bytes of a user's ACL rules
	maxPurpose = 100  // characters of what a token is for
)

var (
	// userName is narrower than Redis, which takes anything without spaces: it has to fit into URLs and file names.
	userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$`)
	tokenID  = regexp.MustCompile(`^[a-z0-9]{1,32}$`)
)

func (v *validator) user(u *User) error {
	database := u.Org + "/" + u.Database
	what := "user " + shorten(u.Name) + " of database " + database
	if !v.names["database "+database] {
		return fmt.Errorf("%s: database %w", what, ErrNotFound)
	}
	var err error
	switch {
	case !userName.MatchString(u.Name):
		err = fmt.Errorf("%w name %q: use letters, digits, dots, dashes and @, at most 64", ErrInvalid, shorten(u.Name))
	case u.Name == "default":
		err = fmt.Errorf("%w name: default is the database's own user", ErrInvalid)
	case !sha256Hex.MatchString(u.PasswordHash):
		err = fmt.Errorf("%w password hash: want 64 hexadecimal digits", ErrInvalid) // not quoted: a secret
	default:
		err = checkRules(u.Rules)
	}
	if err != nil {
		return fmt.Errorf("user of database %s: %w", database, err)
	}
	return v.name("user", database+" "+u.Name, nil)
}

// checkRules checks the form of ACL rules; what they mean, and whether commands of that name exist, is for the nodes.
func checkRules(rules string) error {
	if len(rules) > maxRules {
		return fmt.Errorf("%w rules: %d bytes, at most %d", ErrInvalid, len(rules), maxRules)
	}
	if strings.ContainsFunc(rules, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%w rules: they contain a control character", ErrInvalid)
	}
	for rule := range strings.FieldsSeq(rules) {
		switch {
		case strings.ContainsRune("><#!", rune(rule[0])), rule == "nopass", rule == "resetpass":
			return fmt.Errorf("%w rules: they can't set passwords", ErrInvalid) // not quoted: a secret
		case rule == "on" || rule == "off" || rule == "reset":
			return fmt.Errorf("%w rule %q: remove the user instead", ErrInvalid, rule)
		}
	}
	return nil
}

func (v *validator) token(s *State, k *Token) error {
	if !tokenID.MatchString(k.ID) {
		return fmt.Errorf("token: %w id: want 1 to 32 lower-case letters and digits", ErrInvalid)
	}
	what := "token " + k.ID
	hasOrg := slices.ContainsFunc(s.Orgs, func(o Org) bool { return o.Name == k.Org })
	switch {
	case !sha256Hex.MatchString(k.Hash):
		return fmt.Errorf("%s: %w hash: want 64 hexadecimal digits", what, ErrInvalid)
	case len(k.Name) > maxPurpose || strings.ContainsFunc(k.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%s: %w name: at most %d printable characters", what, ErrInvalid, maxPurpose)
	case !slices.Contains([]Scope{ScopeAdmin, ScopeOrg, ScopeReadOnly, ScopeNode}, k.Scope):
		return fmt.Errorf("%s: %w scope %q: want %s, %s, %s or %s", what, ErrInvalid, shorten(string(k.Scope)),
			ScopeAdmin, ScopeOrg, ScopeReadOnly, ScopeNode)
	case k.Scope == ScopeOrg && k.Org == "":
		return fmt.Errorf("%s: %w: scope %s needs an org", what, ErrInvalid, ScopeOrg)
	case k.Org != "" && k.Scope != ScopeOrg && k.Scope != ScopeReadOnly:
		return fmt.Errorf("%s: %w: scope %s isn't about one org", what, ErrInvalid, k.Scope)
	case k.Org != "" && !hasOrg:
		return fmt.Errorf("%s: %w", what, noOrg(k.Org, s.Orgs))
	case k.Scope != ScopeNode && (k.Region != "" || k.Reusable || k.UsedBy != ""):
		return fmt.Errorf("%s: %w: a region and use by a node are for scope %s", what, ErrInvalid, ScopeNode)
	case !k.Expires.IsZero() && !k.Created.IsZero() && !k.Expires.After(k.Created):
		return fmt.Errorf("%s: %w expiry: it is before the token was made", what, ErrInvalid)
	}
	if k.Region != "" {
		if _, err := CheckRegion(k.Region); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return v.name("token", k.ID, nil)
}

// tokenChange keeps a token from being used twice, also by two nodes at once.
func tokenChange(old *Topology, k Token) error {
	before, ok := old.Token(k.ID)
	if !ok {
		return nil
	}
	switch {
	case before.UsedBy != "" && before.UsedBy != k.UsedBy && !before.Reusable:
		return fmt.Errorf("token %s: %w: it has been used", k.ID, ErrConflict)
	case before.Hash != k.Hash || before.Scope != k.Scope || before.Org != k.Org:
		return fmt.Errorf("token %s: %w: what it is for can't change; make another", k.ID, ErrConflict)
	}
	return nil
}
