package sidecar

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api"
)

// API is what the sidecar asks of the control plane; *api.Client has it.
type API interface {
	Databases(ctx context.Context, org string) ([]api.Database, error)
	Peer(ctx context.Context, org, peer string) (api.PeerConfig, error)
	CreatePeer(ctx context.Context, org string, in api.PeerRequest) (api.PeerConfig, error)
	ResetPeer(ctx context.Context, org, peer string, in api.PeerKeyRequest) (api.PeerConfig, error)
	DeletePeer(ctx context.Context, org, peer string) error
}

// Errors that end a sidecar: going on would be to fight with whoever did that.
var (
	ErrRemoved  = errors.New("the peer was removed")
	ErrReplaced = errors.New("another sidecar runs under the same name")
)

// membership is what a sidecar knows of the mesh: immutable, and kept on disk.
type membership struct {
	Org       string                `json:"org"`
	Name      string                `json:"name"` // of the peer
	Address   netip.Addr            `json:"address"`
	Prefix    netip.Prefix          `json:"prefix"`
	Nodes     []member              `json:"nodes"`     // by region and name; those without an endpoint aren't in it
	Databases map[string]netip.Addr `json:"databases"` // service addresses
}

// member is a node of the mesh.
type member struct {
	Name     string `json:"name"`
	Region   string `json:"region"`
	Key      string `json:"key"`
	Endpoint string `json:"endpoint"`
	Draining bool   `json:"draining,omitempty"`
}

func newMembership(c api.PeerConfig, databases []api.Database) (*membership, error) {
	m := &membership{Org: c.Peer.Org, Name: c.Peer.Name, Databases: map[string]netip.Addr{}}
	var err error
	if m.Address, err = netip.ParseAddr(c.Peer.Address); err != nil {
		return nil, fmt.Errorf("the API's answer: address: %w", err)
	}
	if len(c.AllowedIPs) == 0 {
		return nil, errors.New("the API's answer has no prefix")
	}
	if m.Prefix, err = netip.ParsePrefix(c.AllowedIPs[0]); err != nil {
		return nil, fmt.Errorf("the API's answer: %w", err)
	}
	for _, n := range c.Nodes {
		if n.Endpoint != "" {
			m.Nodes = append(m.Nodes, member{Name: n.Name, Region: n.Region, Key: n.PublicKey, Endpoint: n.Endpoint, Draining: n.Draining})
		}
	}
	slices.SortFunc(m.Nodes, func(a, b member) int {
		return strings.Compare(a.Region+"\x00"+a.Name, b.Region+"\x00"+b.Name)
	})
	for _, d := range databases {
		if d.Org != m.Org {
			continue
		}
		if m.Databases[d.Name], err = netip.ParseAddr(d.Address); err != nil {
			return nil, fmt.Errorf("the API's answer: database %s: %w", d.Name, err)
		}
	}
	return m, nil
}

// regional is a database's address in a region.
func (m *membership) regional(database, region string) (netip.Addr, bool) {
	service, ok := m.Databases[database]
	r, known := netconf.LookupRegion(region)
	if !ok || !known {
		return netip.Addr{}, false
	}
	b := service.As16()
	n := uint32(b[12])<<24 | uint32(b[13])<<16 | uint32(b[14])<<8 | uint32(b[15])
	return netconf.Org{Prefix: m.Prefix}.RegionalService(r.Index, n), true
}

// enter becomes a peer of the org, or says what is known if the API is away.
func (s *Sidecar) enter(ctx context.Context) (*membership, error) {
	var saved *membership
	if s.keeper != nil {
		var err error
		if saved, err = s.keeper.load(); err != nil {
			s.log.Warn("the list of nodes that was kept can't be read", "err", err)
		}
	}
	m, err := s.register(ctx, saved)
	var refused *api.Error
	switch {
	case err == nil:
		s.heard(nil)
		if s.keeper != nil {
			if err := s.keeper.save(m); err != nil {
				return nil, err
			}
		}
	case saved == nil, errors.As(err, &refused) && refused.Status/100 == 4, ctx.Err() != nil:
		return nil, err
	default:
		s.log.Warn("the control API is away; the sidecar starts with the list of nodes that it has", "err", err)
		s.heard(err)
		m = saved
	}
	s.org, s.name = m.Org, m.Name
	if s.opts.Org != "" && s.opts.Org != m.Org {
		return nil, fmt.Errorf("the data directory is that of a sidecar of org %s: use another", m.Org)
	}
	return m, s.pick(m)
}

