package proxy

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestUsers(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.topo.Settings = Settings{PasswordHash: HashPassword("pw"), Users: []User{
		{Name: "app", PasswordHash: HashPassword("a"), Rules: "~app:* %R~shared:* &app:* +@all -@dangerous -select"},
		{Name: "default_ro", PasswordHash: HashPassword("ro")},
		{Name: "nobody", PasswordHash: HashPassword("n"), Rules: "off +@all"},
		{Name: "wrong", PasswordHash: HashPassword("w"), Rules: "+nonsense"},
		{Name: "passwordless", Rules: "+@all"},
	}}
	for _, node := range []string{"a", "b"} {
		g, addr := h.gateway(node, h.mesh(node), nil)
		c := connect(t, addr)
		for i, wrong := range []string{"AUTH app b", "AUTH nobody n", "AUTH wrong w", "AUTH passwordless x", "AUTH nope x", "AUTH ro"} {
			if node == "a" || i == 0 { // each is answered later than the one before
				c.want(wrong, "-"+wrongPass)
			}
		}
		c.want("ACL WHOAMI", "-NOAUTH Authentication required.")
		c.want("AUTH app a", "OK")
		c.want("ACL WHOAMI", "app")
		c.want("SET app:k v", "OK")
		c.want("GET app:k", "v")
		c.want("GET shared:k", "nil")
		key := "-NOPERM this user has no permissions to access one of the keys used as arguments"
		c.want("SET shared:k v", key)
		c.want("GET other", key)
		c.want("SELECT 1", "-NOPERM this user has no permissions to run the 'select' command")
		c.want("FLUSHALL", "-NOPERM this user has no permissions to run the 'flushall' command")
		c.want("MODULE.CMD x", "-NOPERM this user has no permissions to run the 'MODULE.CMD' command")
		c.want("PUBLISH other m", "-NOPERM this user has no permissions to access one of the channels used as arguments")
		c.want("SUBSCRIBE app:x other", "-NOPERM this user has no permissions to access one of the channels used as arguments")
		if got := c.do("EVAL return 1 app:k"); !strings.HasPrefix(got, "-NOPERM this user may not run scripts") {
			t.Error(got)
		}
		c.want("GET", "-ERR wrong number of arguments for 'get' command")
		c.want("MULTI", "OK")
		c.want("SET other v", key)
		c.want("SET app:k w", "QUEUED")
		c.want("EXEC", "-"+abortText)
		c.want("GET app:k", "v")
		c.want("RESET", "RESET")
		c.want("GET app:k", "-NOAUTH Authentication required.")

		if got := c.do("HELLO 3 AUTH default_ro ro"); !strings.HasPrefix(got, "%[server") {
			t.Error(got)
		}
		c.want("GET app:k", "v")
		c.want("SET k v", "-NOPERM this user has no permissions to run the 'set' command")
		c.want("KEYS *", "-NOPERM this user has no permissions to run the 'keys' command")
		c.want("ACL LIST", "-NOPERM this user has no permissions to run the 'acl|list' command")

		c.want("AUTH pw", "OK")
		c.want("ACL USERS", "[app default default_ro nobody passwordless wrong]")
		c.want("ACL DRYRUN app get app:x", "OK")
		c.want("ACL DRYRUN app get other", "This user has no permissions to access the 'other' key")
		c.want("ACL DRYRUN app flushall", "This user has no permissions to run the 'flushall' command")
		c.want("ACL DRYRUN nope get k", "-ERR User 'nope' not found")
		c.want("ACL DRYRUN app nope", "-ERR Command 'nope' not found")
		c.want("ACL GETUSER app", "%[flags ~[on] passwords [] commands +@all -@dangerous -select keys ~app:* %R~shared:* channels &app:* selectors []]")
		c.want("ACL GETUSER nope", "nil")
		c.want("ACL SETUSER x on", "-NOPERM this user has no permissions to run the 'acl|setuser' command")
		if got := c.do("ACL LIST"); !strings.Contains(got, "user default on ~* &* +@all") || strings.Contains(got, HashPassword("a")) {
			t.Error(got)
		}
		if got := c.do("ACL GENPASS"); len(got) != 64 {
			t.Error(got)
		}
		if got := c.do("ACL CAT"); !strings.HasPrefix(got, "[keyspace read write") {
			t.Error(got)
		}
		if got := c.do("CLIENT LIST"); !strings.Contains(got, " user=default ") {
			t.Error(got)
		}
		if g.meters.total.Load() == 0 {
			t.Error("nothing was counted")
		}
	}
}

