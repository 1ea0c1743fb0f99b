package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

func newToken() *cobra.Command {
	r := &remote{}
	return r.bind(family("token", "Make, list and revoke tokens", `Tokens let their holders use the control API. A token has a scope:

  admin       everything
  org         everything in one org
  read-only   look at everything, or at one org's things
  node        join the mesh as a node, once unless --reusable`,
		tokenCreate(r), tokenList(r), tokenRevoke(r)))
}

func tokenCreate(r *remote) *cobra.Command {
	var in api.TokenRequest
	var scope string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token; it is shown once",
		Example: `  respmesh token create --scope node --region ams
  respmesh token create --scope org --org shop --ttl 720h --name ci`,
		Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			scopes := []choice{
				{string(netconf.ScopeNode), "node: join the mesh as a node"},
				{string(netconf.ScopeOrg), "org: everything in one org"},
				{string(netconf.ScopeReadOnly), "read-only: look only"},
				{string(netconf.ScopeAdmin), "admin: everything"},
			}
			if err := askOne(cmd.Context(), &scope, "--scope", "What may it do?", scopes); err != nil {
				return err
			}
			in.Scope, in.Org = netconf.Scope(scope), r.org
			if cmd.Flags().Changed("ttl") {
				if ttl <= 0 {
					return node.Usagef("--ttl %s: a token has to live for a while", ttl)
				}
				d := api.Duration(ttl)
				in.TTL = &d
			}
			if in.Scope == netconf.ScopeOrg && in.Org == "" {
				org, err := r.orgName(cmd.Context(), c, "--org")
				if err != nil {
					return err
				}
				in.Org = org
			}
			made, err := c.CreateToken(cmd.Context(), in)
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			// The token alone on standard output, for a pipe; what to know about it beside.
			expires := "It doesn't expire."
			if made.Token.Expires != nil {
				expires = "It is good until " + timestamp(made.Token.Expires) + "."
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Token %s of scope %s. %s It isn't shown again.\n", made.Token.ID, made.Token.Scope, expires)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
			return err
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&scope, "scope", "s", "", "admin, org, read-only or node")
	f.StringVarP(&r.org, "org", "o", "", "the org that it is for: needed with --scope org, narrows read-only")
	f.StringVarP(&in.Region, "region", "r", "", "with --scope node: the only region where it may join")
	f.StringVarP(&in.Name, "name", "n", "", "what it is for")
	f.DurationVar(&ttl, "ttl", 0, "how long it is good for, such as 24h (default: 1h for a node, else as long as your own)")
	f.BoolVar(&in.Reusable, "reusable", false, "with --scope node: for many nodes rather than one")
	_ = cmd.RegisterFlagCompletionFunc("org", r.completeOrgs)
	_ = cmd.RegisterFlagCompletionFunc("region", r.completeAllRegions)
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"admin", "org", "read-only", "node"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func tokenList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the tokens, without their secrets", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			tokens, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(tokens))
			}
			var rows [][]string
			for _, t := range tokens {
				expires := "never"
				if t.Expires != nil {
					expires = timestamp(t.Expires)
				}
				if t.Expired {
					expires = "expired"
				}
				rows = append(rows, []string{t.ID, t.Name, string(t.Scope), t.Org, t.Region, timestamp(&t.Created), expires, yesNo(t.UsedBy != "")})
			}
			return table(cmd.OutOrStdout(), []string{"ID", "NAME", "SCOPE", "ORG", "REGION", "CREATED", "EXPIRES", "USED"}, rows)
		}),
	}
}

func tokenRevoke(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token", Args: exactly("ID"), ValidArgsFunction: r.completeTokens,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if err := c.DeleteToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			return r.said(cmd, "revoked", args[0], "Token "+args[0]+" was revoked.")
		}),
	}
}
