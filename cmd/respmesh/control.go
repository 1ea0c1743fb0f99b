package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
	"respmesh/netconf/etcd"
	"respmesh/node"
)

func newControl() *cobra.Command {
	r := &remote{}
	return family("control", "Look at, back up, restore and audit the control plane", `The control plane knows the orgs, nodes, databases, users, peers and tokens of the mesh, but
not what is in the databases.`, r.bind(controlMembers(r)), r.bind(controlBackup(r)), controlRestore(), r.bind(controlAudit(r)))
}

func controlMembers(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "Show which nodes carry the control plane, and which leads", Args: noArgs,
		Long: `Show which nodes carry the control plane, which of them leads, and which answer. Changes
need more than half of them; data, and all that runs, go on without.`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			plane, err := c.ControlPlane(cmd.Context())
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), plane)
			}
			switch plane.Kind {
			case api.ControlExternal:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "The control plane is an etcd cluster of its own: %s.\n", strings.Join(plane.Endpoints, ", "))
				return err
			case api.ControlInside:
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "The control plane is inside respmesh dev.")
				return err
			}
			var rows [][]string
			for _, m := range plane.Members {
				state := "online"
				if !m.Online {
					state = "away"
				}
				bytes := ""
				if m.Bytes > 0 {
					bytes = size(m.Bytes)
				}
				rows = append(rows, []string{m.Node, m.Region, m.Role, state, bytes})
			}
			return table(cmd.OutOrStdout(), []string{"NODE", "REGION", "ROLE", "STATE", "DATA"}, rows)
		}),
	}
}

func controlBackup(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Save the control plane's state to a file", Args: exactly("FILE"),
		Long: `Save a snapshot of the control plane's state to a file, or with - to standard output. The file holds
hashes of passwords and tokens: it is readable by you alone. A file that is there isn't overwritten.`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if args[0] == "-" {
				if isTerminal(cmd.OutOrStdout()) {
					return node.Usagef("a backup isn't for a terminal; give a file")
				}
				return c.Backup(cmd.Context(), cmd.OutOrStdout())
			}
			n, err := backupTo(cmd, c, args[0])
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"file": args[0], "bytes": n})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The control plane was saved to %s (%s).\n", args[0], size(n))
			return err
		}),
	}
}

func controlRestore() *cobra.Command {
	var data string
	var asJSON bool
	var o etcd.RestoreOptions
	cmd := &cobra.Command{
		Use: "restore FILE --data DIR", Short: "Make a stopped node's control plane from a backup", Args: exactly("FILE"),
		Long: `Make the control plane of a node that is stopped from a backup. What was changed since the backup
is lost; the data in the databases isn't touched. The node must have no control plane of its
own any more: move DIR/control away first.

A control plane of several members is restored on each of them, from the same backup, with
--name, --peer and --initial-cluster as they were.`,
		Example: `  respmesh control restore mesh.backup --data /var/lib/respmesh`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if data == "" {
				return node.Usagef("--data is missing: the data directory of the node")
			}
			if len(o.Peers) > 0 != (o.InitialCluster != "") {
				return node.Usagef("--peer and --initial-cluster go together")
			}
			o.Dir = filepath.Join(data, "control")
			if err := etcd.Restore(args[0], o); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"directory": o.Dir})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "The control plane was restored to %s.\n\nNext: respmesh server --data %s\n", o.Dir, data)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "data directory of the node")
	f.BoolVarP(&asJSON, "json", "j", false, "print JSON")
	f.StringVar(&o.Name, "name", "", "of several members: the name of this one")
	f.StringSliceVar(&o.Peers, "peer", nil, "of several members: the URLs where the others reach this one")
	f.StringVar(&o.InitialCluster, "initial-cluster", "", "of several members: all of them, as a=https://…,b=https://…")
	return cmd
}

func controlAudit(r *remote) *cobra.Command {
	var limit int
	var before uint64
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who changed what, the latest first", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			if limit < 1 {
				return node.Usagef("--limit: %d is less than one", limit)
			}
			page, err := c.Audit(cmd.Context(), limit, before)
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), page)
			}
			var rows [][]string
			for _, a := range page.Records {
				rows = append(rows, []string{strconv.FormatUint(a.Revision, 10), timestamp(&a.Time), a.Actor, strings.Join(a.What, "; ")})
			}
			return table(cmd.OutOrStdout(), []string{"REVISION", "TIME", "WHO", "WHAT"}, rows)
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many changes at most")
	cmd.Flags().Uint64Var(&before, "before", 0, "only changes before this revision")
	return cmd
}

// backupTo writes a file whole, on the disk, or not at all.
func backupTo(cmd *cobra.Command, c *api.Client, path string) (int64, error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, fmt.Errorf("%s is there already and isn't overwritten", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := c.Backup(cmd.Context(), f); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	// A link fails where the name has been taken meanwhile; a rename would overwrite.
	return info.Size(), os.Link(f.Name(), path)
}
