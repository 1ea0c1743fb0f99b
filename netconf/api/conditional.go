package api

import (
	"net/http"
	"strconv"
	"strings"

	"respmesh/netconf"
)

// subject is what a route is about, and whose revision is its ETag.
type subject int

const (
	ofState    subject = iota // a list, or something without an address of its own: the whole state's revision
	ofOrg                     // of the path, as the others
	ofDatabase                // not its users
	ofUser
	ofPeer
)

// revisionIn is the revision in a state of what the request is about.
func (c *call) revisionIn(s *netconf.State, revision uint64) (of uint64, there bool) {
	org, db := c.PathValue("org"), c.PathValue("db")
	switch c.route.of {
	case ofOrg:
		return modified(s.Orgs, func(o *netconf.Org) (bool, uint64) { return o.Name == org, o.Modified })
	case ofDatabase:
		return modified(s.Databases, func(d *netconf.Database) (bool, uint64) { return d.Org == org && d.Name == db, d.Modified })
	case ofUser:
		name := c.PathValue("user")
		return modified(s.Users, func(u *netconf.User) (bool, uint64) {
			return u.Org == org && u.Database == db && u.Name == name, u.Modified
		})
	case ofPeer:
		name := c.PathValue("peer")
		return modified(s.Peers, func(p *netconf.Peer) (bool, uint64) { return p.Org == org && p.Name == name, p.Modified })
	}
	return revision, true
}

func modified[T any](records []T, is func(*T) (bool, uint64)) (uint64, bool) {
	for i := range records {
		if same, revision := is(&records[i]); same {
			return revision, true
		}
	}
	return 0, false
}

func (c *call) tag(revision uint64) {
	c.w.Header().Set("ETag", strconv.Quote(strconv.FormatUint(revision, 10)))
}

// update runs a change for the caller, if what it is about is at the revision that the caller wants, and gives the revision
// that it has then.
func (c *call) update(change func(*netconf.Draft) error) (revision uint64, err error) {
	want, conditional, err := c.ifMatch()
	if err != nil {
		return 0, err
	}
	var state, is uint64
	rev, err := c.s.opt.Control.Update(c.Context(), c.who.actor, func(d *netconf.Draft) error {
		var there bool
		state = d.Revision
		is, there = c.revisionIn(&d.State, state)
		switch {
		case !conditional:
		case !there && c.Method == http.MethodPut:
			return failf(CodeRevision, "it isn't there any more: you saw revision %d; look again and repeat", want)
		case there && is != want:
			return failf(CodeRevision, "it was changed in between: you saw revision %d, now it is %d; look again and repeat", want, is)
		}
		return change(d)
	})
	if err != nil {
		return 0, err
	}
	if rev == state { // nothing was changed
		rev = is
	}
	if c.Method != http.MethodDelete {
		c.tag(rev)
	}
	return rev, nil
}

// ifMatch reads the revision that a change is for.
func (c *call) ifMatch() (revision uint64, given bool, err error) {
	values := c.Header.Values("If-Match")
	if len(values) == 0 {
		return 0, false, nil
	}
	text, quoted := strings.CutPrefix(values[0], `"`)
	text, closed := strings.CutSuffix(text, `"`)
	revision, err = strconv.ParseUint(text, 10, 64)
	if err != nil || !quoted || !closed || len(values) > 1 {
		return 0, false, failf(CodeInvalid, `If-Match wants one revision in quotes, such as "12"`)
	}
	return revision, true, nil
}
