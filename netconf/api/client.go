package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"respmesh/netconf"
	"respmesh/netconf/api/pki"
)

// ClientOptions say where the API is and who asks.
type ClientOptions struct {
	URL   string // http://[::1]:17379 if empty
	Token string // rm_id.secret; empty: none
	// Pin is the SHA-256 of the server's public key (SubjectPublicKeyInfo) in base64, as the node prints it. With a
	// pin, the certificate's names and issuer don't matter.
	Pin string
	// HTTP carries the requests; nil: a transport of the client's own. It isn't changed. With a pin it must be nil.
	HTTP      *http.Client
	UserAgent string
}

// Client asks the control API. Its methods return *Error for what the API refuses. It may be used by many at once.
type Client struct {
	base  *url.URL
	token string
	agent string
	http  *http.Client
	own   *http.Transport // closed with the client; nil if it isn't ours
}

// maxAnswer bounds what the client reads of an answer; a backup is streamed and has no bound.
const maxAnswer = 64 << 20

// NewClient makes a client. It refuses to send a token in the clear: http is for loopback and the mesh's own addresses.
func NewClient(o ClientOptions) (*Client, error) {
	if o.URL == "" {
		o.URL = DefaultURL
	}
	base, err := url.Parse(o.URL)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" ||
		base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%w API address: write it as http://[::1]:17379 or https://host:port", netconf.ErrInvalid)
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	switch {
	case base.Scheme == "http" && o.Pin != "":
		return nil, fmt.Errorf("%w API address %s: a pin needs https", netconf.ErrInvalid, base)
	case base.Scheme == "http" && o.Token != "" && !private(base.Hostname()):
		return nil, fmt.Errorf("%w API address %s: a token isn't sent in the clear; use https and the node's pin", netconf.ErrInvalid, base)
	case o.Pin != "" && o.HTTP != nil:
		return nil, errors.New("a pin needs the client's own transport")
	}
	c := &Client{base: base, token: o.Token, agent: o.UserAgent}
	if o.HTTP != nil {
		given := *o.HTTP
		c.http = &given
	} else {
		c.own = &http.Transport{
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 2 * requestTimeout,
			IdleConnTimeout:       90 * time.Second,
			MaxConnsPerHost:       16,
			ForceAttemptHTTP2:     true,
		}
		if !private(base.Hostname()) {
			c.own.Proxy = http.ProxyFromEnvironment
		}
		if o.Pin != "" {
			if c.own.TLSClientConfig, err = pki.Pinned(o.Pin); err != nil {
				return nil, err
			}
		} else {
			c.own.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		c.http = &http.Client{Transport: c.own}
	}
	// A redirect would carry the token elsewhere, and the API has none.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// private tells whether what is sent to a host stays on this machine or inside a WireGuard mesh (RFC 4193).
func private(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a.IsLoopback() || a.Is6() && a.IsPrivate())
}

// Close lets go of idle connections. It may be called twice.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// URL is where the client asks.
func (c *Client) URL() string { return c.base.String() }

type ifMatchKey struct{}

// WithRevision makes the changes asked for with the context conditional: they fail with CodeRevision (412) when what they
// change, such as a database, isn't at this revision any more.
func WithRevision(ctx context.Context, revision uint64) context.Context {
	return context.WithValue(ctx, ifMatchKey{}, revision)
}

// call sends a request and decodes the answer; in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	resp, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", c.base.Host, err)
	case len(body) > maxAnswer:
		return fmt.Errorf("read the answer of %s: it is larger than %d MiB", c.base.Host, maxAnswer>>20)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s answered what isn't this API's: %w", c.base.Host, err)
	}
	return nil
}

// send sends a request and gives the answer of one that succeeded.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", contentJSON)
	}
	c.headers(req)
	if rev, ok := ctx.Value(ifMatchKey{}).(uint64); ok && method != http.MethodGet {
		req.Header.Set("If-Match", `"`+strconv.FormatUint(rev, 10)+`"`)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err // the URL is in the next line already, without the query
		}
		return nil, fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	return nil, c.refusal(resp)
}

// headers says who asks.
func (c *Client) headers(req *http.Request) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
}

// refusal reads the error of an answer that isn't the one asked for.
func (c *Client) refusal(resp *http.Response) error {
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	told := errorBody{}
	if json.Unmarshal(raw, &told) != nil || told.Error == nil || told.Error.Message == "" {
		return &Error{Code: codeUnknown, Status: resp.StatusCode,
			Message: fmt.Sprintf("%s answered %s, which isn't this API's answer; check the address", c.base, resp.Status)}
	}
	told.Error.Status = resp.StatusCode
	return told.Error
}
