package console

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// world is a mesh of three regions in which something is wrong.
func world() Status {
	const ms = time.Millisecond
	return Status{
		Version: "v0.1.0", Revision: 7, Uptime: 3 * time.Hour,
		Databases: []Database{{
			Org: "personal", Name: "demo", Plan: "free", Primary: "mad",
			Address: "fd5a:91c2:77e0:0:1::1", DNS: "demo.personal.internal",
			Regions: []Region{
				{Code: "mad", City: "Madrid", Role: RolePrimary, RESP: "[::1]:16379", Reachable: true, State: "online", Usable: true, Lag: Unknown, Offset: 918233, Keys: 12873, Sessions: 4, Commands: 100},
				{Code: "ams", City: "Amsterdam", Role: RoleReplica, RESP: "[::1]:16380", RTT: 28400 * time.Microsecond, Reachable: true, State: "online", Usable: true, Lag: 14 * ms, LagBytes: 0, Offset: 918233, Keys: 12873, Sessions: 11},
				{Code: "nrt", City: "Tokyo", Role: RoleReplica, RESP: "[::1]:16381", RTT: 214 * ms, Reachable: true, State: "first sync 42%", Lag: Unknown, LagBytes: 1 << 21, Keys: 5120, Sessions: 2},
				{Code: "iad", City: "Ashburn", Role: RoleNone, RESP: "[::1]:16382", RTT: Unknown, Lag: Unknown},
			},
		}},
		Peers: []Peer{
			{From: "mad", To: "ams", Endpoint: "127.0.0.1:40112", Handshake: 34 * time.Second, Received: 1822733, Sent: 29113},
			{From: "mad", To: "nrt", Endpoint: "127.0.0.1:40113", Handshake: 200 * time.Millisecond, Received: 822733, Sent: 9113},
			{From: "mad", To: "iad", Endpoint: "127.0.0.1:40114", Handshake: Unknown},
			{From: "ams", To: "nrt", Endpoint: "127.0.0.1:40115", Handshake: 10 * time.Minute, Received: 1, Sent: 5 << 30},
		},
	}
}

func get(t *testing.T, h http.Handler, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func TestPage(t *testing.T) {
	h := Handler(Options{Status: world})
	res, body := get(t, h, "/")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatal(res)
	}
	for _, want := range []string{
		"respmesh · personal/demo", "Madrid", "28 ms", "214 ms", "14 ms", "2.0 MiB", "first sync 42%", "12.9k",
		"fd5a:91c2:77e0:0:1::1", "demo.personal.internal", "redis-cli -h ::1 -p 16380", "mad → ams", "34 s ago", "never",
		"1.7 MiB", "5.0 GiB", "unreachable", "Region iad can&#39;t be reached.", "The replica of demo in nrt isn&#39;t read from: first sync 42%.",
		"up 3 h", "topology revision 7", `3<span class="of"> / 4</span>`, `1<span class="of"> / 2</span>`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q isn't on the page", want)
		}
	}
	if strings.Contains(body, "password") {
		t.Error("speaks of a password where there is none")
	}
}

func TestEmptyAndHostile(t *testing.T) {
	_, body := get(t, Handler(Options{Status: func() Status { return Status{} }}), "/")
	for _, want := range []string{"No database yet.", "No peers."} {
		if !strings.Contains(body, want) {
			t.Errorf("%q isn't on the page", want)
		}
	}
	_, body = get(t, Handler(Options{Status: func() Status {
		s := world()
		s.Databases[0].Name = `<script>alert(1)</script>`
		s.Databases[0].Password = true
		s.Databases[0].Regions[1].State = `"><img src=x>`
		s.Databases[0].Regions[1].RESP = "nonsense"
		return s
	}}), "/")
	if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
		t.Error("not escaped")
	}
	if !strings.Contains(body, "REDISCLI_AUTH") || strings.Contains(body, "redis-cli -h nonsense") {
		t.Error("the ways to connect are wrong")
	}
}

// The policy lets in what the page embeds, and the page uses nothing else.
func TestNothingFromElsewhere(t *testing.T) {
	h := Handler(Options{Status: world})
	_, page := get(t, h, "/")
	for _, bad := range []string{"http://", "https://", "style=", "onclick=", "<style", "<script>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for path, kind := range map[string]string{"/style.css": "text/css", "/live.js": "text/javascript", "/icon.svg": "image/svg+xml"} {
		res, body := get(t, h, path)
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), kind) || body == "" || !strings.Contains(page, path) {
			t.Errorf("%s: %v", path, res)
		}
	}
}

func TestHeaders(t *testing.T) {
	h := Handler(Options{Status: world})
	for _, path := range []string{"/", "/status.json", "/healthz", "/none", "/style.css"} {
		res, _ := get(t, h, path)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			if got := res.Header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if strings.Contains(res.Header.Get("Content-Security-Policy"), "unsafe") {
			t.Error("an unsafe policy")
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	h := Handler(Options{Status: world})
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"POST", "/", 405}, {"DELETE", "/status.json", 405}, {"PUT", "/healthz", 405},
		{"GET", "/none", 404}, {"GET", "/index.html", 404}, {"GET", "/page.html", 404}, {"GET", "/metrics", 404}, {"GET", "/status.json/", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.code || (c.code == 405) != (w.Header().Get("Allow") == "GET, HEAD") {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.code)
		}
	}
}

