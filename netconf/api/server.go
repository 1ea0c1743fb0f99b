package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"respmesh/netconf"
)

// Handler serves all routes with one kind of trust.
func (s *Server) Handler(trust Trust) http.Handler {
	browser := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slots := s.inFlight
		if upgrades(r) {
			slots = s.streams
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			s.fail(w, r, failf(CodeUnavailable, "too many requests at once; try again"))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := browser.Check(r); err != nil {
			s.fail(w, r, failf(CodeForbidden, "a page of another site can't use this API"))
			return
		}
		h, pattern := s.mux.Handler(r)
		if pattern == "" || path.Clean(r.URL.Path) != r.URL.Path { // rather than redirect

			s.noRoute(w, r, h)
			return
		}
		s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), trustKey{}, trust)))
	})
}

type trustKey struct{}

// noRoute answers in JSON what ServeMux says in text.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	said := &statusOnly{header: http.Header{}}
	h.ServeHTTP(said, r)
	if allow := said.header.Get("Allow"); said.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		s.fail(w, r, failf(CodeMethodNotAllowed, "%s isn't possible here; use %s", clip(r.Method), allow))
		return
	}
	s.fail(w, r, failf(CodeNotFound, "there is nothing at %s; GET /v1/openapi.json says what there is", clip(r.URL.Path)))
}

// statusOnly is a ResponseWriter that keeps the status and the header.
type statusOnly struct {
	header http.Header
	status int
}

func (o *statusOnly) Header() http.Header         { return o.header }
func (o *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (o *statusOnly) WriteHeader(status int)      { o.status = status }

// call is one request with who asks and what is known.
type call struct {
	*http.Request
	s     *Server
	w     http.ResponseWriter
	route route
	who   principal
	topo  *netconf.Topology
}

// endpoint wraps a route: who asks, may they, is the request well formed; then the answer or the error as JSON.
func (s *Server) endpoint(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if !rt.stream {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			// A client that doesn't read its answer doesn't hold its place for ever.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * requestTimeout))
		}
		trust, _ := ctx.Value(trustKey{}).(Trust)
		topo, _ := s.opt.Control.Current()
		c := &call{Request: r.WithContext(ctx), s: s, w: w, route: rt, topo: topo}
		answer, err := c.run(trust)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if rt.stream {
			return // has been written
		}
		s.write(w, r, rt.status(), answer)
	})
}

func (c *call) run(trust Trust) (any, error) {
	who, err := c.s.identify(c.Request, trust, c.topo)
	if err != nil {
		return nil, err
	}
	c.who = who
	if err := c.authorize(); err != nil {
		return nil, err
	}
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	if c.route.in == nil {
		if err := c.noBody(); err != nil {
			return nil, err
		}
	}
	if c.Method == http.MethodGet || c.Method == http.MethodHead {
		revision, _ := c.revisionIn(&c.topo.State, c.topo.Revision)
		c.tag(revision)
	}
	return c.route.handle(c)
}

// checkQuery refuses parameters that the route doesn't know, and those given twice.
func (c *call) checkQuery() error {
	for name, values := range c.URL.Query() {
		if !slices.ContainsFunc(c.route.query, func(p param) bool { return p.name == name }) {
			known := make([]string, 0, len(c.route.query))
			for _, p := range c.route.query {
				known = append(known, p.name)
			}
			if len(known) == 0 {
				return failf(CodeInvalid, "parameter %q isn't known; this takes none", clip(name))
			}
			return failf(CodeInvalid, "parameter %q isn't known; this takes %s", clip(name), strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return failf(CodeInvalid, "parameter %s is given twice", name)
		}
	}
	return nil
}

// write sends an answer; nil is none.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, answer any) {
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	raw, ok := answer.([]byte) // JSON already
	if !ok {
		var err error
		if raw, err = json.Marshal(answer); err != nil {
			s.fail(w, r, fmt.Errorf("write the answer: %w", err))
			return
		}
		raw = append(raw, '\n')
	}
	w.Header().Set("Content-Type", contentJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a client that went away
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	told, known := asError(err)
	if !known {
		s.log.Error("control API request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Del("ETag")
	if told.Code == CodeUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	s.write(w, r, told.Code.status(), errorBody{told})
}
