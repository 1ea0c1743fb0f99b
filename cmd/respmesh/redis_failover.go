package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
	"respmesh/node"
)

func redisFailover(r *remote) *cobra.Command {
	var to string
	var force, yes bool
	cmd := &cobra.Command{
		Use: "failover DATABASE", Short: "Have another node of the primary region take the writes", Args: exactly("DATABASE"), ValidArgsFunction: r.completeDatabases,
		Long: `The node that takes the writes hands them over to another one of its region, which has all data: clients wait for a moment, and nothing is lost.

Where no node leads, since the only copies that have all that was acknowledged are gone for good, --force has a node go on with what it has. What it lacks is lost.
A copy that comes back after that gives up what it has more. --force is refused while a copy that has more can be reached.`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if to == "" {
				return node.Usagef("--to is missing: the node that is to take the writes")
			}
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			if force {
				s, err := c.DatabaseStatus(cmd.Context(), db.Org, db.Name)
				if err != nil {
					return err
				}
				if err := confirm(cmd.Context(), yes, db.Name, "has "+to+" take the writes of "+db.Org+"/"+db.Name+" with what it has ("+standings(s)+"); what it lacks is lost"); err != nil {
					return err
				}
			}
			done, err := c.Failover(cmd.Context(), db.Org, db.Name, api.FailoverRequest{Node: to, Force: force})
			if err != nil {
				return err
			}
			text := done.From + " hands " + db.Name + " over to " + done.Node
			if done.Force {
				text = done.Node + " takes over " + db.Name + " with what it has, after term " + fmt.Sprint(done.Term) + " of " + done.From
			}
			return r.said(cmd, "failover", db.Name, text+"; respmesh redis status "+db.Org+"/"+db.Name+" shows when it does")
		}),
	}
	r.bindOrg(cmd)
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the node that is to take the writes")
	_ = cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return r.completeNodes(cmd, nil, typed)
	})
	f.BoolVar(&force, "force", false, "also if it lacks writes that were acknowledged, where no copy that has them is left")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}

// standings says how far each copy is.
func standings(s api.DatabaseStatus) string {
	var parts []string
	if s.Primary != nil {
		parts = append(parts, fmt.Sprintf("the last term was %d, of %s", s.Primary.Term, s.Primary.Node))
	}
	for _, n := range s.Nodes {
		switch {
		case n.State == api.StateAway:
			parts = append(parts, n.Node+" doesn't answer")
		case n.Role != api.RoleNone:
			parts = append(parts, fmt.Sprintf("%s has term %d, offset %d", n.Node, n.Term, n.Offset))
		}
	}
	return strings.Join(parts, "; ")
}
