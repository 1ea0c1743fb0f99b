package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"respmesh/netconf/api"
	"respmesh/netconf/api/pki"
)

// A node's certificate for the control plane is renewed at half of its life, with the same key: where the CA's key is by the
// node itself, elsewhere by a member, over the mesh, which knows the node by its address. So one that has ended, because the
// node was off for long, is renewed, too. Connections that are open stay; the next ones show the new certificate, on both
// sides. What fails is tried again, in longer and longer intervals.

const (
	// certificateLook bounds a wait: the clock may be set, the host may sleep.
	certificateLook = time.Hour
	// renewBackOff are the first and the longest pause after a failure, as parts of the certificate's life: 22 minutes and
	// 18 hours of 90 days.
	renewBackOffFirst, renewBackOffLongest = 6000, 120
	// caWarning is how long before the CA's end the log speaks of it.
	caWarning = 365 * 24 * time.Hour
)

// validity is that of a certificate's file; zero if it can't be read.
func (k *serverKeys) validity(name string) (from, to time.Time) {
	raw, err := os.ReadFile(k.path(name))
	if err != nil {
		return from, to
	}
	from, to, _ = pki.Validity(raw) // zero with an error
	return from, to
}

// due tells whether the node's certificate wants to be renewed: half of its life is over, or there is none.
func (k *serverKeys) due(now time.Time) bool {
	from, to := k.validity(nodeCertName)
	return !now.Before(from.Add(to.Sub(from) / 2))
}

// keepCertificate renews the node's certificate in time, until ctx ends.
func (s *Server) keepCertificate(ctx context.Context) {
	s.warnOfCA(time.Now())
	failures := 0
	for {
		from, to := s.keys.validity(nodeCertName)
		life := to.Sub(from)
		// Up to a fiftieth later, so that nodes that started together don't ask together.
		wait := time.Until(from.Add(life/2 + rand.N(life/50+1)))
		if failures > 0 {
			wait = renewBackOff(failures, life, time.Now().After(to))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(max(wait, 50*time.Millisecond), certificateLook)):
		}
		if failures == 0 && !s.keys.due(time.Now()) {
			continue
		}
		err := s.renewCertificate(ctx)
		switch {
		case err == nil:
			failures = 0
			s.renewals.WithLabelValues("renewed").Inc()
			_, to := s.keys.validity(nodeCertName)
			s.opts.Log.Info("the node's certificate for the control plane was renewed", "until", to)
			s.warnOfCA(time.Now())
		case ctx.Err() == nil:
			failures++
			s.renewals.WithLabelValues("failed").Inc()
			s.opts.Log.Warn("the node's certificate for the control plane isn't renewed yet", "until", to, "err", err)
		}
	}
}

// renewBackOff is how long to wait after so many failures.
func renewBackOff(failures int, life time.Duration, ended bool) time.Duration {
	first, longest := life/renewBackOffFirst, life/renewBackOffLongest
	if ended { // until then the node is without control
		first, longest = min(first, time.Second), min(longest, time.Minute)
	}
	wait := min(first<<min(failures-1, 16), longest)
	return wait + rand.N(wait/4+1)
}

// renewCertificate gets a new certificate from whoever can sign one.
func (s *Server) renewCertificate(ctx context.Context) error {
	if s.keys.ca.Load() != nil {
		return s.keys.sign(s.opts.Name, s.node.infra)
	}
	csr, err := s.keys.request(s.opts.Name)
	if err != nil {
		return err
	}
	var failed []string
	for _, url := range *s.others.Load() {
		answer, err := s.askCertificate(ctx, url, csr)
		if err == nil {
			err = s.keys.replace([]byte(answer.Certificate))
		}
		if err == nil {
			return nil
		}
		failed = append(failed, url+": "+err.Error())
	}
	return fmt.Errorf("no member of the control plane signs it (%s)", strings.Join(failed, "; "))
}

// askCertificate asks the node whose etcd member is at a URL.
func (s *Server) askCertificate(ctx context.Context, url string, csr []byte) (api.CertificateResponse, error) {
	at, err := netip.ParseAddrPort(strings.TrimPrefix(url, "https://"))
	if err != nil {
		return api.CertificateResponse{}, err
	}
	topology, _ := s.control.registry.Current()
	n, ok := topology.NodeAt(at.Addr())
	if !ok {
		return api.CertificateResponse{}, errors.New("no node has this address")
	}
	client, err := s.fleet.NodeClient(n.Name)
	if err != nil {
		return api.CertificateResponse{}, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	return client.NodeCertificate(ctx, csr)
}

func (s *Server) warnOfCA(now time.Time) {
	if _, to := s.keys.validity(caCertName); now.Add(caWarning).After(to) {
		s.opts.Log.Warn("the control plane's CA ends: after that no node reaches the control plane", "on", to)
	}
}

// certificateMetrics registers what tells of certificates that end.
func (s *Server) certificateMetrics() error {
	labels := prometheus.Labels{"region": s.opts.Region}
	s.renewals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "respmesh_certificate_renewals_total", Help: "Tries to renew the node's certificate for the control plane.", ConstLabels: labels,
	}, []string{"outcome"})
	for _, outcome := range []string{"renewed", "failed"} {
		s.renewals.WithLabelValues(outcome)
	}
	errs := []error{s.metrics.Register(s.renewals)}
	for certificate, file := range map[string]string{"node": nodeCertName, "ca": caCertName} {
		errs = append(errs, s.metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "respmesh_certificate_expiry_timestamp_seconds", Help: "When a certificate for the control plane ends (the node's own, and the CA's that signs it), in seconds since 1970.",
			ConstLabels: prometheus.Labels{"region": s.opts.Region, "certificate": certificate},
		}, func() float64 {
			_, to := s.keys.validity(file)
			return float64(to.Unix())
		})))
	}
	return errors.Join(errs...)
}
