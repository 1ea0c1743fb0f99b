package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/node"
)

// drainTime bounds the graceful end of `dev`: sessions get this long to finish.
const drainTime = 1500 * time.Millisecond

func newDev() *cobra.Command {
	opts := node.DevOptions{Version: buildVersion()}
	var asJSON bool
	var logLevel, engine string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole multi-region mesh on this machine",
		Long: `Run one complete node per region in this process, with real WireGuard between
them and, unless --wan none, the real delay between their places.

Each region answers Redis clients on a port of its own: the first on --port, the
next on --port + 1, and so on. The data is in memory; with --data the primary
also keeps it on disk, in an append-only file, and loads it at the next start.`,
		Example: `  respmesh dev
  respmesh dev --regions mad,ams,nrt,syd --replicas mad,nrt
  respmesh dev --wan none --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.ReplicasSet = cmd.Flags().Changed("replicas")
			level := slog.LevelWarn
			if err := level.UnmarshalText([]byte(logLevel)); err != nil {
				return node.Usagef("--log-level %q: want debug, info, warn or error", logLevel)
			}
			opts.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			if opts.Password == "" {
				opts.Password = os.Getenv("RESPMESH_PASSWORD")
			}
			if opts.Cluster = engine == netconf.EngineCluster; !opts.Cluster && engine != "" {
				var err error
				if opts.Engine, err = parseEngine(engine); err != nil {
					return err
				}
			}
			return runDev(cmd.Context(), opts, asJSON, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&opts.Regions, "regions", []string{"mad", "ams", "nrt"}, "regions, one node each")
	f.StringVar(&opts.Primary, "primary", "", "region of the primary (default: the first of --regions)")
	f.StringSliceVar(&opts.Replicas, "replicas", nil, "regions that hold a replica (default: all)")
	f.StringVar(&opts.Org, "org", "personal", "organisation")
	f.StringVar(&opts.Name, "name", "demo", "name of the database")
	f.StringVar(&opts.WAN, "wan", "world", "delay between regions: world (as between the real places) or none")
	f.IntVar(&opts.Port, "port", 16379, "port of the first region; 0 picks free ones")
	f.IntVar(&opts.HTTP, "http", 17379, "port for status, metrics and health; 0 picks a free one")
	f.StringVar(&opts.Data, "data", "", "data directory (default: a temporary one, removed at exit)")
	f.StringVar(&engine, "engine", "", "what the database runs on: embedded, redis (a server started by us), cluster (six of them), or the URL of a running one, as in redis update")
	f.StringVar(&opts.AppendFsync, "appendfsync", "", "with --data, when a write is brought to the disk: always (before it is answered), everysec or no (default: everysec)")
	f.StringSliceVar(&opts.Listen, "listen", []string{"::1", "127.0.0.1"}, "addresses to listen on")
	f.BoolVar(&opts.TUN, "tun", false, "join the private network from this host through a TUN device (needs root)")
	f.StringVar(&opts.Password, "password", "", "password that clients must give; $RESPMESH_PASSWORD keeps it out of the process list (default: none)")
	f.StringVar(&opts.Trace.Endpoint, "trace-endpoint", "", "URL of an OpenTelemetry collector (OTLP over HTTP) that gets traces of commands, such as http://localhost:4318 (default: none)")
	f.Float64Var(&opts.Trace.Ratio, "trace-ratio", 0.01, "with --trace-endpoint: share of the commands that are traced, 0 to 1")
	f.BoolVar(&asJSON, "json", false, "once ready, print one line of JSON instead of the table")
	f.StringVar(&logLevel, "log-level", "warn", "debug, info, warn or error; logs go to standard error")
	return cmd
}

func runDev(ctx context.Context, opts node.DevOptions, asJSON bool, out io.Writer) error {
	dev, err := node.StartDev(ctx, opts)
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted while starting
		}
		return err
	}
	ready := dev.Ready()
	if asJSON {
		err = json.NewEncoder(out).Encode(ready)
	} else {
		err = printReady(out, opts, ready)
	}
	if err == nil {
		err = dev.Wait(ctx)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if cerr := dev.Close(drain); err == nil {
		err = cerr
	}
	return err
}

func printReady(w io.Writer, opts node.DevOptions, r node.DevReady) error {
	primary, last := r.Regions[0], r.Regions[len(r.Regions)-1]
	for _, region := range r.Regions {
		if region.Role == node.RolePrimary {
			primary = region
		}
	}
	where := "primary in " + primary.Region
	if primary.Role == node.RoleCluster {
		where = "a cluster"
	}
	fmt.Fprintf(w, "Database %s of org %s is ready: %s, WireGuard between %d nodes.\n\n", r.Database.Name, r.Database.Org, where, len(r.Regions))
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "REGION\tROLE\tREDIS\tRTT TO PRIMARY")
	for _, region := range r.Regions {
		rtt := fmt.Sprintf("%.1f ms", region.RTT)
		if region.Role == node.RolePrimary || region.Role == node.RoleCluster {
			rtt = "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", region.Region, region.Role, region.RESP, rtt)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nStatus    %s\n", r.Admin)
	if r.Database.Engine != netconf.EngineEmbedded {
		fmt.Fprintf(w, "Engine    %s\n", r.Database.Engine)
	}
	if opts.TUN {
		fmt.Fprintf(w, "Private   redis-cli -h %s   or   redis-cli -h %s\n", r.Database.Address, r.Database.DNS)
	} else {
		fmt.Fprintf(w, "Private   %s and %s, inside the org's network (--tun joins it)\n", r.Database.Address, r.Database.DNS)
	}
	fmt.Fprintf(w, "\nTry\n")
	tw = tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(tw, "  %s set k v\ta write in %s\n", cli(primary), primary.Region)
	fmt.Fprintf(tw, "  %s get k\ta read in %s, from the nearest copy\n", cli(last), last.Region)
	fmt.Fprintf(tw, "  %s set k w\ta write from %s: one round trip to %s\n", cli(last), last.Region, primary.Region)
	if err := tw.Flush(); err != nil {
		return err
	}
	data := "in " + opts.Data
	if opts.Data == "" {
		data = "temporary, gone at exit (--data keeps it)"
	}
	_, err := fmt.Fprintf(w, "\nData: %s. Ctrl-C stops everything.\n", data)
	return err
}

// cli is the redis-cli call that reaches a region, without -h where the default host will do.
func cli(r node.DevRegion) string {
	host, port := r.Host()
	if host == "::1" || host == "127.0.0.1" {
		return "redis-cli -p " + port
	}
	return "redis-cli -h " + host + " -p " + port
}
