package proxy

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"time"

	"respmesh/proxy/acl"
	"respmesh/resp/command"
)

// User is somebody who may use the database, besides the default user, whose password is Settings.PasswordHash and who
// may do everything unless a User named "default" says otherwise.
type User struct {
	Name         string
	PasswordHash string // SHA-256 in hexadecimal digits; a user without one can't log in
	Rules        string // Redis access rules: see package acl; empty for default_ro: acl.ReadOnly
}

const (
	defaultUser  = "default"
	readOnlyUser = "default_ro"
)

// account is a user with the rules understood.
type account struct {
	User
	rules    *acl.User
	free     bool // may do everything
	noPass   bool // anything is its password
	script   bool // may run scripts
	scriptRO bool // may run scripts that only read
}

// accounts are the users of a database, immutable.
type accounts struct {
	settings Settings // that they were made from
	byName   map[string]*account
	standard *account // default; never nil
}

// madeFrom says whether the accounts are those of the settings.
func (a *accounts) madeFrom(s *Settings) bool {
	return a != nil && a.settings.PasswordHash == s.PasswordHash && slices.Equal(a.settings.Users, s.Users)
}

// newAccounts understands the users of the settings. Bad holds those whose rules make no sense: they can't log in.
func newAccounts(s Settings) (a *accounts, bad map[string]error) {
	a = &accounts{settings: Settings{PasswordHash: s.PasswordHash, Users: slices.Clone(s.Users)}, byName: make(map[string]*account)}
	add := func(u User) {
		rules, err := acl.Parse(u.Rules)
		if err != nil {
			if bad == nil {
				bad = make(map[string]error)
			}
			bad[u.Name] = err
			rules, _ = acl.Parse("off")
		}
		x := &account{User: u, rules: rules, free: rules.Unrestricted()}
		x.script, x.scriptRO = rules.MayScript(command.ByName("eval")), rules.MayScript(command.ByName("eval_ro"))
		a.byName[u.Name] = x
	}
	add(User{Name: defaultUser, PasswordHash: s.PasswordHash, Rules: acl.All})
	for _, u := range s.Users {
		switch u.Name {
		case defaultUser:
			u.PasswordHash = cmp.Or(u.PasswordHash, s.PasswordHash)
		case readOnlyUser:
			u.Rules = cmp.Or(u.Rules, acl.ReadOnly)
		}
		add(u)
	}
	a.standard = a.byName[defaultUser]
	a.standard.noPass = a.standard.PasswordHash == ""
	return a, bad
}

// open is who a new session is without having said so; nil: it has to.
func (a *accounts) open() *account {
	if a.standard.noPass && a.standard.rules.Enabled() {
		return a.standard
	}
	return nil
}

// login finds the user of a password, in a time that tells nothing of it; nil: there is none.
func (a *accounts) login(name, password []byte) *account {
	u, known := a.byName[string(name)]
	want := ""
	if known {
		want = u.PasswordHash
	}
	sum := sha256.Sum256(password)
	var got [2 * sha256.Size]byte
	hex.Encode(got[:], sum[:])
	same := subtle.ConstantTimeCompare([]byte(want), got[:]) == 1
	if !known || !u.rules.Enabled() || !same && !u.noPass {
		return nil
	}
	return u
}

// setUsers takes the users of new settings. Sessions of users that are gone, or that listen and may now listen to less,
// end; the others follow with their next command.
func (g *Gateway) setUsers(s *Settings) {
	old := g.users.Load()
	if old.madeFrom(s) {
		return
	}
	now, bad := newAccounts(*s)
	for name, err := range bad {
		g.log.Error("user can't log in: its rules aren't understood", "user", name, "error", err)
	}
	g.users.Store(now)
	if old == nil {
		return
	}
	for _, o := range g.snapshot() {
		was := o.who.Load()
		if was == nil {
			continue
		}
		is := now.byName[was.Name]
		if is == nil || !is.rules.Enabled() || o.listens.Load() > 0 && is.Rules != was.Rules {
			o.kill(cutUser)
		}
	}
}

