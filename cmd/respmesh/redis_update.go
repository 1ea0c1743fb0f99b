package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

func redisUpdate(r *remote) *cobra.Command {
	var s settings
	var region string
	cmd := &cobra.Command{
		Use:   "update [DATABASE]",
		Short: "Change a database without downtime",
		Long: `Change the read regions, plan, eviction, limits or engine of a database. Clients go on.
--replica-regions replaces the whole list; --no-replicas clears it.`,
		Example: `  respmesh redis update cart --replica-regions ams,nrt,syd
  respmesh redis update cart --plan 1gb --enable-eviction`,
		Args: atMost(1, "one database"), ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if err := s.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			if !s.any() && !interactive() && region == "" {
				return node.Usagef("nothing to change: give --replica-regions, --no-replicas, --plan, --enable-eviction or another flag; see %s --help", cmd.CommandPath())
			}
			db, err := r.database(ctx, c, args)
			if err != nil {
				return err
			}
			if region != "" && region != db.Primary {
				return node.Usagef("--region: the primary region of %s is %s and can't be changed; create another database in %s and copy the data", db.Name, db.Primary, region)
			}
			if !s.any() && region == "" {
				if err := askForUpdate(ctx, c, &s, db); err != nil {
					return err
				}
			}
			patch, err := s.patch(db)
			if err != nil {
				return err
			}
			changed, err := c.UpdateDatabase(ctx, db.Org, db.Name, patch)
			if err != nil {
				return err
			}
			var waited error
			if !s.detach {
				added := slices.DeleteFunc(slices.Clone(changed.ReadRegions), func(region string) bool { return slices.Contains(db.ReadRegions, region) })
				waited = waitInSync(ctx, c, changed, added, newProgress(cmd.ErrOrStderr()))
				if changed.Pending != nil && waited == nil {
					changed, waited = waitMoved(ctx, c, changed, newProgress(cmd.ErrOrStderr()))
				}
			}
			if r.json {
				err = printJSON(cmd.OutOrStdout(), changed)
			} else {
				err = printUpdated(cmd, db, changed)
			}
			return errors.Join(err, waited)
		}),
	}
	r.bindOrg(cmd)
	s.bind(cmd, r)
	cmd.Flags().StringVarP(&region, "region", "r", "", "")
	_ = cmd.Flags().MarkHidden("region") // known so that the answer can say why not
	return cmd
}

// any tells whether a flag says what to change.
func (s *settings) any() bool {
	return slices.ContainsFunc([]string{"replica-regions", "no-replicas", "plan", "enable-eviction", "disable-eviction", "near", "max-lag", "hedge",
		"min-replicas", "max-memory", "max-sessions", "commands-per-second", "concurrency", "idle-timeout", "max-value", "engine"}, s.changed)
}

// patch is what the flags change.
func (s *settings) patch(db api.Database) (in api.DatabasePatch, err error) {
	if s.replicasSet {
		if slices.Contains(s.replicas, db.Primary) {
			return in, node.Usagef("--replica-regions: %s is the primary region, which has a copy anyway", db.Primary)
		}
		regions := nonNil(s.replicas)
		in.ReadRegions = &regions
	}
	if s.plan != "" {
		in.Plan = &s.plan
	}
	if s.evict || s.keep {
		in.Eviction = &s.evict
	}
	if s.changed("near") {
		d := api.Duration(s.near)
		in.Near = &d
	}
	if s.changed("max-lag") {
		d := api.Duration(s.maxLag)
		in.MaxLag = &d
	}
	if s.changed("hedge") {
		d := api.Duration(s.hedge)
		in.Hedge = &d
	}
	if s.changed("min-replicas") {
		in.MinReplicas = &s.minReplicas
	}
	if s.changed("max-memory") {
		n, err := s.memory()
		if err != nil {
			return in, err
		}
		in.MaxMemory = &n
	}
	if s.changed("max-sessions") {
		in.MaxSessions = &s.maxSessions
	}
	if s.changed("commands-per-second") {
		in.PerSecond = &s.perSecond
	}
	if s.changed("concurrency") {
		in.Concurrency = &s.concurrency
	}
	if s.changed("idle-timeout") {
		d := api.Duration(s.idleTimeout)
		in.IdleTimeout = &d
	}
	if s.changed("max-value") {
		n, err := s.value()
		if err != nil {
			return in, err
		}
		in.MaxValue = &n
	}
	if s.changed("engine") {
		in.Engine, err = s.engineOf()
	}
	return in, err
}

// askForUpdate asks for what is changed most.
func askForUpdate(ctx context.Context, c *api.Client, s *settings, db api.Database) error {
	choices, err := regionChoices(ctx, c)
	if err != nil {
		return err
	}
	choices = slices.DeleteFunc(choices, func(c choice) bool { return c.value == db.Primary })
	if len(choices) > 0 {
		s.replicas, s.replicasSet = slices.Clone(db.ReadRegions), true
		if err := askSome(ctx, &s.replicas, "Read regions (space chooses, enter ends)", choices); err != nil {
			return err
		}
	}
	var policy string
	if err := askPolicy(ctx, &policy); err != nil {
		return err
	}
	s.evict, s.keep = policy == "yes", policy == "no"
	return nil
}

func printUpdated(cmd *cobra.Command, before, after api.Database) error {
	w := cmd.OutOrStdout()
	var rows [][]string
	change := func(what, from, to string) {
		if from != to {
			rows = append(rows, []string{what, from, to})
		}
	}
	change("read regions", strings.Join(before.ReadRegions, ", "), strings.Join(after.ReadRegions, ", "))
	change("plan", before.Plan, after.Plan)
	change("eviction", onOff(before.Eviction), onOff(after.Eviction))
	change("near", before.Near.String(), after.Near.String())
	change("max lag", before.MaxLag.String(), after.MaxLag.String())
	change("hedge", before.Hedge.String(), after.Hedge.String())
	change("min replicas", fmt.Sprint(before.MinReplicas), fmt.Sprint(after.MinReplicas))
	change("memory limit", limit(before.MaxMemory), limit(after.MaxMemory))
	change("max sessions", orDefault(before.MaxSessions), orDefault(after.MaxSessions))
	change("commands per second", orUnlimited(before.PerSecond), orUnlimited(after.PerSecond))
	change("concurrency", orUnlimited(before.Concurrency), orUnlimited(after.Concurrency))
	change("idle timeout", orNever(before.IdleTimeout), orNever(after.IdleTimeout))
	change("value limit", limit(before.MaxValue), limit(after.MaxValue))
	change("engine", engineName(before.Engine), engineName(after.Engine))
	if after.Pending != nil {
		change("engine, wanted", engineName(before.Engine), engineName(*after.Pending))
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintf(w, "Database %s of org %s is as you want it already.\n", after.Name, after.Org)
		return err
	}
	fmt.Fprintf(w, "Database %s of org %s was changed.\n\n", after.Name, after.Org)
	return table(w, []string{"WHAT", "WAS", "IS"}, rows)
}

func orDefault(n int) string {
	if n == 0 {
		return "the node's default"
	}
	return fmt.Sprint(n)
}

func orUnlimited(n int) string {
	if n == 0 {
		return "no limit"
	}
	return fmt.Sprint(n)
}

func orNever(d api.Duration) string {
	if d == 0 {
		return "never"
	}
	return d.String()
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func engineName(e api.Engine) string { return netconf.Engine{Kind: e.Kind, URL: e.URL}.String() }
