package node

import (
	"encoding/base64"
	"maps"
	"slices"
	"testing"

	"respmesh/netconf"
)

// TestTakesWrites: the control plane's lead is kept from nodes that lead what another one would take over.
func TestTakesWrites(t *testing.T) {
	r := netconf.NewRegistry()
	for i, name := range []string{"mad-1", "mad-2", "ams-1"} {
		err := r.Update(func(d *netconf.Draft) error {
			key := base64.StdEncoding.EncodeToString(append(make([]byte, 31), byte(i+1)))
			_, err := d.AddNode(netconf.Node{Name: name, Region: name[:3], Key: key})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	topology, _ := r.Current()
	for _, c := range []struct {
		led  map[string]netconf.Primary // by database
		want []string
	}{
		{nil, nil},
		{map[string]netconf.Primary{"a": {Node: "mad-1", Held: true}, "b": {Node: "mad-1", Held: true}}, []string{"mad-1"}},
		{map[string]netconf.Primary{"a": {Node: "mad-2"}}, nil},             // it did last; nobody does now
		{map[string]netconf.Primary{"a": {Node: "ams-1", Held: true}}, nil}, // nobody else could
		{map[string]netconf.Primary{"a": {Node: "gone", Held: true}}, nil},
	} {
		got := takesWrites(topology.WithLive(netconf.Live{Primaries: c.led}))
		if !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) {
			t.Errorf("%v: %v, want %v", c.led, got, c.want)
		}
	}
}
