package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// ClientOptions say how to reach etcd.
type ClientOptions struct {
	Endpoints []string    // https://host:port, http://… of loopback, or unix:///path
	TLS       *tls.Config // for https
	// Dial connects to an address instead of the system: over a userspace tunnel, for example.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// NewClient makes a client that finds back soon to members that were away. It doesn't wait for a connection.
func NewClient(o ClientOptions) (*clientv3.Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, fmt.Errorf("etcd: no endpoints")
	}
	dial := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 2 * time.Second,
	})}
	if o.Dial != nil {
		dial = append(dial, grpc.WithContextDialer(o.Dial))
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints,
		TLS:       o.TLS,
		// A dead connection is found by these in 8 s at the latest; the registry's own probes are faster. Servers refuse pings
		// more often than every 5 s.
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          dial,
		Logger:               zap.NewNop(), // what matters comes back as an error
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client: %w", err)
	}
	return c, nil
}
