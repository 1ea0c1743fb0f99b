package pki

import (
	"bytes"
	"crypto"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// member is a node with a certificate, and its directory with the CA's.
func member(t *testing.T, ca *CA, name string) (dir string, key crypto.Signer, cert []byte) {
	t.Helper()
	dir = t.TempDir()
	key, err := OpenKey(filepath.Join(dir, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := Request(key, name)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = ca.SignNode(csr, name, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, caCertName), ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, key, cert
}

func ask(t *testing.T, key crypto.Signer, cert []byte) *Question {
	t.Helper()
	q, err := Ask(key, cert)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestShare(t *testing.T) {
	ca := openCA(t, t.TempDir())
	dir, key, cert := member(t, ca, "ams-1")
	q := ask(t, key, cert)
	sealed, err := ca.Share(q, "ams-1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := q.Take(dir, sealed); err != nil || got.key == nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, caKeyName))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	again := openCA(t, dir)
	if !bytes.Equal(again.PEM(), ca.PEM()) {
		t.Error("another CA was opened")
	}
	server, _ := node(t, again, "nrt-1") // what it signs is good with the first one
	_, client := node(t, ca, "mad-1")
	client.ServerName = "nrt-1"
	if s, c := meet(t, server, client); s != nil || c != nil {
		t.Errorf("%v, %v", s, c)
	}
}

func TestShareRefuses(t *testing.T) {
	ca, other := openCA(t, t.TempDir()), openCA(t, t.TempDir())
	dir, key, cert := member(t, ca, "ams-1")
	_, otherKey, otherCert := member(t, ca, "nrt-1")
	_, strangerKey, stranger := member(t, other, "ams-1")
	forged := ask(t, key, cert)
	forged.PublicKey = ask(t, key, cert).PublicKey
	empty := ask(t, key, cert)
	empty.Signature = nil
	for name, test := range map[string]struct {
		q    *Question
		want string
	}{
		"another node's certificate": {ask(t, otherKey, otherCert), "another node's"},
		"another mesh's certificate": {ask(t, strangerKey, stranger), "certificate"},
		"somebody else's key":        {ask(t, otherKey, cert), "signature"},
		"another public key":         {forged, "signature"},
		"no signature":               {empty, "signature"},
		"no certificate":             {ask(t, key, nil), "certificate"},
	} {
		if _, err := ca.Share(test.q, "ams-1"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The answer is for one question, and only the key of the CA that is trusted is kept.
	q := ask(t, key, cert)
	sealed, err := ca.Share(q, "ams-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, key, cert).Take(dir, sealed); err == nil {
		t.Error("it was opened by another question")
	}
	elsewhere, _, _ := member(t, other, "ams-1")
	if _, err := q.Take(elsewhere, sealed); err == nil || !strings.Contains(err.Error(), "isn't the one of the CA") {
		t.Errorf("another CA's key: %v", err)
	}
	for _, d := range []string{dir, elsewhere} {
		if _, err := os.Stat(filepath.Join(d, caKeyName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a key was written: %v", err)
		}
	}
}
