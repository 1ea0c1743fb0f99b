package etcd

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"respmesh/netconf"
)

const (
	root    = "/respmesh/v"
	prefix  = root + "1/"
	metaKey = prefix + "meta"

	orgs      = prefix + "orgs/"
	nodes     = prefix + "nodes/"
	databases = prefix + "databases/"
	peers     = prefix + "peers/"
	users     = prefix + "users/"
	tokens    = prefix + "tokens/"
	destroyed = prefix + "destroyed/"

	audit = prefix + "audit/"

	live          = prefix + "live/"
	liveNodes     = live + "nodes/"
	liveHeld      = live + "held/"
	livePrimaries = live + "primaries/"
)

// meta is what isn't a record of its own. Every change of the state writes it.
type meta struct {
	Revision    uint64       `json:"revision"`
	Infra       netip.Prefix `json:"infra"`
	NodeNumbers uint32       `json:"node_numbers"`
	Mark        string       `json:"mark"` // random: tells this change from any other that led to the same revision
}

// holder is the value of live/held and live/primaries.
type holder struct {
	Node string `json:"node"`
	Term int64  `json:"term"`
}

// model is what etcd holds below the prefix, by key.
type model struct {
	revision int64 // of etcd: what the state (all but live) was last changed by, or read at
	metaRev  int64 // of etcd: that wrote meta; 0: there is none; or unknownRev
	meta     meta

	orgs      map[string]netconf.Org
	nodes     map[string]netconf.Node
	databases map[string]netconf.Database
	peers     map[string]netconf.Peer
	users     map[string]netconf.User
	tokens    map[string]netconf.Token
	destroyed map[string]netconf.Destroyed

	liveNodes map[string]netconf.NodeLive // by name
	held      map[string]holder           // by database ID
	primaries map[string]holder           // by database ID
}

// unknownRev is no revision of etcd: what is compared with it differs.
const unknownRev = -1

func newModel() *model {
	return &model{
		orgs:      map[string]netconf.Org{},
		nodes:     map[string]netconf.Node{},
		databases: map[string]netconf.Database{},
		peers:     map[string]netconf.Peer{},
		users:     map[string]netconf.User{},
		tokens:    map[string]netconf.Token{},
		destroyed: map[string]netconf.Destroyed{},
		liveNodes: map[string]netconf.NodeLive{},
		held:      map[string]holder{},
		primaries: map[string]holder{},
	}
}

// modelOf is the model of a topology that isn't from etcd.
func modelOf(t *netconf.Topology) *model {
	m := newModel()
	m.metaRev = unknownRev
	m.meta = meta{Revision: t.Revision, Infra: t.Infra, NodeNumbers: t.NodeNumbers}
	fill(m.orgs, t.Orgs, orgKey)
	fill(m.nodes, t.Nodes, nodeKey)
	fill(m.databases, t.Databases, databaseKey)
	fill(m.peers, t.Peers, peerKey)
	fill(m.users, t.Users, userKey)
	fill(m.tokens, t.Tokens, tokenKey)
	fill(m.destroyed, t.Destroyed, destroyedKey)
	for id, p := range t.Live.Primaries {
		m.primaries[id] = holder{p.Node, p.Term}
	}
	return m
}

func fill[T any](into map[string]T, records []T, key func(T) string) {
	for _, r := range records {
		into[key(r)] = r
	}
}

func orgKey(o netconf.Org) string             { return orgs + o.Name }
func nodeKey(n netconf.Node) string           { return nodes + n.Name }
func databaseKey(d netconf.Database) string   { return databases + d.Org + "/" + d.Name }
func peerKey(p netconf.Peer) string           { return peers + p.Org + "/" + p.Name }
func userKey(u netconf.User) string           { return users + u.Org + "/" + u.Database + "/" + u.Name }
func tokenKey(k netconf.Token) string         { return tokens + k.ID }
func destroyedKey(d netconf.Destroyed) string { return destroyed + d.ID }

// isLive tells the keys that come and go with sessions from those of the state.
func isLive(key string) bool { return strings.HasPrefix(key, live) }

