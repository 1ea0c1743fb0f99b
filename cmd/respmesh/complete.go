package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
)

// completionTime bounds what a shell waits for when Tab is pressed.
const completionTime = 700 * time.Millisecond

// complete asks the API; without an answer there is nothing to complete, and no error in the middle of a line.
func (r *remote) complete(cmd *cobra.Command, typed string, list func(context.Context, *api.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	c, err := r.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionTime)
	defer cancel()
	found, err := list(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return startingWith(found, typed), cobra.ShellCompDirectiveNoFileComp
}

func startingWith(all []string, typed string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, typed) })
}

func (r *remote) completeOrgs(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return r.complete(cmd, typed, func(ctx context.Context, c *api.Client) ([]string, error) {
		orgs, err := c.Orgs(ctx)
		var names []string
		for _, o := range orgs {
			names = append(names, o.Name)
		}
		return names, err
	})
}

// completeDatabases gives names, and ORG/NAME where a name alone isn't unique.
func (r *remote) completeDatabases(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.complete(cmd, typed, func(ctx context.Context, c *api.Client) ([]string, error) {
		org := firstOf(r.org, os.Getenv("RESPMESH_ORG"))
		dbs, err := c.Databases(ctx, org)
		count := map[string]int{}
		for _, d := range dbs {
			count[d.Name]++
		}
		var names []string
		for _, d := range dbs {
			if count[d.Name] > 1 || strings.HasPrefix(typed, d.Org+"/") {
				names = append(names, d.Org+"/"+d.Name)
			} else {
				names = append(names, d.Name)
			}
		}
		return names, err
	})
}

func (r *remote) completeNodes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.complete(cmd, typed, func(ctx context.Context, c *api.Client) ([]string, error) {
		nodes, err := c.Nodes(ctx)
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name+"\t"+n.Region)
		}
		return names, err
	})
}

func (r *remote) completeTokens(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.complete(cmd, typed, func(ctx context.Context, c *api.Client) ([]string, error) {
		tokens, err := c.Tokens(ctx)
		var ids []string
		for _, t := range tokens {
			ids = append(ids, t.ID+"\t"+strings.TrimSpace(string(t.Scope)+" "+t.Name))
		}
		return ids, err
	})
}

func (r *remote) completePlans(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return r.complete(cmd, typed, func(ctx context.Context, c *api.Client) ([]string, error) {
		plans, err := c.Plans(ctx)
		var codes []string
		for _, p := range plans {
			codes = append(codes, p.Code+"\t"+p.Description)
		}
		return codes, err
	})
}

// completeRegions gives the regions that have a node; where nobody answers, all that there are. It also completes the
// last of several, behind a comma.
func (r *remote) completeRegions(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	cut := strings.LastIndexByte(typed, ',') + 1
	before, last := typed[:cut], typed[cut:]
	found, _ := r.complete(cmd, last, func(ctx context.Context, c *api.Client) ([]string, error) {
		regions, err := c.Regions(ctx)
		var codes []string
		for _, region := range regions {
			if region.Nodes > 0 && !slices.Contains(strings.Split(before, ","), region.Code) {
				codes = append(codes, region.Code+"\t"+region.City)
			}
		}
		return codes, err
	})
	if len(found) == 0 {
		for _, region := range netconf.Regions() {
			if strings.HasPrefix(region.Code, last) && !slices.Contains(strings.Split(before, ","), region.Code) {
				found = append(found, region.Code+"\t"+region.City)
			}
		}
	}
	for i := range found {
		found[i] = before + found[i]
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeAllRegions is for where a region needs no node yet.
func (r *remote) completeAllRegions(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var found []string
	for _, region := range netconf.Regions() {
		found = append(found, region.Code+"\t"+region.City)
	}
	return startingWith(found, typed), cobra.ShellCompDirectiveNoFileComp
}
