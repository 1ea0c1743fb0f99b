package proxy

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
)

// What an idle session costs, its end of the connection in this process included.
func TestIdleSessionIsSmall(t *testing.T) {
	const n, bound = 2000, 12 << 10
	h := newHouse(t, "a")
	_, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.Store = nullStore{} })
	before := rss(t)
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skip("NOT TESTED: not enough file descriptors:", err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET k\r\nPING\r\n")
		if _, err := io.ReadFull(conn, make([]byte, len("$5\r\nvalue\r\n+PONG\r\n"))); err != nil {
			t.Fatal(err)
		}
	}
	each := (rss(t) - before) / n
	t.Logf("%d bytes each", each)
	if each > bound && !raceEnabled() {
		t.Errorf("%d bytes each, want at most %d", each, bound)
	}
}

// raceEnabled: under the race detector memory says nothing.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			return true
		}
	}
	return false
}

// rss is what the process has of the machine's memory.
func rss(t *testing.T) int {
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("NOT TESTED: no /proc/self/statm")
	}
	pages, err := strconv.Atoi(string(bytes.Fields(text)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
