package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"respmesh/console"
	"respmesh/netconf/api"
)

// admin is the HTTP side of `dev`: the console, metrics, health, and the switches of the WAN. It listens on
// loopback only, whatever --listen says, since it asks for no token.
type admin struct {
	url       string
	listeners []net.Listener
	server    *http.Server
	failed    chan error      // has room for every listener's failure
	streams   context.Context // ends those that requests have become; nil: they end with their clients
	wg        sync.WaitGroup
}

func listenAdmin(port int) (*admin, error) {
	listeners, err := listenHosts([]string{"::1", "127.0.0.1"}, port)
	if err != nil {
		return nil, listenError("--http", port, err)
	}
	return &admin{
		url: "http://" + listeners[0].Addr().String(), listeners: listeners,
		failed: make(chan error, len(listeners)),
	}, nil
}

func (d *Dev) startAdmin() error {
	if err := d.metrics.Register(newCollector(d.nodes)); err != nil {
		return err
	}
	server, err := d.serveAPI()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", server.Handler(api.TrustLoopback))
	mux.Handle("/", console.Handler(console.Options{
		Status:  d.status,
		Metrics: promhttp.HandlerFor(d.metrics, promhttp.HandlerOpts{}),
		Ready:   d.Healthy,
		Log:     d.opts.Log,
	}))
	mux.HandleFunc("GET /wan", d.serveWAN)
	mux.HandleFunc("POST /wan/cut", d.switchWAN(func(node string) { d.relay.Cut(node) }))
	mux.HandleFunc("POST /wan/heal", d.switchWAN(func(node string) { d.relay.Heal(node) }))
	d.admin.serve(loopbackOnly(mux), nil)
	return nil
}

// serveAPI makes the control API of all nodes. Each serves it to the others; the first one's is the one on loopback.
func (d *Dev) serveAPI() (*api.Server, error) {
	var first *api.Server
	for _, n := range d.nodes {
		fleet, err := n.fleet(d.control)
		if err != nil {
			return nil, err
		}
		d.fleets = append(d.fleets, fleet)
		server, err := api.NewServer(api.Options{
			Control: d.control.registry, Fleet: fleet, Local: (*local)(n), Connect: n.connect, CheckRules: checkRules, Version: d.opts.Version, Node: n.opts.Name, Log: d.opts.Log,
		})
		if err != nil {
			return nil, err
		}
		if err := n.serveAPI(server); err != nil {
			return nil, err
		}
		if first == nil {
			first = server
		}
	}
	return first, nil
}

// serve answers on all listeners, with TLS if it is given.
func (a *admin) serve(h http.Handler, secure *tls.Config) {
	a.server = api.HTTPServer(h, nil)
	if a.streams != nil {
		a.server.BaseContext = func(net.Listener) context.Context { return a.streams }
	}
	for _, l := range a.listeners {
		if secure != nil {
			l = tls.NewListener(l, secure)
		}
		a.wg.Go(func() {
			if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				a.failed <- err
			}
		})
	}
}

// close ends the server and waits for it.
func (a *admin) close() error {
	if a.server == nil {
		closeAll(a.listeners)
		return nil
	}
	err := a.server.Close()
	a.wg.Wait()
	return err
}

// loopbackOnly refuses requests for another host's name: a page elsewhere could make a browser send them
// (DNS rebinding).
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			http.Error(w, "this address is for this machine only: use localhost", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodGet && r.Header.Get("Origin") != "" {
			http.Error(w, "not for web pages", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// switchWAN cuts a region off from all others, or heals it.
func (d *Dev) switchWAN(do func(node string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		region := r.URL.Query().Get("region")
		if !slices.Contains(d.opts.Regions, region) {
			http.Error(w, "unknown region: give ?region= one of the regions of this mesh", http.StatusBadRequest)
			return
		}
		do(nodeName(region))
		w.WriteHeader(http.StatusNoContent)
	}
}

// wanPath is what the relay counted in one direction.
type wanPath struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	DelayMS float64 `json:"delay_ms"`
	Cut     bool    `json:"cut"`
	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes"`
	Dropped uint64  `json:"dropped"`
}

func (d *Dev) serveWAN(w http.ResponseWriter, _ *http.Request) {
	paths := []wanPath{}
	for _, a := range d.nodes {
		for _, b := range d.nodes {
			if a == b {
				continue
			}
			c, s := d.relay.Conditions(a.opts.Name, b.opts.Name), d.relay.Stats(a.opts.Name, b.opts.Name)
			paths = append(paths, wanPath{
				From: a.opts.Region, To: b.opts.Region, DelayMS: float64(c.Delay.Microseconds()) / 1000, Cut: c.Cut,
				Packets: s.Packets, Bytes: s.Bytes, Dropped: s.Lost + s.CutOff + s.Oversize + s.Overflow,
			})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(paths) // the client went away
}
