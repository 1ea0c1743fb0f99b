package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"respmesh/node"
)

// newMan writes the man pages from the commands themselves. Packages call it when they are built; the date of the
// pages is SOURCE_DATE_EPOCH where that is set, so that a build can be repeated.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the man pages into a directory",
		Hidden: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return node.Usagef("%s takes one directory", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{
				Title: "RESPMESH", Section: "1", Source: "respmesh " + buildVersion(), Manual: "respmesh",
			}, args[0])
		},
	}
}
