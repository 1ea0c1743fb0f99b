package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
	"respmesh/node"
)

func newControl() *cobra.Command {
	r := &remote{}
	return r.bind(family("control", "Back up the control plane", `The control plane knows the orgs, nodes, databases, users, peers and tokens of the mesh, but
not what is in the databases.`, controlBackup(r)))
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
