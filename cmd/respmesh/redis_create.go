package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

func redisCreate(r *remote) *cobra.Command {
	var s settings
	var name, region string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a database",
		Long: `Create a database. On a terminal, what isn't given is asked for. The primary region
can't be changed later; the read regions can, at any time.`,
		Example: `  respmesh redis create --name cart --region mad --replica-regions ams,nrt
  respmesh redis create --name cache --region mad --no-replicas --enable-eviction --plan 250mb`,
		Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			in, err := createRequest(cmd.Context(), c, &s, name, region)
			if err != nil {
				return err
			}
			org, err := r.orgName(cmd.Context(), c, "--org")
			if err != nil {
				return err
			}
			made, err := c.CreateDatabase(cmd.Context(), org, in)
			if err != nil {
				return err
			}
			// The password is shown whatever the waiting comes to: nobody can ask for it again.
			var waited error
			if !s.detach {
				waited = waitInSync(cmd.Context(), c, made.Database, append([]string{made.Database.Primary}, made.Database.ReadRegions...), newProgress(cmd.ErrOrStderr()))
			}
			if r.json {
				err = printJSON(cmd.OutOrStdout(), made)
			} else {
				err = printCreated(cmd.OutOrStdout(), made, waited == nil && !s.detach)
			}
			return errors.Join(err, waited)
		}),
	}
	r.bindOrg(cmd)
	s.bind(cmd, r)
	cmd.Flags().StringVarP(&name, "name", "n", "", "name of the database")
	cmd.Flags().StringVarP(&region, "region", "r", "", "primary region, which takes the writes")
	_ = cmd.RegisterFlagCompletionFunc("region", r.completeRegions)
	return cmd
}

// createRequest puts together what the flags say and what is answered. Where nobody can be asked, the regions have to
// be said: a database without a copy near its readers is nobody's guess.
func createRequest(ctx context.Context, c *api.Client, s *settings, name, region string) (in api.DatabaseRequest, err error) {
	if err := s.check(); err != nil {
		return in, err
	}
	if name != "" {
		if err := netconf.ValidateName(name); err != nil {
			return in, node.Usagef("--name: %v", err)
		}
	}
	if region != "" {
		if err := checkRegion("--region", region); err != nil {
			return in, err
		}
	}
	switch {
	case interactive():
		if err := askForCreate(ctx, c, s, &name, &region); err != nil {
			return in, err
		}
	case name == "":
		return in, missing("--name")
	case region == "":
		return in, missing("--region")
	case !s.replicasSet:
		return in, missing("--replica-regions (or --no-replicas)")
	}
	if slices.Contains(s.replicas, region) {
		return in, node.Usagef("--replica-regions: %s is the primary region, which has a copy anyway", region)
	}
	in = api.DatabaseRequest{
		Name: name, Primary: region, ReadRegions: s.replicas, Plan: s.plan, Eviction: s.evict,
		Near: api.Duration(s.near), MaxLag: api.Duration(s.maxLag), Hedge: api.Duration(s.hedge), MinReplicas: s.minReplicas,
		MaxSessions: s.maxSessions, PerSecond: s.perSecond, Concurrency: s.concurrency, IdleTimeout: api.Duration(s.idleTimeout),
	}
	if s.maxValue != "" {
		if in.MaxValue, err = s.value(); err != nil {
			return in, err
		}
	}
	if s.maxMemory != "" {
		if in.MaxMemory, err = s.memory(); err != nil {
			return in, err
		}
	}
	if s.engine != "" {
		in.Engine, err = s.engineOf()
	}
	return in, err
}

// askForCreate asks for what isn't given.
func askForCreate(ctx context.Context, c *api.Client, s *settings, name, region *string) error {
	if err := askText(ctx, name, "--name", "Name of the database", netconf.ValidateName); err != nil {
		return err
	}
	var choices []choice
	if *region == "" || !s.replicasSet {
		var err error
		if choices, err = regionChoices(ctx, c); err != nil {
			return err
		}
	}
	if err := askOne(ctx, region, "--region", "Primary region (can't be changed later)", choices); err != nil {
		return err
	}
	choices = slices.DeleteFunc(choices, func(c choice) bool { return c.value == *region })
	if !s.replicasSet && len(choices) > 0 {
		if err := askSome(ctx, &s.replicas, "Read regions (space chooses, enter ends)", choices); err != nil {
			return err
		}
	}
	if !s.evict && !s.keep {
		policy := "no"
		if err := askPolicy(ctx, &policy); err != nil {
			return err
		}
		s.evict = policy == "yes"
	}
	if s.plan != "" {
		return nil
	}
	plans, err := c.Plans(ctx)
	if err != nil {
		return err
	}
	var all []choice
	for _, p := range plans {
		all = append(all, choice{p.Code, fmt.Sprintf("%-6s %s", p.Code, p.Description)})
	}
	return askOne(ctx, &s.plan, "--plan", "Plan", all)
}

func askPolicy(ctx context.Context, policy *string) error {
	*policy = ""
	return askOne(ctx, policy, "--enable-eviction or --disable-eviction", "When memory is full", []choice{
		{"no", "refuse writes"}, {"yes", "evict keys: at random those with a TTL, then any"},
	})
}

// regionChoices lists the regions that have a node.
func regionChoices(ctx context.Context, c *api.Client) ([]choice, error) {
	regions, err := c.Regions(ctx)
	if err != nil {
		return nil, err
	}
	var choices []choice
	for _, r := range regions {
		if r.Nodes > 0 {
			choices = append(choices, choice{r.Code, fmt.Sprintf("%s (%s)", r.Code, r.City)})
		}
	}
	if len(choices) == 0 {
		return nil, errors.New("no region has a node yet; see respmesh token create --scope node")
	}
	return choices, nil
}

func printCreated(w io.Writer, made api.NewDatabase, ready bool) error {
	db := made.Database
	where := "primary in " + db.Primary
	if len(db.ReadRegions) > 0 {
		where += ", replicas in " + strings.Join(db.ReadRegions, ", ")
	}
	state := "is ready"
	if !ready {
		state = "was created"
	}
	fmt.Fprintf(w, "Database %s of org %s %s: %s.\n\n", db.Name, db.Org, state, where)
	if err := vertical(w, [][2]string{
		{"URL", made.URL},
		{"Host", db.Host + ", or " + db.Address + ": inside the org's private network, the same in every region"},
		{"Password", "part of the URL; it isn't shown again (respmesh redis reset makes another)"},
	}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nConnect\n  respmesh redis connect %s/%s\n", db.Org, db.Name)
	return err
}
