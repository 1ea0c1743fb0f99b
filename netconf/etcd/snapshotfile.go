package etcd

import (
	"encoding/json"

	"respmesh/netconf"
)

// ReadSnapshot reads the state that a registry has kept in a file, validated.
func ReadSnapshot(file string) (*netconf.Topology, error) { return readSnapshot(file) }

// WriteSnapshot makes a file that a registry can start with: for a node that has just been told the state.
func WriteSnapshot(file string, t *netconf.Topology) error {
	raw, err := json.Marshal(snapshotFile{Format: snapshotFormat, Revision: t.Revision, State: t.State, Primaries: t.Live.Primaries})
	if err != nil {
		return err
	}
	return writeFile(file, raw)
}
