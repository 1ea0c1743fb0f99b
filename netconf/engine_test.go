package netconf

import (
	"errors"
	"strings"
	"testing"
)

func TestSetEngine(t *testing.T) {
	at := Engine{EngineRedis, "redis://u:secret@h:1"}
	for _, c := range []struct {
		name            string
		from, to        Engine
		is              error
		engine, pending Engine
	}{
		{"to a server", Engine{}, at, nil, Engine{}, at},
		{"back", at, Engine{Kind: EngineEmbedded}, nil, at, Engine{Kind: EngineEmbedded}},
		{"to one of the node's", Engine{}, Engine{Kind: EngineRedis}, nil, Engine{}, Engine{Kind: EngineRedis}},
		{"where it is", Engine{}, Engine{Kind: EngineEmbedded}, nil, Engine{}, Engine{}},
		{"another password", at, Engine{EngineRedis, "redis://u:new@h:1"}, nil, Engine{EngineRedis, "redis://u:new@h:1"}, Engine{}},
		{"as it is shown", at, Engine{EngineRedis, at.Redacted()}, nil, at, Engine{}},
		{"another server", at, Engine{EngineRedis, "redis://secret@other:1"}, ErrConflict, at, Engine{}},
		{"to a cluster", Engine{}, Engine{EngineCluster, "redis+cluster://h"}, ErrConflict, Engine{}, Engine{}},
	} {
		d := Database{Engine: c.from}
		err := d.SetEngine(c.to)
		if !errors.Is(err, c.is) || d.Engine != c.engine || d.Pending != c.pending {
			t.Errorf("%s: %v, %+v, pending %+v", c.name, err, d.Engine, d.Pending)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a secret in %v", c.name, err)
		}
		if d.Pending == (Engine{}) {
			continue
		}
		d.Moved()
		if d.Pending != (Engine{}) || !d.Engine.same(c.to) {
			t.Errorf("%s: moved to %+v, pending %+v", c.name, d.Engine, d.Pending)
		}
	}
}

func TestEngineURL(t *testing.T) {
	for text, shown := range map[string]string{
		"redis":                      "redis, run by the node",
		"embedded":                   "embedded",
		"redis://u:p%40ss@h:6379/0":  "redis redis://u:xxxxx@h:6379/0",
		"unix://:pw@/run/redis.sock": "redis unix://:xxxxx@/run/redis.sock",
		"rediss+sentinel://h:1,h:2?master=m&sentinel_password=s": "redis rediss+sentinel://h:1,h:2",
		"redis+cluster://:pw@h:1,h:2":                            "cluster redis+cluster://:xxxxx@h:1,h:2",
	} {
		e, err := ParseEngine(text)
		if err != nil || e.String() != shown {
			t.Errorf("%s: %q, %v", text, e, err)
		}
	}
	e := Engine{EngineRedis, "redis://u@h:1?sni=x"}
	if got := e.WithPassword("a b@c").URL; got != "redis://u:a%20b%40c@h:1?sni=x" {
		t.Errorf("with a password: %s", got)
	}
	for _, bad := range []string{"", "http://h", "redis://", "unix://h", "redis://a b", "redis+cluster:///x"} {
		if e, err := ParseEngine(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, e)
		}
	}
	if err := checkEngines(&Database{Engine: Engine{EngineRedis, "redis://h"}, MinReplicas: 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("min replicas on a server: %v", err)
	}
	if err := checkEngines(&Database{Engine: Engine{EngineCluster, "redis://h"}, Replicas: []string{"ams"}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("read regions of a cluster: %v", err)
	}
}
