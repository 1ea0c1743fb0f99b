package netconf

import (
	"fmt"
	"net"
	"strconv"
	"time"
)

// checkLimits holds a database's own limits against its plan's.
func checkLimits(d *Database) error {
	if d.MaxMemory < 0 {
		return fmt.Errorf("%w memory limit %d: it is negative", ErrInvalid, d.MaxMemory)
	}
	if err := d.Limits.check(); err != nil {
		return err
	}
	if d.Plan == "" {
		return nil
	}
	plan, err := CheckPlan(d.Plan)
	if err != nil {
		return err
	}
	if plan.MaxData > 0 && d.MaxMemory > plan.MaxData {
		return fmt.Errorf("%w memory limit of %d bytes: plan %s allows %d; take a larger plan", ErrInvalid,
			d.MaxMemory, d.Plan, plan.MaxData)
	}
	return nil
}

// Bounds of limits: more is a mistake in the unit.
const (
	maxSessions          = 1_000_000
	maxCommandsPerSecond = 1_000_000_000
	maxConcurrency       = 100_000
	minIdleTimeout       = time.Second
	maxIdleTimeout       = 365 * 24 * time.Hour
	maxValueLimit        = 512 * mib // Redis's own bound
)

func (l Limits) check() error {
	switch {
	case l.MaxSessions < 0 || l.MaxSessions > maxSessions:
		return fmt.Errorf("%w max sessions %d: want 0 (the node's default) to %d", ErrInvalid, l.MaxSessions, maxSessions)
	case l.CommandsPerSecond < 0 || l.CommandsPerSecond > maxCommandsPerSecond:
		return fmt.Errorf("%w commands per second %d: want 0 (no limit) to %d", ErrInvalid, l.CommandsPerSecond, maxCommandsPerSecond)
	case l.Concurrency < 0 || l.Concurrency > maxConcurrency:
		return fmt.Errorf("%w concurrency %d: want 0 (no limit) to %d", ErrInvalid, l.Concurrency, maxConcurrency)
	case l.IdleTimeout != 0 && (l.IdleTimeout < minIdleTimeout || l.IdleTimeout > maxIdleTimeout):
		return fmt.Errorf("%w idle timeout %s: want 0 (never) or %s to %s", ErrInvalid, l.IdleTimeout, minIdleTimeout, maxIdleTimeout)
	case l.MaxValue < 0 || l.MaxValue > maxValueLimit:
		return fmt.Errorf("%w max value %d: want 0 (no limit of its own) to %d bytes", ErrInvalid, l.MaxValue, maxValueLimit)
	}
	return nil
}

// checkReplicas refuses to ask for more replicas than there are nodes to hold them. It looks only at changes of the
// database itself: a node that is gone for good can always be removed.
func checkReplicas(before Database, next *Topology, d Database) error {
	if d.MinReplicas == 0 || before.ID == d.ID && before.MinReplicas >= d.MinReplicas && len(before.Replicas) <= len(d.Replicas) {
		return nil
	}
	if others := len(next.Members(d)) - 1; d.MinReplicas > others {
		return fmt.Errorf("%w: min replicas %d: only %d other nodes hold it; add read regions or nodes", ErrConflict,
			d.MinReplicas, max(0, others))
	}
	return nil
}

// checkEndpoint checks a host:port; the host may be a name.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(port, 10, 16); err == nil && (n == 0 || host == "") {
			err = ErrInvalid
		}
	}
	if err != nil || len(endpoint) > 260 {
		return fmt.Errorf("%w endpoint %q: want host:port", ErrInvalid, shorten(endpoint))
	}
	return nil
}

// shorten cuts what a user typed for an error message.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
