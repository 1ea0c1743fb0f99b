package api

import (
	"net/url"
	"slices"
	"time"

	"respmesh/netconf"
)

// port is the one that databases answer at.
const port = "6379"

func hostOf(d netconf.Database) string { return d.Name + "." + d.Org + ".internal" }

func urlOf(d netconf.Database, user *url.Userinfo) string {
	u := url.URL{Scheme: "redis", User: user, Host: hostOf(d) + ":" + port}
	return u.String()
}

func databaseOf(d netconf.Database) Database {
	out := Database{
		ID: d.ID, Org: d.Org, Name: d.Name,
		Plan:        d.Plan,
		Primary:     d.Primary,
		ReadRegions: append([]string{}, d.Replicas...),
		Address:     d.Address.String(),
		Host:        hostOf(d),
		URL:         urlOf(d, url.User("default")),
		Eviction:    d.Eviction,
		MaxMemory:   d.MaxMemory,
		Near:        Duration(d.Near),
		MaxLag:      Duration(d.MaxLag),
		Hedge:       Duration(d.Hedge),
		MinReplicas: d.MinReplicas,
		MaxSessions: d.Limits.MaxSessions,
		PerSecond:   d.Limits.CommandsPerSecond,
		Concurrency: d.Limits.Concurrency,
		IdleTimeout: Duration(d.Limits.IdleTimeout),
		MaxValue:    d.Limits.MaxValue,
		Engine:      engineOf(d.Engine),
		Pending:     pendingOf(d),
		Revision:    d.Modified,
	}
	slices.Sort(out.ReadRegions)
	if p, ok := netconf.LookupPlan(d.Plan); ok {
		out.MaxRequest, out.PerDay = p.MaxRequest, p.CommandsPerDay
	}
	if !d.Created.IsZero() {
		out.Created = &d.Created
	}
	return out
}

func engineOf(e netconf.Engine) Engine {
	out := Engine{Kind: e.Kind, URL: e.Redacted()}
	if e.Embedded() {
		out.Kind = netconf.EngineEmbedded
	}
	return out
}

// pendingOf is the engine that a database is on its way to.
func pendingOf(d netconf.Database) *Engine {
	if d.Pending == (netconf.Engine{}) {
		return nil
	}
	e := engineOf(d.Pending)
	return &e
}

func listDatabases(c *call) (any, error) {
	only := c.URL.Query().Get("org")
	if only != "" {
		if !c.who.sees(only) {
			return nil, failf(CodeForbidden, "this token is for org %s; use one for org %s", c.who.org, clip(only))
		}
		if _, ok := c.topo.Org(only); !ok {
			return nil, failf(CodeNotFound, "org %q isn't there; respmesh orgs list shows what is", clip(only))
		}
	}
	l := Databases{Databases: []Database{}, Revision: c.topo.Revision}
	for _, d := range c.topo.Databases {
		if c.who.sees(d.Org) && (only == "" || d.Org == only) {
			l.Databases = append(l.Databases, databaseOf(d))
		}
	}
	return l, nil
}

// database finds the database of the path.
func (c *call) database() (netconf.Database, error) {
	org, name := c.PathValue("org"), c.PathValue("db")
	d, ok := c.topo.Database(org, name)
	if !ok {
		return d, noDatabase(org, name)
	}
	return d, nil
}

func noDatabase(org, name string) error {
	return failf(CodeNotFound, "database %s/%s isn't there; respmesh redis list shows what is", clip(org), clip(name))
}

func getDatabase(c *call) (any, error) {
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	return databaseOf(d), nil
}

func createDatabase(c *call) (any, error) {
	var in DatabaseRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	org, err := c.org()
	if err != nil {
		return nil, err
	}
	db, err := in.database(org.Name)
	if err != nil {
		return nil, err
	}
	password, hash := newSecret()
	db.PasswordHash = hash
	var made netconf.Database
	made.Modified, err = c.update(func(d *netconf.Draft) (err error) {
		if err := roomForDatabase(d, org.Name); err != nil {
			return err
		}
		made, err = d.AddDatabase(db)
		return err
	})
	if err != nil {
		return nil, err
	}
	return withPassword(made, password), nil
}

func withPassword(d netconf.Database, password string) NewDatabase {
	return NewDatabase{Database: databaseOf(d), Password: password, URL: urlOf(d, url.UserPassword("default", password))}
}

// database checks what doesn't depend on the state, and makes the record.
func (in DatabaseRequest) database(org string) (netconf.Database, error) {
	if in.Plan == "" {
		in.Plan = netconf.PlanPayAsYouGo
	}
	if in.Primary == "" {
		return netconf.Database{}, failf(CodeInvalid, "primary_region is missing; respmesh regions list shows what there is")
	}
	db := netconf.Database{
		Org: org, Name: in.Name,
		Primary:     in.Primary,
		Replicas:    in.ReadRegions,
		Plan:        in.Plan,
		Eviction:    in.Eviction,
		MinReplicas: in.MinReplicas,
		Limits: netconf.Limits{
			MaxSessions: in.MaxSessions, CommandsPerSecond: in.PerSecond, Concurrency: in.Concurrency,
			IdleTimeout: time.Duration(in.IdleTimeout), MaxValue: in.MaxValue,
		},
		Created: time.Now().UTC().Truncate(time.Second),
	}
	var err error
	if db.MaxMemory, err = memoryLimit(in.Plan, in.MaxMemory); err != nil {
		return db, err
	}
	if db.Near, err = bounded("near", in.Near); err != nil {
		return db, err
	}
	if db.MaxLag, err = bounded("max_lag", in.MaxLag); err != nil {
		return db, err
	}
	if db.Hedge, err = bounded("hedge", in.Hedge); err != nil {
		return db, err
	}
	if in.Engine != nil {
		db.Engine = in.Engine.record()
	}
	return db, nil
}

