package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// Candidates for the lead of a database ask each other by HTTP on the mesh, between infrastructure addresses, which the
// packet filter keeps to nodes. That works without the control plane.
//
//	GET  /databases/{id}/standing   how far the copy is
//	GET  /databases/{id}/position   how far what clients and replicas use here is: a server's, where that has the data
//	POST /databases/{id}/hold?term= the promise not to take over the lead, for who has data of that term

// electionPort is where candidates answer each other.
const electionPort = 7382

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 10

// candidates asks the other nodes.
type candidates struct {
	node   *Node
	client *http.Client
}

func newCandidates(n *Node) *candidates {
	return &candidates{node: n, client: n.meshClient()}
}

func (c *candidates) close() { c.client.CloseIdleConnections() }

func (c *candidates) standing(ctx context.Context, node, db string) (st standing, err error) {
	err = c.ask(ctx, http.MethodGet, node, "/databases/"+db+"/standing", &st)
	return st, err
}

func (c *candidates) position(ctx context.Context, node, db string) (at standing, err error) {
	err = c.ask(ctx, http.MethodGet, node, "/databases/"+db+"/position", &at)
	return at, err
}

func (c *candidates) hold(ctx context.Context, node, db string, term int64) (d time.Duration, err error) {
	err = c.ask(ctx, http.MethodPost, node, "/databases/"+db+"/hold?term="+strconv.FormatInt(term, 10), &d)
	return d, err
}

// ask puts a question to another node, and decodes the answer.
func (c *candidates) ask(ctx context.Context, method, node, path string, answer any) error {
	addr, ok := (*nodeMesh)(c.node).addr(node)
	if !ok {
		return fmt.Errorf("node %s isn't in the topology", node)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+netip.AddrPortFrom(addr, electionPort).String()+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("node %s: %s", node, bytes.TrimSpace(raw))
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	return nil
}

// serveCandidates answers the other nodes until ctx ends.
func (n *Node) serveCandidates(ctx context.Context) error {
	l, err := n.device.ListenTCP(netip.AddrPortFrom(n.infra, electionPort))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /databases/{id}/standing", n.forDatabase(func(w http.ResponseWriter, _ *http.Request, db *database) {
		if db.elected() == nil {
			http.Error(w, "no copy of the database here", http.StatusConflict)
			return
		}
		answer(w, db.elected().copy.standing())
	}))
	mux.HandleFunc("GET /databases/{id}/position", n.forDatabase(func(w http.ResponseWriter, _ *http.Request, db *database) {
		var at standing
		if h := db.held.Load(); h != nil {
			if s := h.serving(); s != nil {
				at.Replid, at.Offset = s.Position()
			}
		}
		answer(w, at)
	}))
	mux.HandleFunc("POST /databases/{id}/hold", n.forDatabase(func(w http.ResponseWriter, r *http.Request, db *database) {
		term, err := strconv.ParseInt(r.FormValue("term"), 10, 64)
		if err != nil {
			http.Error(w, "term isn't a number", http.StatusBadRequest)
			return
		}
		if db.elected() != nil {
			if d, ok := db.elected().promise(term); ok {
				answer(w, d)
				return
			}
		}
		http.Error(w, "it takes the lead itself, or has data of a later term", http.StatusConflict)
	}))
	server := &http.Server{
		Handler: n.nodesOnly(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	n.wg.Go(func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
			n.log.Error("other candidates aren't answered any more", "err", err)
		}
	})
	n.wg.Go(func() {
		<-ctx.Done()
		server.Close()
	})
	return nil
}

// nodesOnly checks again what the packet filter has seen to: that a node asks.
func (n *Node) nodesOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		topology, _ := n.source.Current()
		if _, ok := topology.NodeAt(from.Addr().WithZone("")); err != nil || !ok {
			http.Error(w, "for nodes of this mesh only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (n *Node) forDatabase(do func(http.ResponseWriter, *http.Request, *database)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		db := n.databaseByID(r.PathValue("id"))
		if db == nil {
			http.Error(w, "the database isn't served here", http.StatusNotFound)
			return
		}
		do(w, r, db)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the other node went away
}
