package netconf

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func someHash() string { return strings.Repeat("0123456789abcdef", 4) }

// full is sample with a user and a token of each org.
func full(t *testing.T) *Registry {
	t.Helper()
	r := sample(t)
	if err := r.Update(func(d *Draft) error {
		for i, org := range []string{"personal", "acme"} {
			if err := errors.Join(
				d.SetUser(User{Org: org, Database: "demo", Name: "app", PasswordHash: someHash(), Rules: "~cache:* +@read"}),
				d.AddToken(Token{ID: "org" + string(rune('a'+i)), Hash: someHash(), Scope: ScopeOrg, Org: org})); err != nil {
				return err
			}
		}
		return d.AddToken(Token{ID: "node1", Hash: someHash(), Scope: ScopeNode, Region: "mad", UsedBy: key("x")})
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAccessIsChecked(t *testing.T) {
	user := func(change func(*User)) func(*Draft) error {
		return func(d *Draft) error {
			u := User{Org: "acme", Database: "demo", Name: "other", PasswordHash: someHash(), Rules: "allkeys +@all"}
			change(&u)
			return d.SetUser(u)
		}
	}
	token := func(change func(*Token)) func(*Draft) error {
		return func(d *Draft) error {
			k := Token{ID: "new1", Hash: someHash(), Scope: ScopeAdmin}
			change(&k)
			return d.AddToken(k)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Draft) error
		is     error
		says   string
	}{
		{"user", user(func(*User) {}), nil, ""},
		{"user's database", user(func(u *User) { u.Database = "dmo" }), ErrNotFound, "database acme/dmo not found; did you mean demo?"},
		{"user's org", user(func(u *User) { u.Org = "acmee" }), ErrNotFound, `org "acmee" not found; did you mean acme?`},
		{"user's name", user(func(u *User) { u.Name = "a b" }), ErrInvalid, "letters, digits"},
		{"default user", user(func(u *User) { u.Name = "default" }), ErrInvalid, "own user"},
		{"no password", user(func(u *User) { u.PasswordHash = "" }), ErrInvalid, "64 hexadecimal"},
		{"password in the rules", user(func(u *User) { u.Rules = "+get >hunter2" }), ErrInvalid, "can't set passwords"},
		{"nopass", user(func(u *User) { u.Rules = "nopass" }), ErrInvalid, "can't set passwords"},
		{"off", user(func(u *User) { u.Rules = "off" }), ErrInvalid, "remove the user"},
		{"long rules", user(func(u *User) { u.Rules = strings.Repeat("+get ", 1000) }), ErrInvalid, "at most 4096"},
		{"rules with a line feed", user(func(u *User) { u.Rules = "+get\r\n+set" }), ErrInvalid, "control character"},
		{"user of nothing", func(d *Draft) error { d.Users = append(d.Users, User{Org: "x", Database: "y", Name: "z"}); return nil }, ErrNotFound, "database not found"},
		{"user twice", func(d *Draft) error { d.Users = append(d.Users, d.Users[0]); return nil }, ErrExists, "app"},
		{"user to remove", func(d *Draft) error { return d.RemoveUser("acme", "demo", "nobody") }, ErrNotFound, "user nobody of database acme/demo"},

		{"token", token(func(*Token) {}), nil, ""},
		{"token's ID", token(func(k *Token) { k.ID = "A B" }), ErrInvalid, "id"},
		{"token twice", token(func(k *Token) { k.ID = "orga" }), ErrExists, "token orga"},
		{"token's hash", token(func(k *Token) { k.Hash = "x" }), ErrInvalid, "64 hexadecimal"},
		{"token's scope", token(func(k *Token) { k.Scope = "root" }), ErrInvalid, `scope "root": want admin, org, read-only or node`},
		{"token without org", token(func(k *Token) { k.Scope = ScopeOrg }), ErrInvalid, "needs an org"},
		{"token's org", token(func(k *Token) { k.Scope, k.Org = ScopeReadOnly, "none" }), ErrNotFound, `org "none" not found`},
		{"admin of an org", token(func(k *Token) { k.Org = "acme" }), ErrInvalid, "isn't about one org"},
		{"region of an admin", token(func(k *Token) { k.Region = "mad" }), ErrInvalid, "for scope node"},
		{"token's region", token(func(k *Token) { k.Scope, k.Region = ScopeNode, "madd" }), ErrInvalid, "mad (Madrid)"},
		{"token over at once", token(func(k *Token) { k.Created = time.Now(); k.Expires = k.Created.Add(-1) }), ErrInvalid, "before"},
		{"token used twice", func(d *Draft) error { k, err := d.Token("node1"); k.UsedBy = key("y"); return err }, ErrConflict, "has been used"},
		{"token unused", func(d *Draft) error { k, err := d.Token("node1"); k.UsedBy = ""; return err }, ErrConflict, "has been used"},
		{"token made wider", func(d *Draft) error { k, err := d.Token("orga"); k.Scope, k.Org = ScopeAdmin, ""; return err }, ErrConflict, "make another"},
		{"token to remove", func(d *Draft) error { return d.RemoveToken("none") }, ErrNotFound, "token none"},
	} {
		err := full(t).Update(c.change)
		if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), someHash())) {
			t.Errorf("%s: a secret in %v", c.name, err)
		}
	}
}