// put takes in a record. Keys that it doesn't know are somebody else's.
func (m *model) put(key string, value []byte, modRevision int64) error {
	var err error
	switch {
	case key == metaKey:
		m.metaRev = modRevision
		m.meta = meta{}
		err = json.Unmarshal(value, &m.meta)
	case strings.HasPrefix(key, orgs):
		err = decode(m.orgs, key, value)
	case strings.HasPrefix(key, nodes):
		err = decode(m.nodes, key, value)
	case strings.HasPrefix(key, databases):
		err = decode(m.databases, key, value)
	case strings.HasPrefix(key, peers):
		err = decode(m.peers, key, value)
	case strings.HasPrefix(key, users):
		err = decode(m.users, key, value)
	case strings.HasPrefix(key, tokens):
		err = decode(m.tokens, key, value)
	case strings.HasPrefix(key, destroyed):
		err = decode(m.destroyed, key, value)
	case strings.HasPrefix(key, liveNodes):
		err = decode(m.liveNodes, key[len(liveNodes):], value)
	case strings.HasPrefix(key, liveHeld):
		err = decode(m.held, key[len(liveHeld):], value)
	case strings.HasPrefix(key, livePrimaries):
		err = decode(m.primaries, key[len(livePrimaries):], value)
	}
	if err != nil {
		// What a JSON error quotes is at most a character or a type: no secret.
		return fmt.Errorf("control state: value of %s: %w", key, err)
	}
	return nil
}

func decode[T any](into map[string]T, key string, value []byte) error {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	into[key] = v
	return nil
}

// remove takes out a record.
func (m *model) remove(key string) {
	switch {
	case key == metaKey:
		m.metaRev, m.meta = 0, meta{}
	case strings.HasPrefix(key, liveNodes):
		delete(m.liveNodes, key[len(liveNodes):])
	case strings.HasPrefix(key, liveHeld):
		delete(m.held, key[len(liveHeld):])
	case strings.HasPrefix(key, livePrimaries):
		delete(m.primaries, key[len(livePrimaries):])
	default:
		delete(m.orgs, key)
		delete(m.nodes, key)
		delete(m.databases, key)
		delete(m.peers, key)
		delete(m.users, key)
		delete(m.tokens, key)
		delete(m.destroyed, key)
	}
}

// topology validates and indexes what the model holds.
func (m *model) topology() (*netconf.Topology, error) {
	if m.metaRev == 0 {
		return &netconf.Topology{}, nil
	}
	t, err := netconf.NewTopology(m.meta.Revision, netconf.State{
		Infra:       m.meta.Infra,
		NodeNumbers: m.meta.NodeNumbers,
		Orgs:        values(m.orgs),
		Nodes:       values(m.nodes),
		Databases:   values(m.databases),
		Peers:       values(m.peers),
		Users:       values(m.users),
		Tokens:      values(m.tokens),
		Destroyed:   values(m.destroyed),
	})
	if err != nil {
		return nil, fmt.Errorf("control state at revision %d: %w", m.meta.Revision, err)
	}
	return t.WithLive(m.live()), nil
}

func values[T any](m map[string]T) []T {
	all := make([]T, 0, len(m))
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// live is what topologies carry of the running mesh: maps of their own.
func (m *model) live() netconf.Live {
	l := netconf.Live{Nodes: maps.Clone(m.liveNodes), Primaries: make(map[string]netconf.Primary, len(m.primaries))}
	for id, p := range m.primaries {
		l.Primaries[id] = netconf.Primary{Node: p.Node, Term: p.Term, Held: m.held[id] == p}
	}
	return l
}

// changes are the operations that lead from one topology to the next.
func changes(before, after *netconf.Topology) ([]clientv3.Op, error) {
	c := &changeSet{}
	differences(c, before.Orgs, after.Orgs, orgKey)
	differences(c, before.Nodes, after.Nodes, nodeKey)
	differences(c, before.Databases, after.Databases, databaseKey)
	differences(c, before.Peers, after.Peers, peerKey)
	differences(c, before.Users, after.Users, userKey)
	differences(c, before.Tokens, after.Tokens, tokenKey)
	differences(c, before.Destroyed, after.Destroyed, destroyedKey)
	for _, d := range before.Databases {
		// Who was its primary goes with it; a node that is away would bring nothing back.
		if _, ok := after.DatabaseByID(d.ID); !ok {
			c.ops = append(c.ops, clientv3.OpDelete(liveHeld+d.ID), clientv3.OpDelete(livePrimaries+d.ID))
		}
	}
	return c.ops, c.err
}

type changeSet struct {
	ops []clientv3.Op
	err error
}

func differences[T any](c *changeSet, before, after []T, key func(T) string) {
	old := make(map[string]T, len(before))
	fill(old, before, key)
	for _, r := range after {
		k := key(r)
		was, existed := old[k]
		delete(old, k)
		value, err := json.Marshal(r)
		if err != nil {
			c.err = fmt.Errorf("encode %s: %w", k, err)
			return
		}
		if existed {
			if same, err := json.Marshal(was); err == nil && string(same) == string(value) {
				continue
			}
		}
		c.ops = append(c.ops, clientv3.OpPut(k, string(value)))
	}
	for k := range old {
		c.ops = append(c.ops, clientv3.OpDelete(k))
	}
}
