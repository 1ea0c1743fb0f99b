package netconf

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
)

// Engine is what the primary's store runs on. Replicas are embedded.
type Engine struct {
	Kind string `json:"kind,omitempty"` // "" or EngineEmbedded, EngineRedis, EngineCluster
	// URL of the server, of its Sentinels, or of some of the cluster's: see checkEngine. It holds the password: a secret.
	// Empty with EngineRedis: the node that leads runs a server of its own.
	URL string `json:"url,omitempty"`
}

// Kinds of engines.
const (
	EngineEmbedded = "embedded"
	EngineRedis    = "redis"
	EngineCluster  = "cluster"
)

// Embedded tells whether the store is in the node's process.
func (e Engine) Embedded() bool { return e.Kind == "" || e.Kind == EngineEmbedded }

// Supervised tells whether the store is a server that the node runs, so that the data are on that node.
func (e Engine) Supervised() bool { return e.Kind == EngineRedis && e.URL == "" }

// LogValue keeps the URL's password out of logs.
func (e Engine) LogValue() slog.Value { return slog.StringValue(e.Kind) }

// Redacted is the URL without what is secret: the password, and options, of which some are.
func (e Engine) Redacted() string {
	scheme, user, place := e.parts()
	if scheme == "" {
		return ""
	}
	if name, _, secret := strings.Cut(user, ":"); secret {
		user = name + ":xxxxx"
	}
	if user != "" {
		user += "@"
	}
	return scheme + "://" + user + place
}

// WithPassword is the engine with a password in its URL, in place of the one there may be.
func (e Engine) WithPassword(password string) Engine {
	scheme, user, place := e.parts()
	if scheme == "" || password == "" {
		return e
	}
	name, _, _ := strings.Cut(user, ":")
	_, query, options := strings.Cut(e.URL, "?")
	e.URL = scheme + "://" + name + ":" + strings.ReplaceAll(url.QueryEscape(password), "+", "%20") + "@" + place
	if options {
		e.URL += "?" + query
	}
	return e
}

// ParseEngine reads what people write: embedded, redis for a server that the node runs, or a URL, which is a cluster's if
// it says so.
func ParseEngine(text string) (Engine, error) {
	e := Engine{Kind: EngineRedis, URL: text}
	switch text {
	case "":
		return e, fmt.Errorf("%w engine: it is empty", ErrInvalid)
	case EngineEmbedded:
		return Engine{Kind: EngineEmbedded}, nil
	case EngineRedis:
		return Engine{Kind: EngineRedis}, nil
	}
	if scheme, _, _ := e.parts(); strings.HasSuffix(scheme, "+cluster") {
		e.Kind = EngineCluster
	}
	return e, checkEngine(e)
}

// parts takes the URL apart. Sentinels and clusters have several hosts, which package url doesn't take.
func (e Engine) parts() (scheme, user, place string) {
	scheme, rest, ok := strings.Cut(e.URL, "://")
	if !ok {
		return "", "", ""
	}
	rest, _, _ = strings.Cut(rest, "?")
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	if at := strings.LastIndexByte(rest[:end], '@'); at >= 0 {
		user, rest = rest[:at], rest[at+1:]
	}
	return scheme, user, rest
}

// String is the engine for people, without what is secret.
func (e Engine) String() string {
	kind := cmp.Or(e.Kind, EngineEmbedded)
	switch {
	case e.Supervised():
		return kind + ", run by the node"
	case e.URL != "":
		return kind + " " + e.Redacted()
	}
	return kind
}

// same tells whether two engines are the same place.
func (e Engine) same(o Engine) bool {
	if e.Embedded() || o.Embedded() {
		return e.Embedded() && o.Embedded()
	}
	scheme, _, place := e.parts()
	otherScheme, _, otherPlace := o.parts()
	return e.Kind == o.Kind && scheme == otherScheme && place == otherPlace
}

