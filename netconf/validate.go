package netconf

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// validator collects who owns what while it walks a state, so that a clash names both sides.
type validator struct {
	addrs map[netip.Addr]string
	keys  map[string]string
	names map[string]bool // "node ams", "database personal/demo"
}

// validate checks everything that holds for a state on its own: names, regions, keys, and that an address, a key
// and a prefix belong to one owner. WireGuard silently takes an allowed IP away from the peer that had it, so a
// clash has to be found here.
func validate(s *State) error {
	v := &validator{map[netip.Addr]string{}, map[string]string{}, map[string]bool{}}
	if err := v.prefixes(s); err != nil {
		return err
	}
	for i := range s.Nodes {
		if err := v.node(s, &s.Nodes[i]); err != nil {
			return err
		}
	}
	orgs := make(map[string]Org, len(s.Orgs))
	for _, o := range s.Orgs {
		orgs[o.Name] = o
	}
	ids := make(map[string]string, len(s.Databases))
	for i := range s.Databases {
		d := &s.Databases[i]
		if err := v.database(orgs, d); err != nil {
			return err
		}
		what := "database " + d.Org + "/" + d.Name
		if other, taken := ids[d.ID]; taken {
			return fmt.Errorf("%s: id %s %w: it is that of %s", what, d.ID, ErrExists, other)
		}
		ids[d.ID] = what
	}
	for i := range s.Peers {
		if err := v.peer(orgs, &s.Peers[i]); err != nil {
			return err
		}
	}
	for i := range s.Users {
		if err := v.user(&s.Users[i]); err != nil {
			return err
		}
	}
	for i := range s.Tokens {
		if err := v.token(s, &s.Tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) prefixes(s *State) error {
	owners := map[netip.Prefix]string{}
	claim := func(p netip.Prefix, what string) error {
		if p.Bits() != 48 || p != p.Masked() || !ulaPrefix.Contains(p.Addr()) {
			return fmt.Errorf("%s: %w prefix %s: want a /48 of fd00::/8", what, ErrInvalid, p)
		}
		if other, taken := owners[p]; taken {
			return fmt.Errorf("%s: prefix %s %w: it is that of %s", what, p, ErrExists, other)
		}
		owners[p] = what
		return nil
	}
	if err := claim(s.Infra, "the infrastructure"); err != nil {
		return err
	}
	for _, o := range s.Orgs {
		if err := v.name("org", o.Name, ValidateName(o.Name)); err != nil {
			return err
		}
		if err := claim(o.Prefix, "org "+o.Name); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) node(s *State, n *Node) error {
	if err := v.name("node", n.Name, ValidateName(n.Name)); err != nil {
		return err
	}
	what := "node " + n.Name
	r, err := CheckRegion(n.Region)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := v.key(n.Key, what); err != nil {
		return err
	}
	if n.NextKey != "" {
		if err := v.key(n.NextKey, what+"'s next key"); err != nil {
			return err
		}
	}
	if err := checkEndpoint(n.Endpoint); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := number(n.Addr)
	return v.address(n.Addr, nodeAddr(s.Infra, r.Index, m), m, s.NodeNumbers, what)
}

func (v *validator) database(orgs map[string]Org, d *Database) error {
	what := "database " + d.Org + "/" + d.Name
	if err := v.name("database", d.Org+"/"+d.Name, ValidateName(d.Name)); err != nil {
		return err
	}
	org, ok := orgs[d.Org]
	if !ok {
		return fmt.Errorf("%s: org %q %w", what, d.Org, ErrNotFound)
	}
	for i, region := range d.Regions() {
		if _, err := CheckRegion(region); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if i > 0 && region == d.Primary {
			return fmt.Errorf("%s: %w replica region %s: it is the primary's", what, ErrInvalid, region)
		}
		if i > 1 && region == d.Replicas[i-2] { // sorted
			return fmt.Errorf("%s: %w replica region %s: named twice", what, ErrInvalid, region)
		}
	}
	switch {
	case d.ID == "":
		return fmt.Errorf("%s: %w id: it is empty", what, ErrInvalid)
	case d.PasswordHash != "" && !sha256Hex.MatchString(d.PasswordHash):
		return fmt.Errorf("%s: %w password hash: want 64 hexadecimal digits", what, ErrInvalid) // not quoted: a secret
	case d.Near < 0:
		return fmt.Errorf("%s: %w near %s: it is negative", what, ErrInvalid, d.Near)
	case d.MaxLag < 0:
		return fmt.Errorf("%s: %w max lag %s: it is negative", what, ErrInvalid, d.MaxLag)
	case d.Hedge < 0:
		return fmt.Errorf("%s: %w hedge %s: it is negative", what, ErrInvalid, d.Hedge)
	case d.MinReplicas < 0:
		return fmt.Errorf("%s: %w min replicas %d: it is negative", what, ErrInvalid, d.MinReplicas)
	}
	if err := checkLimits(d); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := checkEngines(d); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n := number(d.Address)
	return v.address(d.Address, org.Service(n), n, org.Services, what)
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (v *validator) peer(orgs map[string]Org, p *Peer) error {
	what := "peer " + p.Org + "/" + p.Name
	if err := v.name("peer", p.Org+"/"+p.Name, ValidateName(p.Name)); err != nil {
		return err
	}
	org, ok := orgs[p.Org]
	if !ok {
		return fmt.Errorf("%s: org %q %w", what, p.Org, ErrNotFound)
	}
	r, err := CheckRegion(p.Region)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := v.key(p.Key, what); err != nil {
		return err
	}
	m := number(p.Addr)
	return v.address(p.Addr, org.PeerAddr(r.Index, m), m, org.Peers, what)
}

// name checks a name and that its kind has it once; full is the name with its org.
func (v *validator) name(kind, full string, err error) error {
	what := kind + " " + full
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if v.names[what] {
		return fmt.Errorf("%s %w", what, ErrExists)
	}
	v.names[what] = true
	return nil
}

func (v *validator) key(key, what string) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(raw) != 32 || len(key) != 44 {
		return fmt.Errorf("%s: %w key: want the base64 form of 32 bytes", what, ErrInvalid)
	}
	if [32]byte(raw) == [32]byte{} {
		return fmt.Errorf("%s: %w key: it is all zero", what, ErrInvalid)
	}
	if other, taken := v.keys[key]; taken {
		return fmt.Errorf("%s: its key %w: it is that of %s", what, ErrExists, other)
	}
	v.keys[key] = what
	return nil
}

// address checks that an address is the one that the plan gives to its number, that the number was given out, and
// that nothing else has it.
func (v *validator) address(have, want netip.Addr, n, last uint32, what string) error {
	if !have.IsValid() || have != want || n == 0 || n > last {
		return fmt.Errorf("%s: %w address %s: it isn't one of the address plan's", what, ErrInvalid, have)
	}
	if other, taken := v.addrs[have]; taken {
		return fmt.Errorf("%s: address %s %w: it is that of %s", what, have, ErrExists, other)
	}
	v.addrs[have] = what
	return nil
}

// validateChange checks what may not change from one state to the next, both valid on their own.
func validateChange(old, next *Topology) error {
	if old.Infra != next.Infra {
		return fmt.Errorf("%w: the infrastructure's prefix can't change", ErrConflict)
	}
	if next.NodeNumbers < old.NodeNumbers {
		return fmt.Errorf("%w: node numbers only grow", ErrConflict)
	}
	for _, o := range next.Orgs {
		before, ok := old.Org(o.Name)
		if !ok {
			continue
		}
		if before.Prefix != o.Prefix {
			return fmt.Errorf("org %s: %w: its prefix can't change", o.Name, ErrConflict)
		}
		if o.Services < before.Services || o.Peers < before.Peers {
			return fmt.Errorf("org %s: %w: numbers given out only grow", o.Name, ErrConflict)
		}
	}
	for _, d := range next.Databases {
		if err := databaseChange(old, next, d); err != nil {
			return fmt.Errorf("database %s/%s: %w", d.Org, d.Name, err)
		}
	}
	for _, k := range next.Tokens {
		if err := tokenChange(old, k); err != nil {
			return err
		}
	}
	for _, p := range next.Peers {
		before, ok := old.Peer(p.Org, p.Name)
		if (!ok || before.Region != p.Region) && len(next.NodesIn(p.Region)) == 0 {
			return fmt.Errorf("peer %s/%s: %w", p.Org, p.Name, noNode(next, p.Region))
		}
	}
	return nil
}

func databaseChange(old, next *Topology, d Database) error {
	// A database is its ID: one that was removed may come back under its name, with everything new.
	before, existed := old.DatabaseByID(d.ID)
	if !existed {
		if other, ok := old.DatabaseAt(d.Address); ok {
			return fmt.Errorf("%w: its address %s was that of database %s", ErrConflict, d.Address, other.ID)
		}
	} else {
		switch {
		case before.Org != d.Org || before.Name != d.Name:
			return fmt.Errorf("%w: a database can't be renamed (it was %s/%s)", ErrConflict, before.Org, before.Name)
		case before.Primary != d.Primary:
			return fmt.Errorf("%w: the primary region can't change (it is %s)", ErrConflict, before.Primary)
		case before.Address != d.Address:
			return fmt.Errorf("%w: the service address can't change (it is %s)", ErrConflict, before.Address)
		case before.HashSeed != d.HashSeed:
			return fmt.Errorf("%w: the hash seed can't change", ErrConflict)
		}
	}
	// Only for regions that are new to it: a region that lost its nodes doesn't make other changes impossible.
	for _, region := range d.Regions() {
		if (!existed || !slices.Contains(before.Regions(), region)) && len(next.NodesIn(region)) == 0 {
			return noNode(next, region)
		}
	}
	return checkReplicas(before, next, d)
}

func noNode(t *Topology, region string) error {
	var have []string
	for _, n := range t.Nodes {
		have = append(have, n.Region)
	}
	slices.Sort(have)
	have = slices.Compact(have)
	if len(have) == 0 {
		return fmt.Errorf("%w: region %s has no node, nor has any other", ErrConflict, region)
	}
	return fmt.Errorf("%w: region %s has no node; regions with one: %s", ErrConflict, region, strings.Join(have, ", "))
}
