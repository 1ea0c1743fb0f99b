package main

import (
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
)

func newRegions() *cobra.Command {
	r := &remote{}
	return r.bind(family("regions", "List regions", "A region is a place with a code. Databases live in regions that have a node.", regionsList(r)))
}

func regionsList(r *remote) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the regions that have a node", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			regions, err := c.Regions(cmd.Context())
			if err != nil {
				return err
			}
			if !all {
				regions = slices.DeleteFunc(regions, func(r api.Region) bool { return r.Nodes == 0 })
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(regions))
			}
			var rows [][]string
			for _, region := range regions {
				rows = append(rows, []string{region.Code, region.City, strconv.Itoa(region.Nodes)})
			}
			return table(cmd.OutOrStdout(), []string{"CODE", "CITY", "NODES"}, rows)
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also the regions without a node")
	return cmd
}
