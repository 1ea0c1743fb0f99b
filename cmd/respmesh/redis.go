package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

func newRedis() *cobra.Command {
	r := &remote{}
	return r.bind(family("redis", "Create, change and use databases", `A database has a primary region, which takes the writes, and read regions with a full
copy each. DATABASE is its name, or ORG/NAME where several orgs have one of that name.`,
		redisCreate(r), redisList(r), redisStatus(r), redisPlans(r), redisUpdate(r), redisConnect(r), redisProxy(r),
		redisReset(r), redisFailover(r), redisDestroy(r), redisUsers(r), redisDashboard(r)))
}

// settings are the flags that create and update share.
type settings struct {
	replicas            []string
	noReplicas          bool
	plan                string
	evict, keep         bool
	near, maxLag, hedge time.Duration
	minReplicas         int
	maxMemory           string
	maxSessions         int
	perSecond           int
	concurrency         int
	idleTimeout         time.Duration
	maxValue            string
	engine              string
	cluster             bool
	detach              bool
	changed             func(flag string) bool
	replicasSet         bool // somebody said which, if any
}

func (s *settings) bind(cmd *cobra.Command, r *remote) {
	f := cmd.Flags()
	s.changed = f.Changed
	f.StringSliceVar(&s.replicas, "replica-regions", nil, "read regions, separated by commas")
	f.BoolVar(&s.noReplicas, "no-replicas", false, "no read regions: all reads go to the primary")
	f.StringVar(&s.plan, "plan", "", "free, payg or a size such as 250mb or 1gb; see respmesh redis plans")
	f.BoolVar(&s.evict, "enable-eviction", false, "when memory is full, evict keys: at random those with a TTL, then any")
	f.BoolVar(&s.keep, "disable-eviction", false, "when memory is full, refuse writes")
	f.DurationVar(&s.near, "near", 0, "a replica further away than this isn't read, such as 25ms (0: the node's default)")
	f.DurationVar(&s.maxLag, "max-lag", 0, "a replica further behind than this isn't read (0: no bound)")
	f.DurationVar(&s.hedge, "hedge", 0, "send a read that another node's replica hasn't answered so long after its round trip to a second copy too, such as 20ms (0: never)")
	f.IntVar(&s.minReplicas, "min-replicas", 0, "how many replicas must have a write before it is acknowledged")
	f.StringVar(&s.maxMemory, "max-memory", "", "memory limit such as 512mb (0: the plan's)")
	f.IntVar(&s.maxSessions, "max-sessions", 0, "clients that a node takes at a time (0: 10000)")
	f.IntVar(&s.perSecond, "commands-per-second", 0, "commands that a node takes a second: what is more is delayed (0: no limit)")
	f.IntVar(&s.concurrency, "concurrency", 0, "sessions that a node works for at the same time: the others wait (0: no limit)")
	f.DurationVar(&s.idleTimeout, "idle-timeout", 0, "close sessions that say nothing for longer, such as 1h (0: never)")
	f.StringVar(&s.maxValue, "max-value", "", "limit of one value such as 1mb (0: that of the plan's requests)")
	f.StringVar(&s.engine, "engine", "", "what the primary runs on: embedded, redis (a server that the node runs), or the URL of a Redis or Valkey, redis://host:6379; $RESPMESH_ENGINE_PASSWORD adds its password")
	f.BoolVar(&s.cluster, "cluster", false, "the server of --engine is one of a Redis Cluster")
	f.BoolVar(&s.detach, "detach", false, "don't wait until new regions are in sync")
	_ = cmd.RegisterFlagCompletionFunc("replica-regions", r.completeRegions)
	_ = cmd.RegisterFlagCompletionFunc("plan", r.completePlans)
}

// check finds what contradicts, before anything is asked of anybody.
func (s *settings) check() error {
	switch {
	case s.changed("replica-regions") && s.noReplicas:
		return node.Usagef("--replica-regions and --no-replicas contradict each other")
	case s.evict && s.keep:
		return node.Usagef("--enable-eviction and --disable-eviction contradict each other")
	case s.changed("replica-regions") && len(s.replicas) == 0: // a variable of a script that isn't set would drop copies
		return node.Usagef("--replica-regions is empty; give --no-replicas to have none")
	case s.cluster && !s.changed("engine"):
		return node.Usagef("--cluster is about the server of --engine; give its URL")
	}
	for _, f := range []struct {
		name            string
		negative, empty bool
	}{
		{"near", s.near < 0, false}, {"max-lag", s.maxLag < 0, false}, {"hedge", s.hedge < 0, false}, {"min-replicas", s.minReplicas < 0, false},
		{"max-sessions", s.maxSessions < 0, false}, {"commands-per-second", s.perSecond < 0, false}, {"concurrency", s.concurrency < 0, false},
		{"idle-timeout", s.idleTimeout < 0, false},
		{"plan", false, s.plan == ""}, {"max-memory", false, s.maxMemory == ""}, {"max-value", false, s.maxValue == ""},
	} {
		switch {
		case f.negative:
			return node.Usagef("--%s can't be negative", f.name)
		case f.empty && s.changed(f.name):
			return node.Usagef("--%s is empty", f.name)
		}
	}
	seen := map[string]bool{}
	for i, region := range s.replicas {
		s.replicas[i] = strings.TrimSpace(region)
		if err := checkRegion("--replica-regions", s.replicas[i]); err != nil {
			return err
		}
		if seen[s.replicas[i]] {
			return node.Usagef("--replica-regions: %s is given twice", s.replicas[i])
		}
		seen[s.replicas[i]] = true
	}
	s.replicasSet = s.changed("replica-regions") || s.noReplicas
	return nil
}