// memoryLimit is what a database of a plan gets: the limit asked for, or the plan's.
func memoryLimit(plan string, asked int64) (int64, error) {
	p, err := netconf.CheckPlan(plan)
	switch {
	case err != nil:
		return 0, err
	case asked < 0:
		return 0, failf(CodeInvalid, "max_memory %d is negative; give bytes, or 0 for the plan's", asked)
	case asked == 0:
		return p.MaxData, nil
	case asked > p.MaxData:
		return 0, failf(CodeInvalid, "max_memory %d is more than plan %s allows (%d bytes); ask for less, or take a larger plan", asked, p.Code, p.MaxData)
	}
	return asked, nil
}

// maxDuration bounds near, max_lag and hedge: more is a mistake in the unit.
const maxDuration = time.Hour

func bounded(field string, d Duration) (time.Duration, error) {
	if d < 0 || time.Duration(d) > maxDuration {
		return 0, failf(CodeInvalid, "%s %s has to be between 0s and %s", field, d, maxDuration)
	}
	return time.Duration(d), nil
}

// record is what the registry keeps of an engine, and checks.
func (e Engine) record() netconf.Engine {
	if e.Kind == netconf.EngineEmbedded {
		e.Kind = ""
	}
	return netconf.Engine{Kind: e.Kind, URL: e.URL}
}

func patchDatabase(c *call) (any, error) {
	var in DatabasePatch
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	seen, err := c.database()
	if err != nil {
		return nil, err
	}
	var after netconf.Database
	after.Modified, err = c.update(func(d *netconf.Draft) error {
		db, err := d.Database(seen.Org, seen.Name)
		if err != nil {
			return noDatabase(seen.Org, seen.Name)
		}
		if err := in.apply(db); err != nil {
			return err
		}
		after = *db
		return nil
	})
	if err != nil {
		return nil, err
	}
	return databaseOf(after), nil
}

// apply changes a record.
func (p DatabasePatch) apply(db *netconf.Database) (err error) {
	if p.Primary != nil && *p.Primary != db.Primary {
		return failf(CodeConflict, "the primary region can't change (it is %s); make a new database in %s and copy the data", db.Primary, clip(*p.Primary))
	}
	if p.ReadRegions != nil {
		db.Replicas = slices.Clone(*p.ReadRegions)
	}
	if err := p.limits(db); err != nil {
		return err
	}
	if p.Eviction != nil {
		db.Eviction = *p.Eviction
	}
	if p.Near != nil {
		if db.Near, err = bounded("near", *p.Near); err != nil {
			return err
		}
	}
	if p.MaxLag != nil {
		if db.MaxLag, err = bounded("max_lag", *p.MaxLag); err != nil {
			return err
		}
	}
	if p.Hedge != nil {
		if db.Hedge, err = bounded("hedge", *p.Hedge); err != nil {
			return err
		}
	}
	if p.MinReplicas != nil {
		db.MinReplicas = *p.MinReplicas
	}
	give(&db.Limits.MaxSessions, p.MaxSessions)
	give(&db.Limits.CommandsPerSecond, p.PerSecond)
	give(&db.Limits.Concurrency, p.Concurrency)
	give(&db.Limits.IdleTimeout, (*time.Duration)(p.IdleTimeout))
	give(&db.Limits.MaxValue, p.MaxValue)
	if p.Engine != nil {
		return db.SetEngine(p.Engine.record())
	}
	return nil
}

// give sets what was given.
func give[T any](to, given *T) {
	if given != nil {
		*to = *given
	}
}

// limits changes plan and memory limit. A limit of the database's own stays under another plan as far as that allows
// it; one that is the plan's becomes the new plan's.
func (p DatabasePatch) limits(db *netconf.Database) (err error) {
	plan := db.Plan
	if p.Plan != nil {
		plan = *p.Plan
	}
	switch {
	case p.MaxMemory != nil && plan == "": // made without a plan: nothing bounds it
		if *p.MaxMemory < 0 {
			return failf(CodeInvalid, "max_memory %d is negative; give bytes, or 0 for no limit", *p.MaxMemory)
		}
		db.MaxMemory = *p.MaxMemory
	case p.MaxMemory != nil:
		db.MaxMemory, err = memoryLimit(plan, *p.MaxMemory)
	case p.Plan != nil && plan != db.Plan:
		own := db.MaxMemory
		if before, ok := netconf.LookupPlan(db.Plan); ok && own == before.MaxData {
			own = 0
		}
		var next netconf.Plan
		if next, err = netconf.CheckPlan(plan); err == nil {
			db.MaxMemory = next.MaxData
			if own > 0 {
				db.MaxMemory = min(own, next.MaxData)
			}
		}
	}
	db.Plan = plan
	return err
}

func deleteDatabase(c *call) (any, error) {
	seen, err := c.database()
	if err != nil {
		return nil, err
	}
	_, err = c.update(func(d *netconf.Draft) error {
		return d.RemoveDatabase(seen.Org, seen.Name)
	})
	return nil, err
}

func resetDatabase(c *call) (any, error) {
	seen, err := c.database()
	if err != nil {
		return nil, err
	}
	password, hash := newSecret()
	var after netconf.Database
	after.Modified, err = c.update(func(d *netconf.Draft) error {
		db, err := d.Database(seen.Org, seen.Name)
		if err != nil {
			return noDatabase(seen.Org, seen.Name)
		}
		db.PasswordHash = hash
		after = *db
		return nil
	})
	if err != nil {
		return nil, err
	}
	return withPassword(after, password), nil
}
