package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

func newOrgs() *cobra.Command {
	r := &remote{}
	return r.bind(family("orgs", "Create, list and destroy organisations",
		"An org owns a private IPv6 prefix, databases and peers. Nothing of one org can be reached from another.",
		orgsCreate(r), orgsList(r), orgsDestroy(r)))
}

func orgsCreate(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Create an org", Args: atMost(1, "one name"),
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			name := first(args)
			if err := askText(cmd.Context(), &name, "NAME", "Name of the org", netconf.ValidateName); err != nil {
				return err
			}
			if err := netconf.ValidateName(name); err != nil {
				return node.Usagef("%v", err)
			}
			org, err := c.CreateOrg(cmd.Context(), api.OrgRequest{Name: name})
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), org)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Org %s was created: its private network is %s.\n\nNext: respmesh redis create --org %s\n", org.Name, org.Prefix, org.Name)
			return err
		}),
	}
}

func orgsList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the orgs", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			orgs, err := c.Orgs(cmd.Context())
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(orgs))
			}
			var rows [][]string
			for _, o := range orgs {
				rows = append(rows, []string{o.Name, o.Prefix, strconv.Itoa(o.Databases), strconv.Itoa(o.Peers)})
			}
			return table(cmd.OutOrStdout(), []string{"NAME", "PREFIX", "DATABASES", "PEERS"}, rows)
		}),
	}
}

func orgsDestroy(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "destroy NAME", Short: "Destroy an org that has no databases and no peers", Args: exactly("NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return r.completeOrgs(cmd, args, typed)
		},
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			org, err := c.Org(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := confirm(cmd.Context(), yes, org.Name, "destroys org "+org.Name); err != nil {
				return err
			}
			if err := c.DeleteOrg(cmd.Context(), org.Name); err != nil {
				return err
			}
			return r.said(cmd, "destroyed", org.Name, "Org "+org.Name+" was destroyed.")
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}
