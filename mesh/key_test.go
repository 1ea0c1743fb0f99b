package mesh

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestPrivateKeyNeverPrints(t *testing.T) {
	k := newKey(t)
	type holder struct {
		Key PrivateKey
		k   PrivateKey
		p   *PrivateKey
	}
	h := holder{k, k, &k}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("key", "key", k, "pointer", &k, "holder", h)
	}
	j, err := json.Marshal(h)
	must(t, err)
	out := log.String() + string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b"} {
		out += fmt.Sprintf(verb, k) + fmt.Sprintf(verb, h) + fmt.Sprintf(verb, &h)
	}
	raw := k.bytes()
	dec := strings.Trim(fmt.Sprint(raw[:8]), "[]")
	for _, secret := range []string{k.Encode(), k.hex(), strings.ToUpper(k.hex()), dec, strings.ReplaceAll(dec, " ", ", ")} {
		if strings.Contains(out, secret) {
			t.Fatalf("the key is in %q", out)
		}
	}
}

func TestKeysRoundTrip(t *testing.T) {
	k := newKey(t)
	if got, err := ParsePrivateKey(k.Encode() + "\n"); err != nil || !got.Equal(k) {
		t.Errorf("private: %v", err)
	}
	p := k.Public()
	if got, err := ParsePublicKey(p.String()); err != nil || got != p {
		t.Errorf("public: %v", err)
	}
	// RFC 7748, section 6.1: Alice's keys.
	alice, err := ParsePrivateKey("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	must(t, err)
	if got := alice.Public().hex(); got != "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a" {
		t.Errorf("public half: %s", got)
	}
	for _, bad := range []string{"", "AAAA", "not base64!", base64.StdEncoding.EncodeToString(make([]byte, 32)), base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if _, err := ParsePublicKey(bad); err == nil {
			t.Errorf("public key %q accepted", bad)
		}
		if _, err := ParsePrivateKey(bad); err == nil || len(bad) > 3 && strings.Contains(err.Error(), bad) {
			t.Errorf("private key %q: %v", bad, err)
		}
	}
}

func TestLoadOrCreateKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	var wg sync.WaitGroup
	keys := make([]PrivateKey, 8)
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !k.Equal(keys[0]) || k.IsZero() {
			t.Fatal("started together, got different keys")
		}
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	must(t, os.Chmod(path, 0o644))
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("garbage\n"), 0o600))
	if _, err := LoadOrCreateKey(path); err == nil {
		t.Error("garbage accepted")
	}
	if _, err := LoadOrCreateKey(filepath.Join(dir, "none", "key")); err == nil {
		t.Error("a missing directory")
	}
}
