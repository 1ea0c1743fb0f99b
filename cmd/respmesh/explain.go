package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
	"respmesh/node"
)

func enoughToExplain(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return node.Usagef("%s is missing: %s", []string{"DATABASE", "COMMAND"}[len(args)], cmd.UseLine())
	}
	return nil
}

// flagsBehindFirst takes the flags that stand behind the first argument, as in explain DATABASE --region nrt GET k: no command
// of Redis begins with a dash.
func flagsBehindFirst(cmd *cobra.Command, args []string) ([]string, error) {
	if err := cmd.Flags().Parse(args[1:]); err != nil {
		return nil, cmd.FlagErrorFunc()(cmd, err)
	}
	return slices.Insert(cmd.Flags().Args(), 0, args[0]), nil
}

func newExplain() *cobra.Command {
	r := &remote{}
	var region string
	cmd := &cobra.Command{
		DisableFlagsInUseLine: true,
		Use:                   "explain [FLAGS] DATABASE COMMAND [ARG ...]",
		Short:                 "Say which node a command would go to, and why",
		Long: `Say which node a command would go to now, and why. The command isn't executed. Flags come
before COMMAND: what follows it is the command's own, also if it begins with a dash.`,
		Example: `  respmesh explain demo GET k
  respmesh explain --region nrt demo SET k v`,
		Args:              enoughToExplain,
		ValidArgsFunction: r.completeDatabases,
	}
	explain := r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
		db, err := r.database(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		e, err := c.Explain(cmd.Context(), db.Org, db.Name, api.ExplainRequest{Args: args[1:], Region: region})
		if err != nil {
			return err
		}
		if r.json {
			return printJSON(cmd.OutOrStdout(), e)
		}
		name := e.Command
		if name == "" {
			name = "not known"
		}
		goesTo := "nowhere"
		if e.Node != "" {
			goesTo = e.Node + " in " + e.Region + " (" + millis(e.RTTMS) + ")"
		}
		rows := [][2]string{
			{"Database", e.Database}, {"Command", strings.ToUpper(name)}, {"Class", e.Class}, {"From", e.From},
			{"Goes to", goesTo}, {"Route", e.Route}, {"Why", e.Reason},
		}
		if e.Second != "" {
			rows = append(rows, [2]string{"Second", e.Second + ", if there is no answer after " + millis(e.SecondMS)})
		}
		return vertical(cmd.OutOrStdout(), rows)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := flagsBehindFirst(cmd, args)
		if help, _ := cmd.Flags().GetBool("help"); help {
			return cmd.Help()
		}
		if err == nil {
			err = enoughToExplain(cmd, args)
		}
		if err != nil {
			return err
		}
		return explain(cmd, args)
	}
	cmd.Flags().SetInterspersed(false) // what follows the command is its own, also if it begins with a dash
	r.bind(cmd)
	r.bindOrg(cmd)
	cmd.Flags().StringVarP(&region, "region", "r", "", "of the node that the client is connected to (default: the one that answers)")
	_ = cmd.RegisterFlagCompletionFunc("region", r.completeRegions)
	return cmd
}
