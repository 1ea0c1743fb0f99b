package proxy

// routeKind is where a command goes.
type routeKind uint8

const (
	routeSelf    routeKind = iota // answered by the session
	routeStore                    // this node's store
	routeReplica                  // another node's replica, over a shared link
	routePrimary                  // the primary, over a shared link
	routePinned                   // a connection of its own to decision.node
	routeNone                     // nowhere: an error
	routeCount
)

var routeNames = [routeCount]string{"self", "local", "replica", "primary", "pinned", "none"}

// readMode is which copies a session's reads may use.
type readMode uint8

const (
	readNear    readMode = iota // the nearest, seeing what was written through this node
	readAny                     // READONLY: the nearest, however stale
	readPrimary                 // READWRITE: the primary
)

// sessionView is what route needs to know of a session.
type sessionView struct {
	mode       readMode
	pinned     bool // a connection of its own holds its WATCHes or its transaction
	unanswered bool // a forwarded command that isn't a plain read has had no reply yet
}

// decision is the outcome of route. reason is for people: explain, logs.
type decision struct {
	kind   routeKind
	node   string
	reason string
}

// route decides where a command goes. It is pure: no I/O, no clock.
func route(c class, t trait, hasSelf bool, s sessionView, v *view) decision {
	switch {
	case c == classRefused:
		return decision{routeNone, "", "refused: administration isn't done through the gateway"}
	case c == classLocal && hasSelf:
		return decision{routeSelf, v.self, "answered by the node"}
	case t&(traitSubscribe|traitUnsubscribe) != 0:
		return routeSubscription(v)
	case s.pinned:
		return decision{routePinned, v.primary, "the session's WATCH or MULTI lives in a connection of its own"}
	case t&traitHere != 0 && v.hasStore:
		return decision{routeStore, v.self, "asks about this node's own store"}
	case t&traitCursor != 0 && v.settings.ForeignCursors:
		return toPrimary(v, routePrimary, "cursors mean something to the primary only")
	case c == classRead && t&traitBlocking != 0:
		if v.localUsable {
			return decision{routeStore, v.self, "a read; the local copy is usable"}
		}
		return toPrimary(v, routePinned, "a read that waits, and no usable local copy")
	case c == classPinned || t&traitBlocking != 0:
		return toPrimary(v, routePinned, "needs a connection of its own on the primary")
	case c == classRead || c == classLocal:
		return routeRead(s, v)
	case c == classWrite:
		return toPrimary(v, routePrimary, "a write")
	}
	return toPrimary(v, routePrimary, "neither a plain read nor a write: the primary decides")
}

// toPrimary goes to the primary: the local store if it is the one, else by the given route.
func toPrimary(v *view, kind routeKind, reason string) decision {
	switch {
	case v.localPrimary:
		return decision{routeStore, v.self, reason}
	case !v.primaryReachable:
		return decision{routeNone, v.primary, "the primary is unreachable"}
	}
	return decision{kind, v.primary, reason}
}

func routeRead(s sessionView, v *view) decision {
	switch {
	case v.localPrimary:
		return decision{routeStore, v.self, "this node holds the primary"}
	case s.mode == readPrimary:
		return toPrimary(v, routePrimary, "the session asked for the primary (READWRITE)")
	case s.unanswered && v.primaryReachable:
		return decision{routePrimary, v.primary, "follows an unanswered write of its own session"}
	case v.localUsable:
		return decision{routeStore, v.self, "the local replica is usable"}
	case s.mode == readAny && v.localAny:
		return decision{routeStore, v.self, "the session takes any copy (READONLY)"}
	case len(v.reads) > 0:
		return decision{routeReplica, v.reads[0].node, "the nearest usable replica"}
	case v.primaryReachable:
		return decision{routePrimary, v.primary, v.whyPrimary}
	}
	return decision{routeNone, v.primary, "no usable copy is reachable"}
}

// routeSubscription listens where messages arrive first: here, or at the nearest node that has a copy.
func routeSubscription(v *view) decision {
	switch {
	case v.hasStore:
		return decision{routeStore, v.self, "messages reach the local store"}
	case len(v.reads) > 0:
		return decision{routePinned, v.reads[0].node, "no local store: messages of the nearest replica"}
	}
	return toPrimary(v, routePinned, "no local store, no replica near")
}
