package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// etag asks as the administrator, and gives status, ETag and body.
func (m *mesh) etag(t *testing.T, method, path, body, ifMatch string) (int, string, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://[::1]:17379"+path, strings.NewReader(body))
	r.RemoteAddr = "[2001:db8::1]:4000"
	r.Header.Set("Authorization", "Bearer "+m.tokens["admin"])
	if body != "" {
		r.Header.Set("Content-Type", contentJSON)
	}
	if ifMatch != "" {
		r.Header.Set("If-Match", ifMatch)
	}
	w := httptest.NewRecorder()
	m.held.wrap(m.server.Handler(TrustToken)).ServeHTTP(w, r)
	return w.Code, w.Header().Get("ETag"), w.Body.String()
}

func (m *mesh) etagOf(t *testing.T, method, path, body, ifMatch string) string {
	t.Helper()
	status, tag, answer := m.etag(t, method, path, body, ifMatch)
	if status/100 != 2 || tag == "" && method != http.MethodDelete {
		t.Fatalf("%s %s: %d, ETag %s, %s", method, path, status, tag, answer)
	}
	return tag
}

// Who changes different things isn't in the other's way; who changes the same is told.
func TestRevisionsOfObjects(t *testing.T) {
	m := newMesh(t)
	const (
		org   = "/v1/orgs/acme"
		demo  = org + "/databases/demo"
		other = org + "/databases/other"
		user  = demo + "/users/app"
		peer  = org + "/peers/laptop"
	)
	m.etagOf(t, "POST", org+"/databases", `{"name":"other","primary_region":"mad"}`, "")
	m.etagOf(t, "PUT", user, `{"rules":"~* +@read"}`, "")
	m.etagOf(t, "POST", org+"/peers", `{"name":"laptop","region":"ams","public_key":"`+wgKey("p1")+`"}`, "")
	tags := make(map[string]string)
	for _, path := range []string{org, demo, other, user, peer} {
		tags[path] = m.etagOf(t, "GET", path, "", "")
	}
	changed := m.etagOf(t, "PATCH", demo, `{"eviction":true}`, tags[demo])
	if changed == tags[demo] || changed != m.etagOf(t, "GET", demo, "", "") {
		t.Errorf("ETag %s became %s, and GET says another", tags[demo], changed)
	}
	for _, path := range []string{org, other, user, peer} {
		if now := m.etagOf(t, "GET", path, "", ""); now != tags[path] {
			t.Errorf("%s: ETag %s became %s with the change of a database", path, tags[path], now)
		}
	}
	if same := m.etagOf(t, "PATCH", demo, `{"eviction":true}`, changed); same != changed {
		t.Errorf("a change that changes nothing: ETag %s became %s", changed, same)
	}
	// The others' tags are still good, each once.
	for _, q := range []struct{ method, path, body string }{
		{"PATCH", other, `{"eviction":true}`},
		{"PUT", user, `{"rules":"~* +@write"}`},
		{"POST", peer + "/reset", `{"public_key":"` + wgKey("p2") + `"}`},
	} {
		of := strings.TrimSuffix(q.path, "/reset")
		m.etagOf(t, q.method, q.path, q.body, tags[of])
		if status, _, body := m.etag(t, q.method, q.path, strings.Replace(q.body, "true", "false", 1), tags[of]); status != http.StatusPreconditionFailed {
			t.Errorf("%s %s with an old revision: %d %s", q.method, q.path, status, body)
		}
	}
	for _, path := range []string{demo, peer, user} {
		if status, _, _ := m.etag(t, "DELETE", path, "", tags[path]); status != http.StatusPreconditionFailed {
			t.Errorf("DELETE %s with an old revision: %d", path, status)
		}
	}
	// What is gone, or has come back as another, isn't what was seen.
	seen := m.etagOf(t, "GET", user, "", "")
	m.etagOf(t, "DELETE", user, "", seen)
	if status, _, body := m.etag(t, "PUT", user, `{"rules":"~* +@read"}`, seen); status != http.StatusPreconditionFailed || !strings.Contains(body, "isn't there any more") {
		t.Errorf("PUT of a user that was removed: %d %s", status, body)
	}
	if status, _, _ := m.etag(t, "DELETE", user, "", seen); status != http.StatusNotFound {
		t.Errorf("DELETE of a user that was removed: %d", status)
	}
	seen = m.etagOf(t, "GET", other, "", "")
	m.etagOf(t, "DELETE", other, "", seen)
	m.etagOf(t, "POST", org+"/databases", `{"name":"other","primary_region":"mad"}`, "")
	if status, _, _ := m.etag(t, "DELETE", other, "", seen); status != http.StatusPreconditionFailed {
		t.Errorf("DELETE of another database of the same name: %d", status)
	}
	// Lists have the whole state's.
	list := m.etagOf(t, "GET", "/v1/databases", "", "")
	m.etagOf(t, "POST", "/v1/orgs", `{"name":"shop"}`, list)
	if status, _, _ := m.etag(t, "POST", "/v1/orgs", `{"name":"shops"}`, list); status != http.StatusPreconditionFailed {
		t.Errorf("POST with an old revision of the list: %d", status)
	}
}
