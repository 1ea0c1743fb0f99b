package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"respmesh/netconf/api"
)

func TestSyncLine(t *testing.T) {
	on := func(region, state string) api.NodeDatabaseStatus {
		return api.NodeDatabaseStatus{Node: region + "-1", Region: region, Role: api.RoleReplica, State: state}
	}
	syncing := on("ams", api.StateSyncing)
	syncing.Sync, syncing.LagMS = &api.Sync{Bytes: 512 << 20, Total: 1 << 30, Rate: 93.5 * (1 << 20)}, 1234
	unknown := on("ams", api.StateSyncing)
	unknown.Sync, unknown.LagBytes = &api.Sync{Bytes: 1536, Rate: 1024}, 2048
	behind := on("ams", api.StateStale)
	behind.LagMS = 340
	none := on("ams", api.StateReady)
	none.Role = api.RoleNone
	broken := on("ams", api.StateBroken)
	broken.Error = "it has FROBNICATE"
	for name, c := range map[string]struct {
		nodes []api.NodeDatabaseStatus
		line  string
		away  string
		err   string
	}{
		"serves":              {nodes: []api.NodeDatabaseStatus{on("ams", api.StateReady)}},
		"syncs":               {nodes: []api.NodeDatabaseStatus{syncing}, line: "ams: first sync 512 MB of 1 GB, 50%, 93.5 MB/s, lag 1.2 s"},
		"size not known":      {nodes: []api.NodeDatabaseStatus{unknown}, line: "ams: first sync 1.5 KB, 1 KB/s, lag 2 KB"},
		"begins":              {nodes: []api.NodeDatabaseStatus{on("ams", api.StateSyncing)}, line: "ams: first sync begins"},
		"behind":              {nodes: []api.NodeDatabaseStatus{behind}, line: "ams: catching up, 340 ms behind"},
		"waits":               {nodes: []api.NodeDatabaseStatus{on("ams", api.StateWaiting)}, line: "ams: waits for the primary"},
		"doesn't know yet":    {nodes: []api.NodeDatabaseStatus{none}, line: "ams: about to begin"},
		"away":                {nodes: []api.NodeDatabaseStatus{on("ams", api.StateAway)}, away: "ams"},
		"no node":             {nodes: []api.NodeDatabaseStatus{on("mad", api.StateReady)}, away: "ams"},
		"broken":              {nodes: []api.NodeDatabaseStatus{broken}, err: "node ams-1 in ams can't hold a copy: it has FROBNICATE"},
		"one of two will do":  {nodes: []api.NodeDatabaseStatus{broken, syncing, on("ams", api.StateReady)}},
		"the further of two":  {nodes: []api.NodeDatabaseStatus{none, syncing, broken}, line: "ams: first sync 512 MB of 1 GB, 50%, 93.5 MB/s, lag 1.2 s"},
		"other regions aside": {nodes: []api.NodeDatabaseStatus{on("ams", api.StateReady), on("mad", api.StateSyncing)}},
	} {
		line, away, err := syncLine(api.DatabaseStatus{Nodes: c.nodes}, []string{"ams"})
		text := ""
		if err != nil {
			text = err.Error()
		}
		if line != c.line || strings.Join(away, ",") != c.away || text != c.err {
			t.Errorf("%s: %q, %q, %q", name, line, away, text)
		}
	}
}

// Elsewhere than on a terminal a line is printed once a second at most, and only a new one.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	now := time.Unix(0, 0)
	p.now = func() time.Time { return now }
	for i := range 30 {
		p.show([]string{"a", "b", "c"}[i/10])
		now = now.Add(150 * time.Millisecond)
	}
	p.done()
	if out.String() != "a\nb\nc\n" {
		t.Errorf("printed %q", out.String())
	}

	out.Reset()
	p = &progress{w: &out, terminal: true, now: time.Now}
	p.show("one")
	p.show("one")
	p.show("two")
	p.done()
	p.done()
	if out.String() != "\rone\x1b[K\rtwo\x1b[K\r\x1b[K" {
		t.Errorf("on a terminal %q", out.String())
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "512": 512, "1kb": 1024, "512MB": 512 << 20, " 2gb ": 2 << 30} {
		if got, ok := parseSize(text); !ok || got != want {
			t.Errorf("parseSize(%q) = %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "mb", "-1mb", "1.5gb", "1tb", "99999999999999999999", "999999999999gb"} {
		if got, ok := parseSize(text); ok {
			t.Errorf("parseSize(%q) = %d", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KB", 1536: "1.5 KB", 1<<20 - 1: "1 MB", 256 << 20: "256 MB", 10 << 30: "10 GB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	if got := cell("a\x1b[2Jb\tc"); got != "a?[2Jb?c" {
		t.Errorf("cell: %q", got)
	}
}

// The environment of redis-cli has the password and none of our secrets.
func TestClientEnv(t *testing.T) {
	got := clientEnv([]string{"PATH=/bin", "RESPMESH_TOKEN=rm_a.b", "RESPMESH_PASSWORD=old", "REDISCLI_AUTH=old", "RESPMESH_ENGINE_PASSWORD=x"}, "new")
	if strings.Join(got, " ") != "PATH=/bin REDISCLI_AUTH=new" {
		t.Errorf("%q", got)
	}
	if got := clientEnv(os.Environ()[:0], ""); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
