package api

import "respmesh/netconf"

// How much there may be of what a token makes: somebody with one org's token can't fill the control plane for all. The
// whole state is in every node's memory.
const (
	maxOrgs      = 10_000
	maxDatabases = 1_000  // of one org
	maxPeers     = 10_000 // of one org
	maxUsers     = 100    // of one database
	maxTokens    = 1_000  // of one org, and of those that are about none
)

// room tells whether one more of the records that match may be added.
func room[T any](records []T, most int, is func(T) bool, whose, what string) error {
	n := 0
	for _, r := range records {
		if is(r) {
			n++
		}
	}
	if n >= most {
		return failf(CodeConflict, "%s has %d %s, which is the most there can be; remove some first", whose, n, what)
	}
	return nil
}

func roomForOrg(d *netconf.Draft) error {
	return room(d.Orgs, maxOrgs, func(netconf.Org) bool { return true }, "the mesh", "orgs")
}

func roomForDatabase(d *netconf.Draft, org string) error {
	return room(d.Databases, maxDatabases, func(db netconf.Database) bool { return db.Org == org }, "org "+org, "databases")
}

func roomForPeer(d *netconf.Draft, org string) error {
	return room(d.Peers, maxPeers, func(p netconf.Peer) bool { return p.Org == org }, "org "+org, "peers")
}

func roomForUser(d *netconf.Draft, db netconf.Database) error {
	return room(d.Users, maxUsers, func(u netconf.User) bool { return u.Org == db.Org && u.Database == db.Name },
		"database "+db.Org+"/"+db.Name, "users")
}

func roomForToken(d *netconf.Draft, org string) error {
	whose := "the mesh"
	if org != "" {
		whose = "org " + org
	}
	return room(d.Tokens, maxTokens, func(t netconf.Token) bool { return t.Org == org }, whose, "tokens")
}
