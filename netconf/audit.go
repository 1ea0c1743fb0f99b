package netconf

import (
	"errors"
	"time"
)

// AuditRecord says who changed what. Secrets, and hashes of secrets, are never in it.
type AuditRecord struct {
	Revision uint64    `json:"revision"` // of the topology that the change made
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"` // such as "token 4kq2 (ci)" or "loopback"
	What     []string  `json:"what"`  // such as "database personal/demo: replicas mad → mad, ams"
}

// ErrUnavailable is wrapped by what fails because the control plane can't be reached. A change that fails so hasn't been
// made, unless the error says that it may have been.
var ErrUnavailable = errors.New("the control plane can't be reached")
