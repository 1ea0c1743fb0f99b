package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/node"
)

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "respmesh",
		Short: "One Redis in many regions, on a private WireGuard mesh",
		Long: `respmesh gives an organisation one Redis that is near everywhere.

Each region runs a node: reads come from the nearest replica, writes go to the
primary, and all that passes between nodes passes through WireGuard.`,
		SilenceErrors: true, // run prints the one line
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return node.Usagef("unknown command %q; see respmesh --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return node.Usagef("%s; see %s --help", firstLine(err), cmd.CommandPath())
	})
	root.AddCommand(newDev(), newServer(), newRedis(), newOrgs(), newRegions(), newNodes(), newToken(), newWireGuard(), newSidecar(), newLatency(),
		newExplain(), newControl(), newVersion(), newMan())
	strict(root)
	return root
}

// strict has cobra's own commands refuse what they don't know, as ours do.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return node.Usagef("unknown shell %q; see %s --help", args[0], cmd.CommandPath())
				}
				return nil
			}
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return node.Usagef("unknown command %q; see respmesh --help", strings.Join(args, " "))
				}
				return nil
			}
		}
	}
}

// noArgs refuses positional arguments as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return node.Usagef("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
