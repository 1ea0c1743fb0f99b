package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
)

func newNodes() *cobra.Command {
	r := &remote{}
	return r.bind(family("nodes", "List, drain and remove nodes", "A node is one respmesh process in a region. A new one joins with: respmesh server --join (see respmesh token create --scope node).",
		nodesList(r), nodesDrain(r), nodesUndrain(r), nodesRotateKey(r), nodesRemove(r)))
}

func nodesList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the nodes", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			list, err := c.NodeList(cmd.Context())
			if err != nil {
				return err
			}
			nodes := list.Nodes
			if list.ControlError != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "Which nodes carry the control plane isn't known: %s\n", cell(list.ControlError))
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(nodes))
			}
			var rows [][]string
			for _, n := range nodes {
				rows = append(rows, []string{n.Name, n.Region, nodeState(n), n.Control, n.Address, n.Endpoint, n.Tunnel, n.Version, timestamp(n.Since)})
			}
			if err := table(cmd.OutOrStdout(), []string{"NAME", "REGION", "STATE", "CONTROL", "ADDRESS", "ENDPOINT", "TUNNEL", "VERSION", "SINCE"}, rows); err != nil {
				return err
			}
			return narrowPaths(cmd.OutOrStdout(), nodes)
		}),
	}
}

// Bytes of the largest packets: inside the mesh, and outside with what WireGuard, UDP and IP add.
const (
	packetInside = 1280
	packetByIPv4 = packetInside + 60
	packetByIPv6 = packetInside + 80
)

// narrowPaths says on which paths large packets are lost.
func narrowPaths(w io.Writer, nodes []api.Node) error {
	var lines []string
	for _, n := range nodes {
		for _, p := range n.NarrowPaths {
			passes := "only small ones pass"
			if p.MTU > 0 {
				passes = fmt.Sprintf("those of %d bytes pass, %d have to", p.MTU, packetInside)
			}
			lines = append(lines, fmt.Sprintf("  between %s and %s: %s\n", cell(n.Name), cell(p.Node), passes))
		}
	}
	if lines == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nLarge packets are lost:\n%s\nThe nodes send smaller ones there, which is slower. Let packets of %d bytes pass between these hosts (%d by IPv4).\n",
		strings.Join(lines, ""), packetByIPv6, packetByIPv4)
	return err
}

func nodeState(n api.Node) string {
	switch {
	case !n.Online:
		return "away"
	case n.Draining:
		return "draining"
	}
	return "online"
}

func nodesDrain(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "drain NAME", Short: "Take no new sessions on a node and hand its primaries over", Args: exactly("NAME"), ValidArgsFunction: r.completeNodes,
		Long: `Take no new sessions on a node, end those that it has as they become idle, and hand over the databases of which it is the primary.
Drain a node before you stop it for an upgrade; undrain it afterwards.`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			n, err := c.DrainNode(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), n)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Node %s takes no new sessions and hands its primaries over.\n\nUndo: respmesh nodes undrain %s\n", n.Name, n.Name)
			return err
		}),
	}
}

func nodesUndrain(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "undrain NAME", Short: "Take new sessions on a node again", Args: exactly("NAME"), ValidArgsFunction: r.completeNodes,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			n, err := c.UndrainNode(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), n)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Node %s takes new sessions again.\n", n.Name)
			return err
		}),
	}
}

func nodesRotateKey(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "rotate-key NAME", Short: "Have a node make a new WireGuard key", Args: exactly("NAME"), ValidArgsFunction: r.completeNodes,
		Long: `Have a node make a new WireGuard key and tell the others of it. Connections between the
nodes go on. Peers of the node have the old key in their configuration: make those anew
with respmesh wireguard reset.`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if err := c.RotateNodeKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			return r.said(cmd, "rotated", args[0], "Node "+args[0]+" has a new WireGuard key. Its peers need new configurations: respmesh wireguard reset.")
		}),
	}
}

func nodesRemove(r *remote) *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a node that is drained or away", Args: exactly("NAME"), ValidArgsFunction: r.completeNodes,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if err := confirm(cmd.Context(), yes, args[0], "removes node "+args[0]+" from the mesh"); err != nil {
				return err
			}
			if err := c.DeleteNode(cmd.Context(), args[0], force); err != nil {
				return err
			}
			return r.said(cmd, "removed", args[0], "Node "+args[0]+" was removed: the others don't let it in any more.")
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	cmd.Flags().BoolVar(&force, "force", false, "also if it is online and not drained")
	return cmd
}