// With a database go its users, with an org its tokens; nothing of another's.
func TestAccessGoesWithItsOwner(t *testing.T) {
	r := full(t)
	if err := r.Update(func(d *Draft) error { return d.RemoveDatabase("acme", "demo") }); err != nil {
		t.Fatal(err)
	}
	top, _ := r.Current()
	if len(top.UsersOf("acme", "demo")) != 0 || len(top.UsersOf("personal", "demo")) != 1 || len(top.Tokens) != 3 {
		t.Errorf("after the database: %+v %+v", top.Users, top.Tokens)
	}
	if err := r.Update(func(d *Draft) error { return d.RemoveOrg("acme") }); err != nil {
		t.Fatal(err)
	}
	top, _ = r.Current()
	if _, ok := top.Token("orgb"); ok || len(top.Tokens) != 2 {
		t.Errorf("after the org: %+v", top.Tokens)
	}
}

func TestDatabaseLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Database)
		is     error
		says   string
	}{
		{"plan and memory", func(d *Database) { d.Plan, d.MaxMemory = "1gb", 1<<30 }, nil, ""},
		{"more than the plan", func(d *Database) { d.Plan, d.MaxMemory = "250mb", 1<<30 }, ErrInvalid, "take a larger plan"},
		{"unknown plan", func(d *Database) { d.Plan = "gold" }, ErrInvalid, `plan "gold"`},
		{"replicas there are", func(d *Database) { d.MinReplicas = 2 }, nil, ""},
		{"replicas there aren't", func(d *Database) { d.MinReplicas = 3 }, ErrConflict, "only 2 other nodes"},
		{"negative replicas", func(d *Database) { d.MinReplicas = -1 }, ErrInvalid, "negative"},
		{"limits", func(d *Database) { d.Limits = Limits{5, 1000, 2, time.Hour, 1 << 20} }, nil, ""},
		{"negative sessions", func(d *Database) { d.Limits.MaxSessions = -1 }, ErrInvalid, "max sessions -1: want 0"},
		{"too fast", func(d *Database) { d.Limits.CommandsPerSecond = 2e9 }, ErrInvalid, "commands per second"},
		{"too many at work", func(d *Database) { d.Limits.Concurrency = 1e6 }, ErrInvalid, "concurrency"},
		{"idle for too short", func(d *Database) { d.Limits.IdleTimeout = time.Millisecond }, ErrInvalid, "idle timeout 1ms"},
		{"value too long", func(d *Database) { d.Limits.MaxValue = 1 << 40 }, ErrInvalid, "max value"},
		{"redis", func(d *Database) { d.Engine = Engine{EngineRedis, "rediss://u:p@h:1"} }, nil, ""},
		{"redis of its own", func(d *Database) { d.Engine = Engine{Kind: EngineRedis} }, nil, ""},
		{"redis by a socket", func(d *Database) { d.Engine = Engine{EngineRedis, "unix:///run/redis.sock"} }, nil, ""},
		{"engine nobody knows", func(d *Database) { d.Engine = Engine{Kind: "mysql"} }, ErrInvalid, `engine "mysql": want embedded, redis or cluster`},
		{"embedded elsewhere", func(d *Database) { d.Engine = Engine{EngineEmbedded, "redis://h"} }, ErrInvalid, "no URL"},
		{"cluster nowhere", func(d *Database) { d.Engine = Engine{Kind: EngineCluster} }, ErrInvalid, "needs the URL"},
		{"other scheme", func(d *Database) { d.Engine = Engine{EngineRedis, "http://secret@h"} }, ErrInvalid, "redis://"},
		{"no URL at all", func(d *Database) { d.Engine = Engine{EngineRedis, "redis://secret:%zz@h"} }, ErrInvalid, "host:port"},
		{"no host", func(d *Database) { d.Engine = Engine{EngineRedis, "redis://"} }, ErrInvalid, "no host"},
	} {
		err := sample(t).Update(func(d *Draft) error {
			db, err := d.Database("acme", "demo")
			if err == nil {
				c.change(db)
			}
			return err
		})
		if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a secret in %v", c.name, err)
		}
	}
	// Fewer regions than replicas are asked for: refused. A node that is gone can be removed all the same.
	r := sample(t)
	set := func(change func(*Draft) error) error { return r.Update(change) }
	if err := set(func(d *Draft) error { db, err := d.Database("acme", "demo"); db.MinReplicas = 2; return err }); err != nil {
		t.Fatal(err)
	}
	if err := set(func(d *Draft) error { return d.SetReplicas("acme", "demo", []string{"ams"}) }); !errors.Is(err, ErrConflict) {
		t.Errorf("too few regions: %v", err)
	}
	if err := set(func(d *Draft) error { return d.RemoveNode("nrt-1") }); err != nil {
		t.Errorf("removing a node: %v", err)
	}
	if got := (&Database{Plan: "1gb"}).MemoryLimit(); got != 1<<30 {
		t.Errorf("limit of the plan: %d", got)
	}
	if got := (&Database{Plan: "1gb", MaxMemory: 5}).MemoryLimit(); got != 5 {
		t.Errorf("limit of the database: %d", got)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{"": true, "192.0.2.1:51820": true, "[2001:db8::1]:51820": true, "node.example:51820": true,
		"192.0.2.1": false, ":51820": false, "h:0": false, "h:70000": false, "2001:db8::1:51820": false} {
		err := sample(t).Update(func(d *Draft) error { d.Nodes[0].Endpoint = endpoint; return nil })
		if (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

func TestNear(t *testing.T) {
	names := []string{"demo", "cart", "sessions", "shop", "shop-staging"}
	for asked, want := range map[string][]string{"dmo": {"demo"}, "demos": {"demo"}, "sesions": {"sessions"}, "sessionsxx": {"sessions"},
		"sho": {"shop", "shop-staging"}, "x": nil, "": nil, "other": nil, "demo": nil} {
		if got := Near(asked, names); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", asked, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	r := full(t)
	before, _ := r.Current()
	if lines := Diff(before, before); len(lines) != 0 {
		t.Errorf("of nothing: %q", lines)
	}
	if err := r.Update(func(d *Draft) error {
		db, err := d.Database("personal", "demo")
		if err != nil {
			return err
		}
		db.Replicas, db.MaxLag, db.PasswordHash = []string{"ams"}, time.Second, someHash()
		d.Nodes[0].Draining = true
		u := d.Users[0]
		u.Rules = "+get"
		// Removed, and another of the same name made.
		if err := errors.Join(d.SetUser(u), d.RemoveDatabase("acme", "demo"), d.RemoveToken("node1"), d.RemovePeer("personal", "laptop")); err != nil {
			return err
		}
		_, err = d.AddDatabase(Database{Org: "acme", Name: "demo", Primary: "ams"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	after, _ := r.Current()
	added, _ := after.Database("acme", "demo")
	want := []string{
		"node ams-1: draining no → yes",
		"database acme/demo: added, primary ams, address " + added.Address.String(),
		"database personal/demo: replicas ams,nrt → ams",
		"database personal/demo: password changed",
		"database personal/demo: max lag none → 1s",
		"database acme/demo: removed",
	}
	if before.Users[0].Org == "acme" {
		want = append(want, "user acme/demo app: removed")
	} else {
		t.Fatal("users aren't sorted")
	}
	want = append(want, "peer personal/laptop: removed", "token node1: removed")
	if got := Diff(before, after); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var many State
	many.Infra = before.Infra
	for range 150 {
		many.Orgs = append(many.Orgs, Org{Name: "o" + strings.ToLower(RandomPrefix().String()[2:4]), Prefix: RandomPrefix()})
	}
	if got := Diff(&Topology{}, &Topology{State: many}); len(got) != maxAuditLines+1 || !strings.HasPrefix(got[maxAuditLines], "and ") {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}
