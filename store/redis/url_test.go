package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"respmesh/store/redis"
)

func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://h":                          "",
		"redis://h:1":                        "",
		"redis://[::1]":                      "",
		"redis://[::1]:6379/0":               "",
		"redis://u:p%40@h":                   "",
		"redis://:p@h":                       "",
		"rediss://h?sni=x":                   "",
		"unix:///run/r.sock":                 "",
		"unix://u:p@/run/r.sock":             "",
		"redis+sentinel://a,b:1/?master=m":   "",
		"redis+cluster://a,b:1":              "",
		"h:6379":                             "isn't one",
		"http://h":                           `scheme "http"`,
		"redis://":                           "host is missing",
		"redis://a,b":                        "one host only",
		"redis://h/3":                        "only database 0",
		"redis://u@h":                        "needs a password",
		"redis://:%zz@h":                     "malformed",
		"redis://h?x=y":                      `option "x"`,
		"unix://relative":                    "begin with a slash",
		"redis+sentinel://h":                 "add ?master=NAME",
		"rediss://h?cacert=/nosuch":          "read cacert",
		"rediss://h?cert=/nosuch":            "belong together",
		"redis://user:secret@h/1?master=pwd": "redis://h/1: only",
	} {
		err := redis.CheckURL(raw)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, not %q", raw, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "zz")) {
			t.Errorf("%s: the error tells the password: %v", raw, err)
		}
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLSAndUsers(t *testing.T) {
	cert, key := selfSigned(t)
	port := freePort(t)
	r := startReal(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	r.do("ACL", "SETUSER", "app", "on", ">pass word", "~app:*", "+@all", "&*")
	good := "rediss://app:pass%20word@127.0.0.1:" + port + "?cacert=" + cert + "&cert=" + cert + "&key=" + key
	e := open(t, redis.Options{URL: good})
	if err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSession(t, e)
	s.want("SET app:k v", "+OK\r\n")
	if got := s.do("SET other v"); !strings.HasPrefix(got, "-NOPERM") {
		t.Errorf("%q", got)
	}
	s.want("WATCH app:k", "+OK\r\n")
	s.want("MULTI", "+OK\r\n")
	s.want("INCR app:n", "+QUEUED\r\n")
	s.want("EXEC", "*1\r\n:1\r\n")
	if got := s.do("SUBSCRIBE a"); !strings.HasPrefix(got, "*3") {
		t.Errorf("%q", got)
	}
	sock := open(t, redis.Options{URL: "unix://app:pass%20word@" + r.sock})
	newSession(t, sock).want("GET app:k", "$1\r\nv\r\n")

	for url, want := range map[string]string{
		strings.Replace(good, "word", "w", 1):                          "WRONGPASS",
		"rediss://127.0.0.1:" + port + "?cert=" + cert + "&key=" + key: "certificate",
		"redis://app:pass%20word@127.0.0.1:" + port:                    "",
		"unix:///nosuch.sock":                                          "no such file",
		"redis://app:x@" + r.addr:                                      "WRONGPASS",
	} {
		bad := open(t, redis.Options{URL: url})
		if err := bad.Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pass%20") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A user who may neither ask for the role nor for the replication's state can still be used.
func TestUserWithoutRole(t *testing.T) {
	r := startReal(t)
	r.do("ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", "-role", "-info")
	s := newSession(t, open(t, redis.Options{URL: "redis://app:p@" + r.addr}))
	s.want("SET k v", "+OK\r\n")
	s.want("GET k", "$1\r\nv\r\n")
}