// follow has the session take what its user may do now.
func (s *session) follow(a *accounts) {
	s.users = a
	if s.user != nil {
		s.be(a.byName[s.user.Name])
		s.leave = s.leave || s.user == nil
	}
}

// be makes the session a user's; nil: nobody's.
func (s *session) be(u *account) {
	s.user = u
	s.who.Store(u)
	s.applyLimits()
}

// login checks a password. Wrong ones are counted, and answered the later the more there were from the same address.
func (s *session) login(how, name, password []byte) bool {
	if u := s.users.login(name, password); u != nil {
		s.be(u)
		return true
	}
	s.g.meters.authFailures.Inc()
	s.denied("auth", how, name)
	s.g.log.Debug("wrong password", "client", s.conn.RemoteAddr(), "peer", s.peer)
	delay := s.g.wrong.note(s.conn.RemoteAddr(), time.Now())
	s.rest(delay)
	return false
}

// allowed checks a command against the session's user; false: it was answered.
func (s *session) allowed(w *work, req *command.Request, e *entry) bool {
	u := s.user
	var text string
	switch {
	case req.Spec == nil:
		s.denied("command", req.Args[0], []byte(u.Name))
		text = "NOPERM this user has no permissions to run the '" + printableName(req.Args[0]) + "' command"
	case e == &s.g.table.respmesh:
		return true
	case !req.ArityOK(len(req.Args)):
		text = command.ArityError(req.Spec)
	default:
		var d acl.Denial
		d, w.keys = u.rules.Check(req.Spec, req.Args, w.keys)
		switch {
		case d.Kind == acl.DeniedCommand:
			s.denied("command", []byte(req.Name), []byte(u.Name))
			text = "NOPERM this user has no permissions to run the '" + req.Name + "' command"
		case d.Kind == acl.DeniedKey:
			s.denied("key", req.Args[d.Arg], []byte(u.Name))
			text = "NOPERM this user has no permissions to access one of the keys used as arguments"
		case d.Kind == acl.DeniedChannel:
			s.denied("channel", req.Args[d.Arg], []byte(u.Name))
			text = "NOPERM this user has no permissions to access one of the channels used as arguments"
		case e.is(traitScript) && !u.script && !(u.scriptRO && req.Is(command.FlagReadonly)):
			s.denied("command", []byte(req.Name), []byte(u.Name))
			text = "NOPERM this user may not run scripts: what they call isn't checked, so that takes all keys and commands"
		default:
			return true
		}
	}
	s.refuse(w, text)
	return false
}

func printableName(b []byte) string {
	name := make([]byte, 0, 64)
	for _, c := range b[:min(len(b), 64)] {
		if c < ' ' || c > '~' || c == '\'' {
			c = '?'
		}
		name = append(name, c)
	}
	return string(name)
}

// failures remembers from where wrong passwords came.
type failures struct {
	mu   sync.Mutex
	from map[string]failure
}

type failure struct {
	n    int
	last time.Time
}

const (
	firstDelay    = 20 * time.Millisecond
	longestDelay  = 2 * time.Second
	failuresFade  = time.Minute
	failuresLimit = 4096 // addresses; beyond, all are treated as one
)

// note counts a failure and says how long to wait before it is told.
func (f *failures) note(addr net.Addr, now time.Time) time.Duration {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		host = addr.String()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from == nil {
		f.from = make(map[string]failure)
	}
	if _, known := f.from[host]; !known && len(f.from) >= failuresLimit {
		for h, x := range f.from {
			if now.Sub(x.last) > failuresFade {
				delete(f.from, h)
			}
		}
		if len(f.from) >= failuresLimit {
			host = ""
		}
	}
	x := f.from[host]
	if now.Sub(x.last) > failuresFade {
		x.n = 0
	}
	x.n, x.last = x.n+1, now
	f.from[host] = x
	return min(firstDelay<<min(x.n-1, 10), longestDelay)
}
