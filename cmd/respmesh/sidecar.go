package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/node"
	"respmesh/node/sidecar"
)

const (
	// sidecarDrain bounds the graceful end. Container runtimes kill after ten seconds.
	sidecarDrain = 8 * time.Second

	// A sidecar shares its machine with an app that matters more: it collects garbage early. It has no limit of its own: with
	// many sessions it would do nothing else.
	sidecarGarbage = 50 // percent

	defaultSidecarHTTP = "127.0.0.1:17378"
)

func newSidecar() *cobra.Command {
	r := &remote{}
	var o sidecar.Options
	var databases []string
	var logLevel string
	cmd := &cobra.Command{
		Use: "sidecar", Short: "Bring databases to this machine's loopback, beside an app", Args: noArgs,
		Long: `Run beside an app, without privileges, and serve databases of one org on
[::1]:6379 and 127.0.0.1:6379. The sidecar becomes a peer in the org's network,
uses the nearest node that works, and moves to another when it fails. It needs a
token of scope org. The app still logs in with the database's password.`,
		Example: `  RESPMESH_TOKEN=rm_… respmesh sidecar --api https://mad.example.org:17380 --api-pin PIN
  respmesh sidecar --token-file /run/token --database shop/cart --database shop/users=6380 --data /var/lib/sidecar`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var level slog.LevelVar
			if err := setLevel(&level, logLevel); err != nil {
				return err
			}
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: &level}))
			o.Org = firstOf(r.org, os.Getenv("RESPMESH_ORG"))
			if err := sidecarDatabases(&o, databases); err != nil {
				return err
			}
			if err := checkSidecar(o); err != nil {
				return err
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			defer c.Close()
			o.API = c
			limitMemory()
			return explainFailure(runSidecar(cmd.Context(), o, r.json, cmd.OutOrStdout()))
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&databases, "database", "d", nil, "[ORG/]NAME[=PORT], several times for several; ports count up from 6379 (default: the org's only database)")
	f.StringVar(&o.Name, "name", "", "name of the peer, one for each sidecar (default: sidecar- and the host's name)")
	f.StringVarP(&o.Region, "region", "r", "", "use the nodes of this region while they work (default: the nearest ones)")
	f.StringVar(&o.Data, "data", "", "directory for the key and the list of nodes, so that it starts while the API is away (default: none; the peer is removed at the end)")
	f.StringVar(&o.HTTP, "http", defaultSidecarHTTP, "address of /healthz and /metrics; empty: none")
	f.StringVar(&o.DNS, "dns", "", "address for a resolver of DATABASE.ORG.internal, such as 127.0.0.1:53 (default: none)")
	f.IntVar(&o.Sessions, "max-sessions", 1000, "connections at a time")
	f.DurationVar(&o.Settle, "settle", 10*time.Second, "how long a better node must have worked before it is moved to")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error; logs go to standard error")
	r.bind(cmd)
	r.bindOrg(cmd)
	_ = cmd.RegisterFlagCompletionFunc("region", r.completeRegions)
	cmd.AddCommand(newSidecarHealth())
	return cmd
}

// newSidecarHealth is for containers: an image needs nothing else to ask, and what asks from outside doesn't reach loopback.
func newSidecarHealth() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "health", Short: "Ask the sidecar of this machine whether it works", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/healthz", nil)
			if err != nil {
				return node.Usagef("--http: %q isn't host:port", at)
			}
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err != nil {
				return fmt.Errorf("no sidecar answers at %s", at)
			}
			defer resp.Body.Close()
			said, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
			if resp.StatusCode != http.StatusOK {
				return errors.New(strings.TrimSpace(string(said)))
			}
			_, err = cmd.OutOrStdout().Write(said)
			return err
		},
	}
	cmd.Flags().StringVar(&at, "http", defaultSidecarHTTP, "the sidecar's --http")
	return cmd
}

