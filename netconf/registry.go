package netconf

import (
	"sync"
	"sync/atomic"
)

// Registry holds the current topology of one mesh in memory. The zero value isn't usable.
type Registry struct {
	writing sync.Mutex // serializes Update
	current atomic.Pointer[published]
}

// published is a topology with the channel that is closed when another one takes its place.
type published struct {
	topology *Topology
	replaced chan struct{}
}

// NewRegistry makes a registry with a random infrastructure prefix and nothing else, at revision 1.
func NewRegistry() *Registry {
	t, err := NewTopology(1, State{Infra: RandomPrefix()})
	if err != nil {
		panic(err) // a random prefix is valid
	}
	return RegistryOf(t)
}

// RegistryOf makes a registry that starts with a topology.
func RegistryOf(t *Topology) *Registry {
	r := &Registry{}
	r.current.Store(&published{t, make(chan struct{})})
	return r
}

// Current gives the current topology and a channel that is closed when it is replaced. It never blocks.
func (r *Registry) Current() (*Topology, <-chan struct{}) {
	p := r.current.Load()
	return p.topology, p.replaced
}

// Update runs a change on a copy of the state, validates the result and publishes it with the next revision. If
// the change or the validation fails, nothing has happened. A change that changes nothing publishes nothing. One
// Update runs at a time; the change must not call Update.
func (r *Registry) Update(change func(*Draft) error) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	p := r.current.Load()
	next, err := p.topology.Change(change)
	if err != nil || next == p.topology {
		return err
	}
	r.current.Store(&published{next, make(chan struct{})})
	close(p.replaced)
	return nil
}
