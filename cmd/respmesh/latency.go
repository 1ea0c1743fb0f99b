package main

import (
	"github.com/spf13/cobra"

	"respmesh/netconf/api"
)

func newLatency() *cobra.Command {
	r := &remote{}
	return r.bind(&cobra.Command{
		Use: "latency", Short: "Show the round-trip times between regions", Args: noArgs,
		Long: "Show the round-trip times between regions, measured inside WireGuard. A row is where a request starts, a column where it goes.",
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			l, err := c.Latency(cmd.Context())
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), l)
			}
			type pair struct{ from, to string }
			cells := map[pair]string{}
			for _, row := range l.Rows {
				if row.Known {
					cells[pair{row.From, row.To}] = millis(row.RTTMS)
				}
			}
			rows := make([][]string, len(l.Regions))
			for i, from := range l.Regions {
				rows[i] = []string{from}
				for _, to := range l.Regions {
					rows[i] = append(rows[i], cells[pair{from, to}])
				}
			}
			return table(cmd.OutOrStdout(), append([]string{"FROM"}, l.Regions...), rows)
		}),
	})
}