// SetEngine asks for an engine. The data are moved there by the node that leads; a URL that only gives another password to
// the same server is taken at once.
func (d *Database) SetEngine(e Engine) error {
	switch {
	case d.Engine.same(e):
		if !e.Embedded() && e.URL != d.Engine.Redacted() { // that is what people are shown: no new password
			d.Engine = e
		}
		d.Pending = Engine{}
		return nil
	case d.Engine.Kind == EngineCluster || e.Kind == EngineCluster:
		return fmt.Errorf("%w engine: a database can't be moved to a cluster or from one; create another and copy the data", ErrConflict)
	case !d.Engine.Embedded() && !e.Embedded():
		return fmt.Errorf("%w engine: move the database from %s to the embedded engine first, then to the other server", ErrConflict, d.Engine)
	}
	d.Pending = e
	d.Pending.Kind = cmp.Or(e.Kind, EngineEmbedded)
	return nil
}

// Moved is called when the data are in the pending engine.
func (d *Database) Moved() {
	d.Engine, d.Pending = d.Pending, Engine{}
	if d.Engine.Embedded() {
		d.Engine = Engine{}
	}
}

// schemes are what the URLs of a kind of engine begin with.
func schemes(kind string) []string {
	if kind == EngineCluster {
		return []string{"redis", "rediss", "redis+cluster", "rediss+cluster"}
	}
	return []string{"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"}
}

// checkEngines checks where a database is and where it goes.
func checkEngines(d *Database) error {
	for _, e := range []Engine{d.Engine, d.Pending} {
		if err := checkEngine(e); err != nil {
			return err
		}
		switch {
		case !e.Embedded() && d.MinReplicas > 0:
			// A server counts the replicas of its own too, and its users may set min-replicas-to-write and ask WAIT.
			return fmt.Errorf("%w min replicas %d: it is for the embedded engine; with engine %s set it to 0, and use the server's min-replicas-to-write, or WAIT", ErrInvalid, d.MinReplicas, e.Kind)
		case e.Kind == EngineCluster && len(d.Replicas) > 0:
			return fmt.Errorf("%w read regions: a cluster has replicas of its own, and all nodes read from the nearest; leave the regions away", ErrInvalid)
		}
	}
	return nil
}

// checkEngine never quotes the URL: it has a password in it.
func checkEngine(e Engine) error {
	switch e.Kind {
	case "", EngineEmbedded:
		if e.URL != "" {
			return fmt.Errorf("%w engine: the embedded one has no URL", ErrInvalid)
		}
		return nil
	case EngineRedis:
		if e.URL == "" {
			return nil
		}
	case EngineCluster:
		if e.URL == "" {
			return fmt.Errorf("%w engine: a cluster needs the URL of one of its servers", ErrInvalid)
		}
	default:
		return fmt.Errorf("%w engine %q: want %s, %s or %s", ErrInvalid, shorten(e.Kind), EngineEmbedded, EngineRedis, EngineCluster)
	}
	return checkEngineURL(e)
}

func checkEngineURL(e Engine) error {
	scheme, user, place := e.parts()
	_, err := url.PathUnescape(user)
	if scheme == "" || err != nil || len(e.URL) > 1024 || strings.ContainsFunc(e.URL, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%w engine URL: want redis://[user:password@]host:port", ErrInvalid)
	}
	switch {
	case scheme == "unix" && e.Kind == EngineCluster:
		return fmt.Errorf("%w engine URL: a cluster isn't reached by a socket", ErrInvalid)
	case !slices.Contains(schemes(e.Kind), scheme):
		return fmt.Errorf("%w engine URL: for %s want one with %s://", ErrInvalid, e.Kind, strings.Join(schemes(e.Kind), "://, "))
	case scheme == "unix" && !strings.HasPrefix(place, "/"):
		return fmt.Errorf("%w engine URL: want unix:///path/of/the/socket", ErrInvalid)
	case scheme != "unix" && (place == "" || place[0] == '/' || place[0] == ':'):
		return fmt.Errorf("%w engine URL: it has no host", ErrInvalid)
	}
	return nil
}