func TestJSON(t *testing.T) {
	h := Handler(Options{Status: world})
	res, body := get(t, h, "/status.json")
	if res.Header.Get("Content-Type") != "application/json" {
		t.Error(res.Header)
	}
	var s struct {
		Version   string
		Uptime    float64 `json:"uptime_seconds"`
		Databases []struct {
			Name    string
			Regions []struct {
				Region, Role, RESP string
				RTT                *float64 `json:"rtt_to_primary_ms"`
				Lag                *float64 `json:"lag_ms"`
				Bytes              int64    `json:"lag_bytes"`
				Rate               *float64 `json:"commands_per_second"`
			}
		}
		Peers []struct {
			From, To  string
			Handshake *float64 `json:"handshake_age_seconds"`
			Received  uint64   `json:"received_bytes"`
		}
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	regions := s.Databases[0].Regions
	if s.Version != "v0.1.0" || s.Uptime != 10800 || len(regions) != 4 || s.Databases[0].Name != "demo" {
		t.Errorf("%+v", s)
	}
	ams, iad := regions[1], regions[3]
	if ams.Region != "ams" || ams.Role != "replica" || ams.RTT == nil || *ams.RTT != 28.4 || *ams.Lag != 14 || ams.Rate != nil {
		t.Errorf("%+v", ams)
	}
	if iad.RTT != nil || iad.Lag != nil {
		t.Errorf("%+v", iad)
	}
	if *s.Peers[0].Handshake != 34 || s.Peers[2].Handshake != nil || s.Peers[0].Received != 1822733 {
		t.Errorf("%+v", s.Peers)
	}
}

func TestHealth(t *testing.T) {
	var err error
	h := Handler(Options{Status: world, Ready: func() error { return err }})
	if res, body := get(t, h, "/healthz"); res.StatusCode != 200 || body != "ok\n" {
		t.Error(res.StatusCode, body)
	}
	err = errors.New("nrt: first sync\nat 42%")
	if res, body := get(t, h, "/healthz"); res.StatusCode != 503 || body != "nrt: first sync at 42%\n" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Error(res.StatusCode, body)
	}
	if res, body := get(t, Handler(Options{Status: world}), "/healthz"); res.StatusCode != 200 || body != "ok\n" {
		t.Error(res.StatusCode, body)
	}
}

func TestMetrics(t *testing.T) {
	h := Handler(Options{Status: world, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "up 1\n")
	})})
	if res, body := get(t, h, "/metrics"); res.StatusCode != 200 || body != "up 1\n" {
		t.Error(res.StatusCode, body)
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rates{last: map[string]sample{}}
		look := func(count uint64) *float64 {
			s := world()
			s.Databases[0].Regions = s.Databases[0].Regions[:1]
			s.Databases[0].Regions[0].Commands = count
			given := s.Databases
			r.fill(&s)
			if given[0].Regions[0].PerSecond != nil {
				t.Error("the caller's status changed")
			}
			return s.Databases[0].Regions[0].PerSecond
		}
		for _, c := range []struct {
			after time.Duration
			count uint64
			want  float64 // -1: none
		}{
			{0, 100, -1},
			{100 * time.Millisecond, 200, -1}, // too soon to say
			{1900 * time.Millisecond, 300, 100},
			{100 * time.Millisecond, 900, 100}, // the same as just before
			{900 * time.Millisecond, 1300, 1000},
			{time.Second, 1300, 0},
			{time.Second, 10, -1}, // started again
			{time.Second, 20, 10},
			{2 * time.Minute, 9999, -1}, // nobody looked for long
		} {
			time.Sleep(c.after) // the bubble's clock
			got := look(c.count)
			if c.want < 0 && got != nil || c.want >= 0 && (got == nil || *got != c.want) {
				t.Errorf("after %v at %d: %v, want %v", c.after, c.count, got, c.want)
			}
		}
		s := Status{}
		r.fill(&s)
		if len(r.last) != 0 {
			t.Error("remembers what isn't there any more")
		}
	})
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		millis(Unknown): "–", millis(0): "0 ms", millis(1234 * time.Microsecond): "1.2 ms", millis(9999 * time.Microsecond): "10.0 ms",
		millis(214 * time.Millisecond): "214 ms", millis(15 * time.Second): "15 s",
		age(Unknown): "never", age(5 * time.Millisecond): "now", age(34 * time.Second): "34 s", age(10 * time.Minute): "10 min", age(50 * time.Hour): "2 days", age(5 * time.Hour): "5 h",
		byteCount(int64(0)): "0 B", byteCount(uint64(1023)): "1023 B", byteCount(int64(1536)): "1.5 KiB", byteCount(uint64(1 << 40)): "1.0 TiB", byteCount(uint64(1<<20 - 1)): "1.0 MiB",
		count(0): "0", count(7): "7", count(1.25): "1.2", count(9.96): "10", count(950): "950", count(9999): "9999", count(12300): "12.3k", count(4e6): "4.0M", count(2e9): "2.0G",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPeersAreSummedUpByHandshake(t *testing.T) {
	v := newView(world())
	for _, tile := range v.Tiles {
		if tile.Label == "Tunnels up" && (tile.Value != "2" || tile.Of != "4" || !tile.Bad) {
			t.Errorf("%+v", tile)
		}
	}
}

func TestBar(t *testing.T) {
	d := world().Databases[0]
	var got []int
	for _, r := range d.Regions {
		got = append(got, d.Bar(r))
	}
	if got[0] != 0 || got[1] != 36 || got[2] != 100 || got[3] != 0 {
		t.Error(got)
	}
}
