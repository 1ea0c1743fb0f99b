package wan

import (
	"io/fs"
	"net/netip"
	"testing"
	"time"
)

// wire is a device whose packets a test makes and sees.
type wire struct {
	in, out chan []byte
	closed  chan struct{}
}

func (w *wire) Read(b []byte) (int, error) {
	select {
	case p := <-w.in:
		return copy(b, p), nil
	case <-w.closed:
		return 0, fs.ErrClosed
	}
}

func (w *wire) Write(b []byte) (int, error) {
	select {
	case w.out <- append([]byte(nil), b...):
		return len(b), nil
	case <-w.closed:
		return 0, fs.ErrClosed
	}
}

func (w *wire) Close() error { close(w.closed); return nil }

func packet(from, to string, payload byte) []byte {
	a, b := netip.MustParseAddr(from), netip.MustParseAddr(to)
	if a.Is4() {
		p := append([]byte{0x45, 19: 0}, payload)
		copy(p[12:], a.AsSlice())
		copy(p[16:], b.AsSlice())
		return p
	}
	p := append([]byte{0x60, 39: 0}, payload)
	copy(p[8:], a.AsSlice())
	copy(p[24:], b.AsSlice())
	return p
}

func TestRouter(t *testing.T) {
	w := &wire{in: make(chan []byte), out: make(chan []byte, 16), closed: make(chan struct{})}
	places := map[string]string{"10.0.1.1": "mad", "10.0.2.1": "ams", "fd00::1": "mad", "fd00::2": "ams"}
	r := NewRouter(w, func(a netip.Addr) string { return places[a.String()] }, Options{Seed: 1})
	passed := func() byte {
		t.Helper()
		select {
		case p := <-w.out:
			return p[len(p)-1]
		case <-time.After(10 * time.Second):
			t.Fatal("nothing arrives")
			return 0
		}
	}
	// What isn't ours to pass on goes nowhere: all of it comes before what does.
	w.in <- []byte{0x45, 0, 0}
	w.in <- []byte{}
	w.in <- make([]byte, 64)
	w.in <- packet("10.0.1.1", "10.0.9.9", 1)
	w.in <- packet("10.0.9.9", "10.0.1.1", 2)
	w.in <- packet("10.0.1.1", "10.0.1.1", 3)
	w.in <- packet("10.0.1.1", "10.0.2.1", 4)
	if got := passed(); got != 4 {
		t.Fatalf("packet %d arrives first, want 4", got)
	}
	if err := r.Set("ams", "mad", Conditions{Delay: 30 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.in <- packet("fd00::2", "fd00::1", 5)
	if got, took := passed(), time.Since(began); got != 5 || took < 30*time.Millisecond {
		t.Errorf("packet %d arrives after %v, want 5 after 30ms", got, took)
	}
	// One way only.
	if err := r.Set("ams", "mad", Conditions{Cut: true}); err != nil {
		t.Fatal(err)
	}
	w.in <- packet("fd00::2", "fd00::1", 6)
	w.in <- packet("fd00::1", "fd00::2", 7)
	if got := passed(); got != 7 {
		t.Errorf("packet %d arrives, want 7", got)
	}
	r.Cut("ams")
	w.in <- packet("fd00::1", "fd00::2", 8)
	w.in <- packet("fd00::1", "fd00::2", 9) // received once 8 was dealt with
	r.Heal("ams")
	if s := r.Stats("mad", "ams"); s.CutOff == 0 {
		t.Errorf("while ams was cut off: %+v", s)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
