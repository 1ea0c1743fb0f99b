package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"respmesh/node"
)

// serverDrain bounds the graceful end of a node: leases are handed over and sessions finish.
const serverDrain = 8 * time.Second

func newServer() *cobra.Command {
	opts := node.ServerOptions{Version: buildVersion()}
	var asJSON bool
	var config, tokenFile, logLevel string
	wireguard := newAddrPort("[::]:51820")
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run one node on this host",
		Long: `Run one node of a mesh on this host.

The first node makes the mesh with --init and carries its control plane. Each
further one enters it with --join and a token made by
respmesh token create --scope node. Both are needed once: from then on the node
is what its data directory says, and --data is enough.`,
		Example: `  respmesh server --init --region mad --endpoint mad.example.org:51820 --api-listen [::]:17380
  respmesh server --join https://mad.example.org:17380 --pin PIN --token-file /run/token --region ams --endpoint ams.example.org:51820
  respmesh server`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config != "" {
				given, err := readSettings(config)
				if err == nil {
					err = given.apply(cmd, config)
				}
				if err != nil {
					return err
				}
			}
			var level slog.LevelVar
			if err := setLevel(&level, logLevel); err != nil {
				return err
			}
			opts.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: &level}))
			opts.WireGuard = wireguard.addr
			if opts.Join != "" {
				opts.Token = os.Getenv("RESPMESH_TOKEN")
			}
			if opts.Join != "" && tokenFile != "" && !node.IsMember(opts.Data) { // once it is in, the token is used up
				var err error
				if opts.Token, err = readSecret(tokenFile); err != nil {
					return fmt.Errorf("--token-file: %w", err)
				}
			}
			// What a hangup signal takes in anew. Flags of the command line stay.
			reload := func(server *node.Server) error {
				given, err := readSettings(config)
				if err != nil {
					return err
				}
				if name, ok := given["log-level"]; ok && !cmd.Flags().Changed("log-level") {
					if err := setLevel(&level, name); err != nil {
						return err
					}
				}
				if cmd.Flags().Changed("api-listen") {
					return nil
				}
				return server.ListenAPI(given["api-listen"])
			}
			if config == "" {
				reload = func(*node.Server) error {
					return errors.New("there is nothing to reload: the node was started without --config")
				}
			}
			return runServer(cmd.Context(), opts, reload, asJSON, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&config, "config", "", "file with settings, one name = value per line; names are those of the flags, which win over it; SIGHUP reloads log-level and api-listen")
	f.BoolVar(&opts.Init, "init", false, "make a new mesh with this node as its first")
	f.StringVar(&opts.Join, "join", "", "enter a mesh: URL of the API of one of its nodes")
	f.StringVar(&opts.Pin, "pin", "", "with --join: pin of that node's certificate, as the node prints it")
	f.StringVar(&tokenFile, "token-file", "", "with --join: file that holds the token (default: $RESPMESH_TOKEN)")
	f.StringVar(&opts.Name, "name", "", "name of the node (default: its region and -1)")
	f.StringVarP(&opts.Region, "region", "r", "", "region of the node")
	f.StringVar(&opts.Data, "data", defaultData(), "data directory")
	f.Var(wireguard, "wireguard", "UDP address that WireGuard listens on")
	f.StringVar(&opts.Endpoint, "endpoint", "", "host:port where the other nodes find this one's WireGuard (without it, this node calls them)")
	f.StringVar(&opts.Tunnel, "tunnel", "auto", "auto, tun (a kernel interface; needs CAP_NET_ADMIN) or userspace")
	f.IntVar(&opts.HTTP, "http", 17379, "port on loopback for API, status, metrics and health; 0 picks a free one")
	f.StringVar(&opts.API, "api-listen", "", "address for the API with TLS, for other hosts, such as [::]:17380 (default: none)")
	f.IntVar(&opts.Members, "control-members", 1, "how many nodes carry the control plane: 1, 3 or 5; the first ones do")
	f.StringSliceVar(&opts.Etcd.Endpoints, "etcd", nil, "https URLs of an etcd cluster to use instead of an embedded one")
	f.StringVar(&opts.Etcd.CA, "etcd-ca", "", "with --etcd: file with the CA's certificate")
	f.StringVar(&opts.Etcd.Cert, "etcd-cert", "", "with --etcd: file with this client's certificate")
	f.StringVar(&opts.Etcd.Key, "etcd-key", "", "with --etcd: file with its key")
	f.StringVar(&opts.AppendFsync, "appendfsync", "everysec", "when a write is brought to the disk: always (before it is answered), everysec or no")
	f.StringSliceVar(&opts.DNSUpstreams, "dns-upstream", nil, "resolvers that the orgs' resolvers ask about other names, such as 9.9.9.9 (default: none, such names are refused)")
	f.StringVar(&opts.Trace.Endpoint, "trace-endpoint", "", "URL of an OpenTelemetry collector (OTLP over HTTP) that gets traces of commands, such as http://localhost:4318 (default: none)")
	f.Float64Var(&opts.Trace.Ratio, "trace-ratio", 0.01, "with --trace-endpoint: share of the commands that are traced, 0 to 1")
	f.BoolVar(&asJSON, "json", false, "once ready, print one line of JSON")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error; logs go to standard error")
	return cmd
}

