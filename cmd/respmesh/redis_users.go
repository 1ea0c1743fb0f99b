package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf/api"
	"respmesh/node"
)

func redisUsers(r *remote) *cobra.Command {
	return family("users", "List, set and remove the users of a database", `Beside the user default a database may have users with rules of Redis's ACLs, such as
"~cache:* +@read": the keys that they may touch and the commands that they may run.`,
		usersList(r), usersSet(r), usersRemove(r))
}

func usersList(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [DATABASE]", Aliases: []string{"ls"}, Short: "List the users beside the default one", Args: atMost(1, "one database"), ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			users, err := c.Users(cmd.Context(), db.Org, db.Name)
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(users))
			}
			var rows [][]string
			for _, u := range users {
				rows = append(rows, []string{u.Name, u.Rules})
			}
			return table(cmd.OutOrStdout(), []string{"NAME", "RULES"}, rows)
		}),
	}
	r.bindOrg(cmd)
	return cmd
}

func usersSet(r *remote) *cobra.Command {
	var in api.UserRequest
	var stdin bool
	cmd := &cobra.Command{
		Use: "set DATABASE USER", Short: "Make a user, or change its rules", Args: exactly("DATABASE", "USER"), ValidArgsFunction: r.completeDatabases,
		Example: `  respmesh redis users set cart reader --rules '~cart:* +@read'`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if in.Rules == "" {
				return node.Usagef("--rules is missing: which keys and commands, such as '~cache:* +@read'")
			}
			if stdin {
				line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 4096)).ReadString('\n')
				if err != nil && err != io.EOF {
					return err
				}
				if in.Password = strings.TrimRight(line, "\r\n"); in.Password == "" {
					return node.Usagef("--password-stdin: standard input is empty")
				}
			}
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			made, err := c.PutUser(cmd.Context(), db.Org, db.Name, args[1], in)
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "User %s of database %s may: %s\n", made.User.Name, db.Name, made.User.Rules)
			if made.URL != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "\nURL   %s\n\nIts password is part of the URL and isn't shown again.\n", made.URL)
			}
			return nil
		}),
	}
	r.bindOrg(cmd)
	cmd.Flags().StringVar(&in.Rules, "rules", "", "rules of Redis's ACLs, such as '~cache:* +@read'")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input rather than have one made")
	return cmd
}

func usersRemove(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove DATABASE USER", Aliases: []string{"rm"}, Short: "Remove a user; its sessions end", Args: exactly("DATABASE", "USER"), ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			if err := c.DeleteUser(cmd.Context(), db.Org, db.Name, args[1]); err != nil {
				return err
			}
			return r.said(cmd, "removed", args[1], "User "+args[1]+" of database "+db.Name+" was removed.")
		}),
	}
	r.bindOrg(cmd)
	return cmd
}
