package node

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"respmesh/mesh"
)

// TestHeardFile: what the last process wrote is read, but for what isn't a key or an address; a broken file only costs a warning.
func TestHeardFile(t *testing.T) {
	device, err := mesh.New(mesh.Config{PrivateKey: newMeshKey(t), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Filter: anyFilter(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	path := filepath.Join(t.TempDir(), heardName)
	var log bytes.Buffer
	open := func() *heard { return openHeard(path, device, slog.New(slog.NewTextHandler(&log, nil))) }
	if h := open(); len(h.before) != 0 || log.Len() != 0 {
		t.Errorf("without a file: %v, %s", h.before, &log)
	}
	key := newMeshKey(t).Public()
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"peers":{"` + key.String() + `":"192.0.2.1:4711","nonsense":"192.0.2.1:1","` + newMeshKey(t).Public().String() + `":""}}`)
	h := open()
	if len(h.before) != 1 || h.before[key] != netip.MustParseAddrPort("192.0.2.1:4711") {
		t.Errorf("the file says %v", h.before)
	}
	if err := h.save(); err != nil { // nobody is there now
		t.Fatal(err)
	}
	if h := open(); len(h.before) != 0 {
		t.Errorf("after nobody was heard the file says %v", h.before)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, bad := range []string{"", "{", `{"peers":{"x":"nowhere"}}`, strings.Repeat("x", heardSize+1)} {
		log.Reset()
		write(bad)
		if h := open(); len(h.before) != 0 || !strings.Contains(log.String(), "is forgotten") {
			t.Errorf("%.20q gives %v, and says %q", bad, h.before, &log)
		}
	}
}

func newMeshKey(t *testing.T) mesh.PrivateKey {
	key, err := mesh.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func anyFilter(t *testing.T) *mesh.Filter {
	f, err := mesh.NewFilter(mesh.FilterRules{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}