// pick fills in the database, if there is only one, and refuses those that aren't there.
func (s *Sidecar) pick(m *membership) error {
	have := make([]string, 0, len(m.Databases))
	for name := range m.Databases {
		have = append(have, name)
	}
	slices.Sort(have)
	if len(s.opts.Databases) == 0 {
		switch len(have) {
		case 0:
			return fmt.Errorf("org %s has no database yet; make one with: respmesh redis create", m.Org)
		case 1:
			s.opts.Databases = []Database{{Name: have[0]}}
		default:
			return fmt.Errorf("org %s has several databases: say which with --database; there are %s", m.Org, strings.Join(have, ", "))
		}
	}
	for _, d := range s.opts.Databases {
		if _, ok := m.Databases[d.Name]; !ok {
			hint := ""
			if near := netconf.Near(d.Name, have); len(near) > 0 {
				hint = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return fmt.Errorf("org %s has no database %s%s", m.Org, d.Name, hint)
		}
	}
	return nil
}

// register makes the peer, or gives the one there is this key.
func (s *Sidecar) register(ctx context.Context, saved *membership) (*membership, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	databases, err := s.opts.API.Databases(ctx, s.opts.Org)
	if err != nil {
		return nil, err
	}
	org, err := onlyOrg(s.opts.Org, databases)
	if err != nil {
		return nil, err
	}
	name := s.opts.Name
	if name == "" && saved != nil {
		name = saved.Name
	}
	if name == "" {
		name = hostName()
	}
	key := s.key.Public().String()
	c, err := s.opts.API.Peer(ctx, org, name)
	switch {
	case errors.Is(err, netconf.ErrNotFound):
		c, err = s.opts.API.CreatePeer(ctx, org, api.PeerRequest{Name: name, Region: s.home(org, databases), PublicKey: key, Roaming: true})
	case err != nil:
	case !c.Peer.Roaming:
		err = fmt.Errorf("org %s has a peer %s that isn't a sidecar; choose another name with --name", org, name)
	case c.Peer.PublicKey != key:
		c, err = s.opts.API.ResetPeer(ctx, org, name, api.PeerKeyRequest{PublicKey: key})
	}
	if err != nil {
		return nil, err
	}
	return newMembership(c, databases)
}

func onlyOrg(org string, databases []api.Database) (string, error) {
	if org != "" {
		return org, nil
	}
	for _, d := range databases {
		if org != "" && d.Org != org {
			return "", errors.New("--org is missing: the token is good for several")
		}
		org = d.Org
	}
	if org == "" {
		return "", errors.New("there is no database yet; make one with: respmesh redis create")
	}
	return org, nil
}

// home is the region that the peer is counted in. It has to have a node, which a primary's has.
func (s *Sidecar) home(org string, databases []api.Database) string {
	if s.opts.Region != "" {
		return s.opts.Region
	}
	for _, d := range databases {
		if d.Org == org && (len(s.opts.Databases) == 0 || s.opts.Databases[0].Name == d.Name) {
			return d.Primary
		}
	}
	return ""
}

// hostName makes a peer's name of the machine's, which in a container is the container's.
func hostName() string {
	host, _ := os.Hostname()
	name := []byte("sidecar-")
	for _, c := range []byte(strings.ToLower(host)) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			name = append(name, c)
		} else {
			name = append(name, '-')
		}
	}
	return strings.TrimRight(string(name[:min(len(name), 63)]), "-")
}

// The list of nodes is asked for so often; a node that fails is noticed without it.
const (
	refreshEvery  = 10 * time.Second
	refreshJitter = 5 * time.Second
)

// refresh follows what the control plane says, until the end. What it can't learn it goes on without.
func (s *Sidecar) refresh(m *membership) {
	for {
		timer := time.NewTimer(refreshEvery + rand.N(refreshJitter))
		select {
		case <-s.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		next, err := s.ask(m)
		if s.ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrRemoved) || errors.Is(err, ErrReplaced) {
			s.fail(err)
			return
		}
		if s.heard(err); err != nil {
			continue
		}
		if err := s.router.set(next); err != nil {
			s.log.Error("the new list of nodes can't be used", "err", err)
			continue
		}
		if s.keeper != nil {
			if err := s.keeper.save(next); err != nil {
				s.log.Warn("the list of nodes can't be kept", "err", err)
			}
		}
		m = next
	}
}

func (s *Sidecar) ask(m *membership) (*membership, error) {
	ctx, cancel := context.WithTimeout(s.ctx, refreshWait)
	defer cancel()
	c, err := s.opts.API.Peer(ctx, m.Org, m.Name)
	switch {
	case errors.Is(err, netconf.ErrNotFound):
		return nil, fmt.Errorf("%w: %s/%s isn't in the mesh any more; start the sidecar again to have it made anew", ErrRemoved, m.Org, m.Name)
	case err != nil:
		return nil, err
	case c.Peer.PublicKey != s.key.Public().String():
		return nil, fmt.Errorf("%w: peer %s/%s has another key now; give each sidecar its own --name", ErrReplaced, m.Org, m.Name)
	case c.Peer.Address != m.Address.String():
		return nil, fmt.Errorf("%w: %s/%s was made anew; start the sidecar again", ErrRemoved, m.Org, m.Name)
	}
	databases, err := s.opts.API.Databases(ctx, m.Org)
	if err != nil {
		return nil, err
	}
	return newMembership(c, databases)
}

// heard notes whether the API answers, and says so when that changes.
func (s *Sidecar) heard(err error) {
	s.apiMu.Lock()
	defer s.apiMu.Unlock()
	before := s.apiErr
	s.apiErr = err
	switch {
	case err == nil:
		s.apiHeard = time.Now()
		if before != nil {
			s.log.Info("the control API answers again")
		}
	case before == nil || before.Error() != err.Error():
		s.log.Warn("the list of nodes can't be brought up to date; the sidecar goes on with the one it has", "err", err)
	}
}

// leave removes the peer of a key that is about to be forgotten.
func (s *Sidecar) leave() {
	if s.name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	// Another sidecar may have taken the name.
	c, err := s.opts.API.Peer(ctx, s.org, s.name)
	if err == nil && c.Peer.PublicKey == s.key.Public().String() {
		err = s.opts.API.DeletePeer(ctx, s.org, s.name)
	}
	if err != nil && !errors.Is(err, netconf.ErrNotFound) {
		s.log.Warn("the peer stays in the org; respmesh wireguard remove removes it", "org", s.org, "peer", s.name, "err", err)
	}
}

// region is the prefix of all regional addresses of a region.
func (m *membership) region(code string) (netip.Prefix, bool) {
	r, known := netconf.LookupRegion(code)
	if !known {
		return netip.Prefix{}, false
	}
	p, err := netconf.Org{Prefix: m.Prefix}.RegionalService(r.Index, 0).Prefix(96)
	return p, err == nil
}