// Users change while their sessions are open.
func TestUsersChange(t *testing.T) {
	h := newHouse(t, "a")
	src := newLiveSource(h.topo)
	set := func(users ...User) { src.change(func(t *Topology) { t.Settings.Users = users }) }
	user := func(name, rules string) User {
		return User{Name: name, PasswordHash: HashPassword(name), Rules: rules}
	}
	set(user("a", "~* +get +set"), user("b", "~* +get"), user("c", "&* +subscribe"))
	_, addr := h.gateway("a", h.mesh("a"), func(o *Options) { o.Source = src })
	a, b, c, free := connect(t, addr), connect(t, addr), connect(t, addr), connect(t, addr)
	a.want("AUTH a a", "OK")
	b.want("AUTH b b", "OK")
	c.want("AUTH c c", "OK")
	c.want("SUBSCRIBE ch", "[subscribe ch 1]")
	a.want("SET k v", "OK")
	free.want("GET k", "v")
	set(user("a", "~* +get"), user("c", "&other +subscribe"))
	b.closed()
	c.closed()
	a.want("SET k w", "-NOPERM this user has no permissions to run the 'set' command")
	a.want("GET k", "v")
	free.want("ACL WHOAMI", "default")
	set(user("default", "~* +get +acl"))
	a.closed()
	free.want("SET k w", "-NOPERM this user has no permissions to run the 'set' command")
	free.want("ACL WHOAMI", "default")
}

func TestWrongPasswordsAreDelayed(t *testing.T) {
	var f failures
	at, now := addr("10.0.0.1:5"), time.Now()
	var all []time.Duration
	for range 9 {
		all = append(all, f.note(at, now))
	}
	if all[0] != firstDelay || all[1] != 2*firstDelay || all[8] != longestDelay {
		t.Error(all)
	}
	if d := f.note(addr("10.0.0.2:5"), now); d != firstDelay {
		t.Error("somebody else waits", d)
	}
	if d := f.note(addr("10.0.0.1:9"), now.Add(2*failuresFade)); d != firstDelay {
		t.Error("it doesn't fade", d)
	}
	for i := range 2 * failuresLimit {
		f.note(addr(time.Duration(i).String()+":1"), now)
	}
	if len(f.from) > failuresLimit+1 {
		t.Error(len(f.from), "addresses are remembered")
	}
	if d := f.note(addr("10.9.9.9:1"), now); d != longestDelay {
		t.Error("what can't be remembered isn't slow", d)
	}
}

type addr string

func (a addr) Network() string { return "tcp" }
func (a addr) String() string  { return string(a) }

func TestACLLog(t *testing.T) {
	h := newHouse(t, "a")
	h.topo.Settings = Settings{PasswordHash: HashPassword("pw"), Users: []User{
		{Name: "app", PasswordHash: HashPassword("a"), Rules: "~app:* &app:* +@all -flushall"},
	}}
	g, addr := h.gateway("a", h.mesh("a"), nil)
	c, admin := connect(t, addr), connect(t, addr)
	admin.want("AUTH pw", "OK")
	admin.want("ACL LOG", "[]")
	c.want("AUTH app secretguess", "-"+wrongPass)
	c.want("AUTH app a", "OK")
	c.want("CLIENT SETNAME me", "OK")
	c.do("FLUSHALL")
	c.do("GET other")
	c.do("GET other")
	c.want("MULTI", "OK")
	c.do("GET other")
	c.want("DISCARD", "OK")
	c.do("PUBLISH other message")
	type entry struct{ count, reason, context, object, user string }
	var got []entry
	for _, e := range g.acl.latest(100) {
		got = append(got, entry{strconv.FormatInt(e.count, 10), e.reason, e.context, e.object, e.user})
	}
	want := []entry{{"1", "channel", "toplevel", "other", "app"}, {"1", "key", "multi", "other", "app"}, {"2", "key", "toplevel", "other", "app"},
		{"1", "command", "toplevel", "flushall", "app"}, {"1", "auth", "toplevel", "AUTH", "app"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	text := admin.do("ACL LOG 1")
	if !strings.HasPrefix(text, "[[count 1 reason channel context toplevel object other username app age-seconds 0") ||
		!strings.Contains(text, " name=me ") || !strings.Contains(text, " entry-id 4 timestamp-created ") {
		t.Error(text)
	}
	if all := admin.do("ACL LOG"); strings.Contains(all, "secretguess") || strings.Contains(all, "message") {
		t.Error("a value is in the log: " + all)
	}
	admin.want("ACL LOG x", "-ERR value is not an integer or out of range")
	admin.want("ACL LOG -1", "[]")
	c.want("ACL LOG RESET", "OK") // +@all
	admin.want("ACL LOG", "[]")
	for i := range 2 * aclKeep {
		c.do("GET other" + strconv.Itoa(i))
	}
	if n := len(g.acl.latest(1000)); n != aclKeep {
		t.Errorf("%d entries are kept", n)
	}
}
