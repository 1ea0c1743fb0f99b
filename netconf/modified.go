package netconf

import "reflect"

// Who changes what somebody else has changed in between is told by the record's own revision: the one of the state that made
// it what it is (Modified). Nobody sets it: a change that leaves a record as it was leaves its revision, too.

// stamp gives the records of a state that aren't as they were before its revision.
func (s *State) stamp(before *State, revision uint64) {
	stamp(before.Orgs, s.Orgs, revision, func(o *Org) (string, *uint64) { return o.Name, &o.Modified })
	stamp(before.Nodes, s.Nodes, revision, func(n *Node) (string, *uint64) { return n.Name, &n.Modified })
	// By ID: one that took the place of another of the same name is another.
	stamp(before.Databases, s.Databases, revision, func(d *Database) (string, *uint64) { return d.ID, &d.Modified })
	stamp(before.Peers, s.Peers, revision, func(p *Peer) ([2]string, *uint64) { return [2]string{p.Org, p.Name}, &p.Modified })
	stamp(before.Users, s.Users, revision, func(u *User) ([3]string, *uint64) {
		return [3]string{u.Org, u.Database, u.Name}, &u.Modified
	})
}

// stamp does it for one kind of records. of gives a record's identity and its revision.
func stamp[T any, K comparable](before, after []T, revision uint64, of func(*T) (K, *uint64)) {
	old := make(map[K]*T, len(before))
	for i := range before {
		id, _ := of(&before[i])
		old[id] = &before[i]
	}
	for i := range after {
		id, modified := of(&after[i])
		*modified = revision
		was, ok := old[id]
		if !ok {
			continue
		}
		_, then := of(was)
		*modified = *then // for the comparison
		if !reflect.DeepEqual(*was, after[i]) {
			*modified = revision
		}
	}
}
