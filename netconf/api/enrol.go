package api

import (
	"context"

	"respmesh/netconf"
)

// Enroller gives a node that joined what it needs for the control plane.
type Enroller interface {
	// Enrol signs the node's certificate. It is called after the node is in the registry, and again for a retry.
	Enrol(ctx context.Context, node netconf.Node, csr []byte) (Enrolment, error)
}

// Enrolment is what a node needs for the control plane.
type Enrolment struct {
	CA, Certificate []byte   // PEM
	Control         []string // endpoints
}

type challenges struct{}

func newChallenges() (*challenges, error) { return &challenges{}, nil }
