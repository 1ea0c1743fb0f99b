package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// target is a parsed URL: where the server is and how to get in.
type target struct {
	network string   // tcp or unix
	addrs   []string // tcp: host:port, several for Sentinel and Cluster; unix: the path
	tls     *tls.Config
	user    string
	pass    string

	master       string // Sentinel: the name of the primary; else empty
	sentinelUser string
	sentinelPass string
	sentinelTLS  *tls.Config
}

// Redact removes what is secret from a URL, for logs and messages.
func Redact(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return "redis"
	}
	rest, _, _ = strings.Cut(rest, "?")
	authority, path, slash := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if slash {
		path = "/" + path
	}
	return scheme + "://" + authority + path
}

const urlForms = "redis://[user:password@]host[:port], rediss:// for TLS, unix://[user:password@]/path/to/socket, or " +
	"redis+sentinel://[user:password@]host:26379,host:26379?master=name"

// CheckURL says what is wrong with the URL of an engine, in a sentence for people that holds nothing secret.
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

// parseURL reads the URL of an engine. It is done by hand because Sentinel's has several hosts.
func parseURL(raw string) (*target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, fmt.Errorf("engine URL isn't one; it looks like %s", urlForms)
	}
	rest, query, _ := strings.Cut(rest, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("engine URL %s: what follows the question mark is malformed", Redact(raw))
	}
	t := &target{network: "tcp"}
	if rest, err = t.takeUser(rest); err != nil {
		return nil, fmt.Errorf("engine URL %s: %w", Redact(raw), err)
	}
	secure := scheme == "rediss" || scheme == "rediss+sentinel" || scheme == "rediss+cluster"
	defaultPort := "6379"
	switch scheme {
	case "redis", "rediss", "redis+cluster", "rediss+cluster":
	case "redis+sentinel", "rediss+sentinel":
		defaultPort = "26379"
		if t.master = q.Get("master"); t.master == "" {
			return nil, fmt.Errorf("engine URL %s: add ?master=NAME, as Sentinel knows the primary", Redact(raw))
		}
	case "unix":
		t.network, t.addrs = "unix", []string{rest}
		if !strings.HasPrefix(rest, "/") {
			return nil, fmt.Errorf("engine URL %s: the socket's path must begin with a slash: unix:///run/redis.sock", Redact(raw))
		}
	default:
		return nil, fmt.Errorf("engine URL of the scheme %q isn't known; use %s", scheme, urlForms)
	}
	if t.network == "tcp" {
		if err := t.takeHosts(rest, defaultPort, scheme); err != nil {
			return nil, fmt.Errorf("engine URL %s: %w", Redact(raw), err)
		}
	}
	if secure {
		if t.tls, err = tlsFrom(q); err != nil {
			return nil, fmt.Errorf("engine URL %s: %w", Redact(raw), err)
		}
	}
	if t.sentinelUser, t.sentinelPass = q.Get("sentinel_user"), q.Get("sentinel_password"); t.master != "" {
		t.sentinelTLS = t.tls
	}
	for name := range q {
		switch name {
		case "master", "sentinel_user", "sentinel_password", "cacert", "cert", "key", "sni":
		default:
			return nil, fmt.Errorf("engine URL %s: option %q isn't known", Redact(raw), name)
		}
	}
	return t, nil
}

func (t *target) takeUser(rest string) (string, error) {
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	i := strings.LastIndexByte(rest[:end], '@')
	if i < 0 {
		return rest, nil
	}
	user, pass, _ := strings.Cut(rest[:i], ":")
	var err1, err2 error
	t.user, err1 = url.PathUnescape(user)
	t.pass, err2 = url.PathUnescape(pass)
	if err1 != nil || err2 != nil {
		return "", errors.New("user or password is malformed: write what isn't a letter or digit as %XX")
	}
	if t.user != "" && t.pass == "" {
		return "", errors.New("a user needs a password: user:password@host")
	}
	return rest[i+1:], nil
}

func (t *target) takeHosts(rest, defaultPort, scheme string) error {
	hosts, path, _ := strings.Cut(rest, "/")
	if path != "" && path != "0" {
		return errors.New("only database 0 can be attached: remove what follows the slash")
	}
	several := strings.HasSuffix(scheme, "+sentinel") || strings.HasSuffix(scheme, "+cluster")
	for h := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = strings.Trim(h, "[]"), defaultPort
		}
		if host == "" || port == "" {
			return errors.New("the host is missing")
		}
		t.addrs = append(t.addrs, net.JoinHostPort(host, port))
	}
	if len(t.addrs) > 1 && !several {
		return errors.New("one host only; several are for redis+sentinel:// and redis+cluster://")
	}
	return nil
}

// tlsFrom reads cacert, cert and key (files) and sni, named as redis-cli's options.
func tlsFrom(q url.Values) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: q.Get("sni")}
	if file := q.Get("cacert"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", file)
		}
	}
	cert, key := q.Get("cert"), q.Get("key")
	if (cert == "") != (key == "") {
		return nil, errors.New("cert and key belong together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
