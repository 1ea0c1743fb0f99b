package api

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"respmesh/netconf"
)

// Lifetimes.
const (
	nodeTokenTTL = time.Hour // a node joins soon after its token was made
	maxTokenTTL  = 10 * 365 * 24 * time.Hour
	keepExpired  = 30 * 24 * time.Hour // one that expired earlier goes away when another is made
)

func tokenOf(t netconf.Token, now time.Time) Token {
	out := Token{
		ID: t.ID, Name: t.Name, Scope: t.Scope, Org: t.Org, Region: t.Region,
		Created: t.Created, Reusable: t.Reusable, UsedBy: t.UsedBy,
	}
	if !t.Expires.IsZero() {
		out.Expires, out.Expired = &t.Expires, t.Expired(now)
	}
	return out
}

// MakeToken checks a request and makes the record to keep and the text to hand out: a node's --init makes the first
// admin's token with it.
func MakeToken(in TokenRequest) (record netconf.Token, text string, err error) {
	now := time.Now().UTC().Truncate(time.Second)
	record = netconf.Token{
		ID: strings.ToLower(rand.Text()[:10]), Name: in.Name, Scope: in.Scope, Org: in.Org, Region: in.Region,
		Created: now, Reusable: in.Reusable,
	}
	switch in.Scope {
	case netconf.ScopeAdmin, netconf.ScopeNode:
		if in.Org != "" {
			return record, "", failf(CodeInvalid, "a token of scope %s isn't about one org; leave org out, or use scope org", in.Scope)
		}
	case netconf.ScopeOrg:
		if in.Org == "" {
			return record, "", failf(CodeInvalid, "a token of scope org needs an org")
		}
	case netconf.ScopeReadOnly:
	case "":
		return record, "", failf(CodeInvalid, "scope is missing; it is admin, org, read-only or node")
	default:
		return record, "", failf(CodeInvalid, "scope %q isn't known; it is admin, org, read-only or node", clip(string(in.Scope)))
	}
	ttl := time.Duration(0)
	if in.Scope == netconf.ScopeNode {
		ttl = nodeTokenTTL
		if in.Region != "" {
			if _, err := netconf.CheckRegion(in.Region); err != nil {
				return record, "", err
			}
		}
	} else if in.Region != "" || in.Reusable {
		return record, "", failf(CodeInvalid, "region and reusable are for tokens of scope node; leave them out")
	}
	if in.TTL != nil {
		ttl = time.Duration(*in.TTL)
		if ttl < time.Second || ttl > maxTokenTTL {
			return record, "", failf(CodeInvalid, "ttl %s has to be between 1s and %s", in.TTL, Duration(maxTokenTTL))
		}
	}
	if ttl > 0 {
		record.Expires = now.Add(ttl)
	}
	secret, hash := newSecret()
	record.Hash = hash
	return record, tokenPrefix + record.ID + "." + secret, nil
}

func listTokens(c *call) (any, error) {
	l, now := Tokens{Tokens: []Token{}}, time.Now()
	for _, t := range c.topo.Tokens {
		if c.who.sees(t.Org) {
			l.Tokens = append(l.Tokens, tokenOf(t, now))
		}
	}
	return l, nil
}

func createToken(c *call) (any, error) {
	var in TokenRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	// A token can't make one that may do more, or for longer, than itself.
	if c.who.scope == netconf.ScopeOrg {
		switch {
		case in.Scope != netconf.ScopeOrg && in.Scope != netconf.ScopeReadOnly:
			return nil, failf(CodeForbidden, "a token of scope org makes tokens of scope org or read-only; use one of scope admin")
		case in.Org == "":
			in.Org = c.who.org
		case in.Org != c.who.org:
			return nil, failf(CodeForbidden, "this token is for org %s; use one for org %s", c.who.org, clip(in.Org))
		}
	}
	record, text, err := MakeToken(in)
	if err != nil {
		return nil, err
	}
	if !c.who.expires.IsZero() && (record.Expires.IsZero() || record.Expires.After(c.who.expires)) {
		if in.TTL != nil {
			return nil, failf(CodeForbidden, "ttl %s is longer than this token lasts (until %s)", in.TTL, c.who.expires.UTC().Format(time.RFC3339))
		}
		record.Expires = c.who.expires
	}
	_, err = c.update(func(d *netconf.Draft) error {
		d.Tokens = slices.DeleteFunc(d.Tokens, func(t netconf.Token) bool { return t.Expired(record.Created.Add(-keepExpired)) })
		if err := roomForToken(d, record.Org); err != nil {
			return err
		}
		return d.AddToken(record)
	})
	if err != nil {
		return nil, err
	}
	return NewToken{Token: tokenOf(record, record.Created), Secret: text}, nil
}

func deleteToken(c *call) (any, error) {
	id := c.PathValue("id")
	_, err := c.update(func(d *netconf.Draft) error {
		if t, err := d.Token(id); err != nil || !c.who.sees(t.Org) {
			return failf(CodeNotFound, "token %q isn't there; respmesh token list shows what is", clip(id))
		}
		return d.RemoveToken(id)
	})
	return nil, err
}