func setLevel(level *slog.LevelVar, name string) error {
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return node.Usagef("--log-level %q: want debug, info, warn or error", name)
	}
	return nil
}

// defaultData is where a node keeps its things: what systemd says, or below the home directory.
func defaultData() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/respmesh"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return dir + "/respmesh"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "respmesh-data"
	}
	return home + "/.local/state/respmesh"
}

func runServer(ctx context.Context, opts node.ServerOptions, reload func(*node.Server) error, asJSON bool, out io.Writer) error {
	server, err := node.StartServer(ctx, opts)
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted while starting
		}
		return err
	}
	ready := server.Ready()
	if asJSON {
		err = json.NewEncoder(out).Encode(ready)
	} else {
		err = printServer(out, ready)
	}
	if err == nil {
		stop := onHangup(func() {
			if err := reload(server); err != nil {
				opts.Log.Error("settings were not reloaded", "err", err)
				return
			}
			opts.Log.Info("settings were reloaded")
		})
		err = server.Wait(ctx)
		stop()
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverDrain)
	defer cancel()
	// A second signal ends it at once.
	again, stop := signal.NotifyContext(drain, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if cerr := server.Close(again); err == nil {
		err = cerr
	}
	return err
}

// onHangup calls f for each SIGHUP, until the function that it returns is called.
func onHangup(f func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-signals:
				f()
			case <-ended:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(ended)
		wg.Wait()
	}
}

func printServer(w io.Writer, r node.ServerReady) error {
	fmt.Fprintf(w, "Node %s in %s is ready: %s tunnel, WireGuard on UDP %s.\n", r.Node, r.Region, r.Tunnel, r.WireGuard)
	fmt.Fprintf(w, "API       %s\n", r.API)
	if r.Public != "" {
		fmt.Fprintf(w, "          %s   pin %s\n", r.Public, r.Pin)
	}
	if r.AdminTokenFile != "" {
		fmt.Fprintf(w, "\nThe token of the mesh's administrator is in %s. To add a node:\n", r.AdminTokenFile)
		fmt.Fprintf(w, "  respmesh token create --scope node --token-file %s\n", r.AdminTokenFile)
		join := r.Public
		if join == "" {
			fmt.Fprintf(w, "  (start this node with --api-listen, so that others can reach its API)\n")
			join = "URL"
		}
		fmt.Fprintf(w, "  respmesh server --join %s --pin %s --token-file FILE --region REGION --endpoint HOST:PORT\n", join, orPlaceholder(r.Pin, "PIN"))
	}
	_, err := fmt.Fprintln(w)
	return err
}

func orPlaceholder(s, placeholder string) string {
	if s == "" {
		return placeholder
	}
	return s
}

// addrPort is a flag with an address and a port.
type addrPort struct{ addr netip.AddrPort }

func newAddrPort(s string) *addrPort { return &addrPort{netip.MustParseAddrPort(s)} }

func (a *addrPort) String() string { return a.addr.String() }
func (a *addrPort) Type() string   { return "address" }
func (a *addrPort) Set(s string) (err error) {
	if a.addr, err = netip.ParseAddrPort(s); err != nil {
		return errors.New("want an address and a port, such as [::]:51820")
	}
	return nil
}