// sidecarDatabases reads [ORG/]NAME[=PORT]. A peer is one org's.
func sidecarDatabases(o *sidecar.Options, given []string) error {
	ports := map[int]string{}
	for i, text := range given {
		name, port, hasPort := strings.Cut(text, "=")
		d := sidecar.Database{Name: name}
		if org, db, ok := strings.Cut(name, "/"); ok {
			if o.Org != "" && o.Org != org {
				return node.Usagef("--database %s: a sidecar serves one org, and that is %s already", text, o.Org)
			}
			o.Org, d.Name = org, db
			if err := netconf.ValidateName(org); err != nil {
				return node.Usagef("--database %s: org: %v", text, err)
			}
		}
		if err := netconf.ValidateName(d.Name); err != nil {
			return node.Usagef("--database %s: %v", text, err)
		}
		if hasPort {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return node.Usagef("--database %s: %q is no port", text, port)
			}
			d.Port = int(n)
			if n == 0 {
				d.Port = -1
			}
		} else {
			d.Port = 6379 + i
		}
		if other, taken := ports[d.Port]; taken && d.Port > 0 {
			return node.Usagef("--database %s: port %d is that of %s", text, d.Port, other)
		}
		ports[d.Port] = text
		o.Databases = append(o.Databases, d)
	}
	return nil
}

func checkSidecar(o sidecar.Options) error {
	if o.Name != "" {
		if err := netconf.ValidateName(o.Name); err != nil {
			return node.Usagef("--name: %v", err)
		}
	}
	if o.Region != "" {
		if err := checkRegion("--region", o.Region); err != nil {
			return err
		}
	}
	for flag, at := range map[string]string{"--http": o.HTTP, "--dns": o.DNS} {
		if at == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(at); err != nil {
			return node.Usagef("%s: %q isn't host:port, such as 127.0.0.1:53", flag, at)
		}
	}
	switch {
	case o.Sessions < 1:
		return node.Usagef("--max-sessions: %d; want at least 1", o.Sessions)
	case o.Settle <= 0:
		return node.Usagef("--settle: %s; want more than nothing", o.Settle)
	}
	return nil
}

// limitMemory leaves alone what the environment says.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(sidecarGarbage)
	}
}

func runSidecar(ctx context.Context, o sidecar.Options, asJSON bool, out io.Writer) error {
	s, err := sidecar.Start(ctx, o)
	switch {
	case ctx.Err() != nil:
		return nil // interrupted while starting
	case errors.Is(err, sidecar.ErrPort), errors.Is(err, sidecar.ErrInUse):
		return node.Usagef("%v", err)
	case err != nil:
		return err
	}
	debug.FreeOSMemory()
	if err := forgetStart(); err != nil {
		o.Log.Debug("the memory of the start is kept", "err", err)
	}
	ready := s.Ready()
	if asJSON {
		err = json.NewEncoder(out).Encode(ready)
	} else {
		err = printSidecar(out, ready)
	}
	if err == nil {
		err = s.Wait(ctx)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), sidecarDrain)
	defer cancel()
	again, stop := signal.NotifyContext(drain, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if cerr := s.Close(again); err == nil {
		err = cerr
	}
	return err
}

func printSidecar(w io.Writer, r sidecar.Ready) error {
	for _, d := range r.Databases {
		fmt.Fprintf(w, "Database %s is at %s.\n", d.Database, strings.Join(d.Addresses, " and "))
	}
	if r.Node == "" {
		fmt.Fprintf(w, "No node answers yet: connections wait for one.\n")
	} else {
		fmt.Fprintf(w, "Node %s is used.\n", r.Node)
	}
	if r.HTTP != "" {
		fmt.Fprintf(w, "Health and metrics: %s/healthz and /metrics.\n", r.HTTP)
	}
	if r.DNS != "" {
		fmt.Fprintf(w, "Resolver: %s.\n", r.DNS)
	}
	_, err := fmt.Fprintf(w, "Peer %s has the address %s.\n", r.Peer, r.Address)
	return err
}
