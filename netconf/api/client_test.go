package api

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

func TestClientAddresses(t *testing.T) {
	pin := strings.Repeat("A", 43) + "="
	for _, q := range []struct {
		url, token, pin, text string // text: of the error; empty: none
	}{
		{"", "rm_a.b", "", ""},
		{"http://localhost:1/", "rm_a.b", "", ""},
		{"http://127.0.0.1:1", "rm_a.b", "", ""},
		{"http://[fd12::3]:17379", "rm_a.b", "", ""},
		{"https://192.0.2.1:17380", "rm_a.b", pin, ""},
		{"http://192.0.2.1:17380", "", "", ""},
		{"http://192.0.2.1:17380", "rm_a.b", "", "a token isn't sent in the clear; use https and the node's pin"},
		{"http://localhost.evil.example", "rm_a.b", "", "isn't sent in the clear"},
		{"http://10.0.0.1", "rm_a.b", "", "isn't sent in the clear"},
		{"http://[::1]:1", "", pin, "a pin needs https"},
		{"https://192.0.2.1:17380", "", "x", "a pin is the base64 form of 32 bytes"},
		{"[::1]:17379", "", "", "write it as http://[::1]:17379 or https://host:port"},
		{"ftp://x", "", "", "write it as"},
		{"http://user:pw@x", "", "", "write it as"},
		{"http://", "", "", "write it as"},
	} {
		c, err := NewClient(ClientOptions{URL: q.url, Token: q.token, Pin: q.pin})
		if (err == nil) != (q.text == "") || err != nil && !strings.Contains(err.Error(), q.text) {
			t.Errorf("%s: %v", q.url, err)
		}
		if err != nil && (strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "rm_a")) {
			t.Errorf("a secret is repeated: %v", err)
		}
		if c != nil {
			c.Close()
			c.Close()
		}
	}
}

func TestClientPin(t *testing.T) {
	m := newMesh(t)
	cert, err := pki.OpenServer(filepath.Join(t.TempDir(), "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "[::1]:0", cert.Config())
	if err != nil {
		t.Fatal(err)
	}
	srv, served := HTTPServer(m.server.Handler(TrustToken), nil), make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() { srv.Close(); <-served }()
	try := func(pin string) error {
		c, err := NewClient(ClientOptions{URL: "https://" + ln.Addr().String(), Token: m.tokens["admin"], Pin: pin})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Orgs(t.Context())
		return err
	}
	if err := try(cert.Pin()); err != nil {
		t.Error(err)
	}
	if err := try(strings.Repeat("A", 43) + "="); !errors.Is(err, pki.ErrPin) || !strings.Contains(err.Error(), "somebody is in between") {
		t.Errorf("another pin: %v", err)
	}
	if try("") == nil {
		t.Error("without a pin an unknown certificate is trusted")
	}
}

func TestClientAnswers(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved/v1/orgs":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/page/v1/orgs":
			http.Error(w, "<html>", http.StatusBadGateway)
		case "/text/v1/orgs":
			_, _ = w.Write([]byte("hello"))
		case "/elsewhere":
			t.Error("the client followed a redirect")
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(answer))
	defer srv.Close()
	for path, text := range map[string]string{
		"/moved": "answered 302 Found, which isn't this API's answer; check the address",
		"/page":  "answered 502 Bad Gateway, which isn't this API's answer; check the address",
		"/text":  "answered what isn't this API's",
	} {
		c, err := NewClient(ClientOptions{URL: srv.URL + path})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Orgs(t.Context()); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", path, err)
		}
		c.Close()
	}
	srv.Close()
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err = c.Orgs(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "no answer from "+srv.URL+": ") {
		t.Errorf("%v", err)
	}
}

// Names are escaped: one with a slash is another database, not another route.
func TestClientEscapes(t *testing.T) {
	m := newMesh(t)
	c := m.client(TrustToken, "admin")
	for _, name := range []string{"a/b", "..", "a?b", "%2f", "demo/reset", "ä"} {
		if _, err := c.Database(t.Context(), "acme", name); !errors.Is(err, netconf.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
