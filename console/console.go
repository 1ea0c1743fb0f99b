// Package console is the web console of a node: one page that shows what the mesh does now, and the paths that
// machines ask.
//
//	GET /             the status page, rendered here; it refreshes itself
//	GET /status.json  the same as JSON
//	GET /healthz      200 "ok", or 503 with the reason, as text
//	GET /metrics      Prometheus's, as passed in
//
// The page needs nothing from elsewhere: style and script are embedded, and the content security policy allows no
// other. Without JavaScript it refreshes by the browser's own means. It shows no secrets, and changes nothing.
package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
)

//go:embed page.html style.css live.js icon.svg
var files embed.FS

// Options configure Handler. Status is required.
type Options struct {
	Status  func() Status
	Metrics http.Handler // nil: /metrics doesn't exist
	Ready   func() error // nil: always ready
	Log     *slog.Logger
}

const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the console. It panics without a Status function or with a broken template: both are the
// program's own mistakes.
func Handler(opt Options) http.Handler {
	if opt.Status == nil {
		panic(errors.New("console: no status function"))
	}
	if opt.Ready == nil {
		opt.Ready = func() error { return nil }
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &console{
		opt:   opt,
		page:  template.Must(template.New("page.html").Funcs(formats).ParseFS(files, "page.html")),
		rates: rates{last: map[string]sample{}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", c.servePage)
	mux.HandleFunc("/status.json", c.serveJSON)
	mux.HandleFunc("/healthz", c.serveHealth)
	for name, kind := range map[string]string{"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		mux.Handle("/"+name, asset(name, kind))
	}
	if opt.Metrics != nil {
		mux.Handle("/metrics", opt.Metrics)
	}
	return guard(mux)
}

type console struct {
	opt   Options
	page  *template.Template
	rates rates
}

// guard sets the headers of every answer and refuses what changes something: there is nothing to change.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed: use GET", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (c *console) servePage(w http.ResponseWriter, _ *http.Request) {
	// Into memory first: half a page with status 200 would be worse than an error.
	var b bytes.Buffer
	if err := c.page.Execute(&b, newView(c.status())); err != nil {
		c.opt.Log.Error("the status page can't be rendered", "error", err)
		http.Error(w, "the page can't be rendered; see the node's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = b.WriteTo(w)
}

func (c *console) serveJSON(w http.ResponseWriter, _ *http.Request) {
	body, err := json.MarshalIndent(c.status(), "", "  ")
	if err != nil {
		c.opt.Log.Error("the status can't be encoded", "error", err)
		http.Error(w, "the status can't be encoded; see the node's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

func (c *console) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := c.opt.Ready(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

func (c *console) status() Status {
	s := c.opt.Status()
	c.rates.fill(&s)
	return s
}

func asset(name, kind string) http.Handler {
	body, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err) // embedded
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		_, _ = w.Write(body)
	})
}
