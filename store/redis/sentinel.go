package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// sentinelTimeout is how long one Sentinel has to answer before the next is asked.
const sentinelTimeout = 300 * time.Millisecond

// findPrimary asks the Sentinels, one after the other, for the primary's address.
func (t *target) findPrimary(ctx context.Context) (string, error) {
	var errs []error
	for _, addr := range t.addrs {
		found, err := t.askSentinel(ctx, addr)
		if err == nil {
			return found, nil
		}
		errs = append(errs, fmt.Errorf("sentinel %s: %w", addr, err))
	}
	return "", errors.Join(errs...)
}

func (t *target) askSentinel(ctx context.Context, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	conn, err := dialAddr(ctx, "tcp", addr, t.sentinelTLS)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	r, _, err := greet(ctx, conn, greeting{user: t.sentinelUser, pass: t.sentinelPass})
	if err != nil {
		return "", err
	}
	f, err := askConn(ctx, conn, r, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", t.master)
	if err != nil {
		return "", err
	}
	at := texts(f)
	if len(at) != 2 {
		return "", fmt.Errorf("it doesn't know a primary of the name %q", t.master)
	}
	return net.JoinHostPort(at[0], at[1]), nil
}
