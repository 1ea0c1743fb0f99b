package main

import (
	"fmt"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
)

func redisDashboard(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dashboard [DATABASE]", Short: "Open the web console on a database", Args: atMost(1, "one database"), ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			page := c.URL() + "/#" + db.Org + "/" + db.Name
			if r.json {
				return printJSON(cmd.OutOrStdout(), map[string]string{"url": page})
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), page); err != nil {
				return err
			}
			if !interactive() || !isTerminal(cmd.OutOrStdout()) {
				return nil // nobody looks: the address is what was wanted
			}
			open := "xdg-open"
			if runtime.GOOS == "darwin" {
				open = "open"
			}
			browser, err := exec.LookPath(open)
			if err != nil {
				return nil
			}
			return exec.CommandContext(cmd.Context(), browser, page).Run()
		}),
	}
	r.bindOrg(cmd)
	return cmd
}