// memory is --max-memory in bytes.
func (s *settings) memory() (int64, error) {
	n, ok := parseSize(s.maxMemory)
	if !ok {
		return 0, node.Usagef("--max-memory %q: write it as 512mb or 2gb", s.maxMemory)
	}
	return n, nil
}

// value is --max-value in bytes.
func (s *settings) value() (int64, error) {
	n, ok := parseSize(s.maxValue)
	if !ok {
		return 0, node.Usagef("--max-value %q: write it as 100kb or 1mb", s.maxValue)
	}
	return n, nil
}

// engineOf makes of --engine what the API takes. The password comes from the environment rather than from the command
// line, which others on the machine can read.
func (s *settings) engineOf() (*api.Engine, error) {
	e, err := parseEngine(s.engine)
	if err != nil {
		return nil, err
	}
	if s.cluster {
		if e.URL == "" {
			return nil, node.Usagef("--engine %s and --cluster contradict each other", s.engine)
		}
		e.Kind = netconf.EngineCluster
	}
	return &api.Engine{Kind: e.Kind, URL: e.URL}, nil
}

// parseEngine reads --engine. What is wrong isn't quoted: it may hold a password.
func parseEngine(text string) (netconf.Engine, error) {
	e, err := netconf.ParseEngine(text)
	if err == nil {
		e = e.WithPassword(os.Getenv("RESPMESH_ENGINE_PASSWORD"))
		err = node.CheckEngine(e)
	}
	if err != nil {
		return e, node.Usagef("--engine: want embedded, redis (a server that the node runs), or a URL such as redis://host:6379, rediss://host:6379, unix:///path, redis+sentinel://host:26379?master=name or redis+cluster://host:6379")
	}
	return e, nil
}

// parseSize reads "512mb", "2gb", "100kb" or bytes, by powers of 1024.
func parseSize(text string) (int64, bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	shift := 0
	for i, unit := range []string{"kb", "mb", "gb"} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			text, shift = rest, 10*(i+1)
		}
	}
	var n int64
	if text == "" || len(text) > 15 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if n > (1<<62)>>shift {
		return 0, false
	}
	return n << shift, true
}

func checkRegion(flag, code string) error {
	if _, err := netconf.CheckRegion(code); err != nil {
		return node.Usagef("%s: %v", flag, err)
	}
	return nil
}

func redisList(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the databases", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			dbs, err := c.Databases(cmd.Context(), firstOf(r.org, os.Getenv("RESPMESH_ORG")))
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(dbs))
			}
			var rows [][]string
			for _, d := range dbs {
				rows = append(rows, []string{d.ID, d.Name, d.Org, d.Plan, d.Primary, strings.Join(d.ReadRegions, ",")})
			}
			return table(cmd.OutOrStdout(), []string{"ID", "NAME", "ORG", "PLAN", "PRIMARY REGION", "READ REGIONS"}, rows)
		}),
	}
	cmd.Flags().StringVarP(&r.org, "org", "o", "", "only those of this org (default: $RESPMESH_ORG, else all)")
	_ = cmd.RegisterFlagCompletionFunc("org", r.completeOrgs)
	return cmd
}

func redisPlans(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "plans", Short: "List the plans", Args: noArgs,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, _ []string) error {
			plans, err := c.Plans(cmd.Context())
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(plans))
			}
			var rows [][]string
			for _, p := range plans {
				rows = append(rows, []string{p.Code, limit(p.MaxData), p.Price, p.Description})
			}
			return table(cmd.OutOrStdout(), []string{"NAME", "MAX DATA SIZE", "PRICE", "DESCRIPTION"}, rows)
		}),
	}
}

func redisReset(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reset [DATABASE]", Short: "Give a database a new password", Args: atMost(1, "one database"), ValidArgsFunction: r.completeDatabases,
		Long: "Give the default user of a database a new password and print the new URL. Sessions that are open go on; who connects needs the new one.",
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			made, err := c.ResetDatabase(cmd.Context(), db.Org, db.Name)
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Database %s of org %s has a new password, which isn't shown again.\n\nURL   %s\n", db.Name, db.Org, made.URL)
			return err
		}),
	}
	r.bindOrg(cmd)
	return cmd
}

func redisDestroy(r *remote) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "destroy DATABASE", Short: "Destroy a database and its data in all regions", Args: exactly("DATABASE"), ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			if err := confirm(cmd.Context(), yes, db.Name, "destroys database "+db.Name+" of org "+db.Org+" and its data in all regions"); err != nil {
				return err
			}
			if err := c.DeleteDatabase(cmd.Context(), db.Org, db.Name); err != nil {
				return err
			}
			return r.said(cmd, "destroyed", db.Name, "Your redis database "+db.Name+" was deleted")
		}),
	}
	r.bindOrg(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}
