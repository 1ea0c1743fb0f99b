package api

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

// The CA's key goes to members of the control plane alone.
func TestAuthority(t *testing.T) {
	m := newMesh(t)
	dir := t.TempDir()
	ca, err := pki.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	here, member, broken := ca, true, error(nil)
	m.server.opt.Enroller = LocalEnroller{
		CA: func() *pki.CA { return here }, Control: func() []string { return nil },
		Member: func(_ context.Context, n netconf.Node) (bool, error) { return member && n.Name == "ams-1", broken },
	}
	topo, _ := m.control.Current()
	ams, _ := topo.Node("ams-1")
	key, err := pki.OpenKey(filepath.Join(t.TempDir(), "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.Request(key, "ams-1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignNode(csr, "ams-1", ams.Addr)
	if err != nil {
		t.Fatal(err)
	}
	q, err := pki.Ask(key, cert)
	if err != nil {
		t.Fatal(err)
	}
	body := jsonOf(t, questionBody(q))
	if status, answer := m.request(t, "mesh", "POST", "/v1/node/authority", body); status != http.StatusOK || !strings.Contains(answer, `"sealed":"`) {
		t.Errorf("a member: %d %s", status, answer)
	}
	if status, answer := m.request(t, "admin", "POST", "/v1/node/authority", body); status != http.StatusForbidden {
		t.Errorf("a token: %d %s", status, answer)
	}
	member = false
	if status, answer := m.request(t, "mesh", "POST", "/v1/node/authority", body); status != http.StatusForbidden || !strings.Contains(answer, "doesn't carry the control plane") {
		t.Errorf("another node: %d %s", status, answer)
	}
	member, broken = true, errors.New("no quorum")
	if status, answer := m.request(t, "mesh", "POST", "/v1/node/authority", body); status/100 != 5 {
		t.Errorf("without control: %d %s", status, answer)
	}
	broken, here = nil, nil
	for _, path := range []string{"/v1/node/authority", "/v1/node/certificate"} {
		body := map[bool]string{true: body, false: jsonOf(t, CertificateRequest{CSR: string(csr)})}[path == "/v1/node/authority"]
		if status, answer := m.request(t, "mesh", "POST", path, body); status != http.StatusServiceUnavailable || !strings.Contains(answer, "nodes list") {
			t.Errorf("%s without the key: %d %s", path, status, answer)
		}
	}
	if status, answer := m.request(t, "", "GET", "/v1/join", ""); status != http.StatusServiceUnavailable {
		t.Errorf("join without the key: %d %s", status, answer)
	}
}
