package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpServer answers /healthz and /metrics.
type httpServer struct {
	addr   net.Addr
	server *http.Server
	done   chan struct{}
}

func (s *Sidecar) serveHTTP(at string) (*httpServer, error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("--http: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := s.Healthy(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	h := &httpServer{addr: l.Addr(), done: make(chan struct{}), server: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
	}}
	go func() {
		defer close(h.done)
		if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("--http: %w", err))
		}
	}()
	return h, nil
}

func (h *httpServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := h.server.Shutdown(ctx)
	if err != nil {
		err = h.server.Close()
	}
	<-h.done
	return err
}

// measure registers the metrics.
func (s *Sidecar) measure() error { return s.metrics.Register((*collector)(s)) }

// collector reads the sidecar's state when it is asked.
type collector Sidecar

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("respmesh_sidecar_"+name, help, labels, nil)
}

// Describe sends nothing: the nodes, which are labels, come and go.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := (*Sidecar)(c)
	gauge := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(desc(name, help), prometheus.GaugeValue, v)
	}
	count := func(name, help string, v uint64) {
		ch <- prometheus.MustNewConstMetric(desc(name, help), prometheus.CounterValue, float64(v))
	}
	gauge("sessions", "Client connections that are open.", float64(s.sessions.count()))
	count("sessions_total", "Client connections taken.", s.sessions.total.Load())
	count("sessions_refused_total", "Client connections refused because there were too many.", s.sessions.refused.Load())
	count("sessions_lost_total", "Client connections reset because their node failed.", s.sessions.lost.Load())
	count("sent_bytes_total", "Bytes from clients to nodes.", s.sessions.up.Load())
	count("received_bytes_total", "Bytes from nodes to clients.", s.sessions.down.Load())

	s.apiMu.Lock()
	up, heard := s.apiErr == nil, s.apiHeard
	s.apiMu.Unlock()
	gauge("api_up", "Whether the control API answered the last time.", bit(up))
	if !heard.IsZero() {
		gauge("api_heard_timestamp_seconds", "When the control API last answered.", float64(heard.UnixMilli())/1000)
	}

	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	count("moves_total", "How often a node was chosen.", s.router.moves)
	labels := []string{"node", "region"}
	for _, site := range s.router.sites {
		used := s.router.now != nil && s.router.now.region == site.region
		node := func(name, help string, v float64) {
			ch <- prometheus.MustNewConstMetric(desc(name, help, labels...), prometheus.GaugeValue, v, site.at.Name, site.region)
		}
		node("node_healthy", "Whether the region's node in question answers.", bit(site.healthy))
		node("node_used", "Whether new sessions go there.", bit(used))
		if site.healthy {
			node("node_rtt_seconds", "Round trip of a PING: the least of the last ones.", site.rtt.Seconds())
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
