package netconf

import (
	"fmt"
	"slices"
	"strings"
)

// Plan is what a database may use. A plan of a fixed size is named by it.
type Plan struct {
	Code           string
	MaxData        int64 // bytes of memory: the limit of a database that has no smaller one of its own
	MaxRequest     int64 // bytes of one command
	CommandsPerDay int64 // 0: no limit
	Price          string
	Description    string
}

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// Codes of the plans without a fixed size.
const (
	PlanFree        = "free"
	PlanPayAsYouGo  = "payg"
	freeCommandsDay = 10_000
)

// plans is the table in the order in which people read it. Sizes and limits of free and payg are the product's
// (256 MB and 10,000 commands a day; requests of at most 10 MB).
var plans = [...]Plan{
	{PlanFree, 256 * mib, 10 * mib, freeCommandsDay, "free", "256 MB, 10,000 commands a day"},
	{PlanPayAsYouGo, 10 * gib, 10 * mib, 0, "$0.20 per 100K commands", "by usage; storage $0.25 a GB and month after 1 GB"},
	{"250mb", 250 * mib, 10 * mib, 0, "$10 a month", "fixed size"},
	{"1gb", gib, 20 * mib, 0, "$20 a month", "fixed size"},
	{"5gb", 5 * gib, 50 * mib, 0, "$100 a month", "fixed size"},
	{"10gb", 10 * gib, 50 * mib, 0, "$200 a month", "fixed size"},
	{"50gb", 50 * gib, 100 * mib, 0, "$400 a month", "fixed size"},
	{"100gb", 100 * gib, 100 * mib, 0, "$800 a month", "fixed size"},
}

// Plans lists all plans, the smallest first.
func Plans() []Plan { return slices.Clone(plans[:]) }

// LookupPlan finds a plan by its code.
func LookupPlan(code string) (Plan, bool) {
	for _, p := range &plans {
		if p.Code == code {
			return p, true
		}
	}
	return Plan{}, false
}

// CheckPlan is LookupPlan with an error that lists the plans.
func CheckPlan(code string) (Plan, error) {
	if p, ok := LookupPlan(code); ok {
		return p, nil
	}
	codes := make([]string, 0, len(plans))
	for _, p := range &plans {
		codes = append(codes, p.Code)
	}
	if len(code) > 32 { // it isn't repeated: it may be a megabyte
		return Plan{}, fmt.Errorf("%w plan: use one of %s", ErrInvalid, strings.Join(codes, ", "))
	}
	return Plan{}, fmt.Errorf("%w plan %q: use one of %s", ErrInvalid, code, strings.Join(codes, ", "))
}

// MemoryLimit is how many bytes a database may hold: its own limit or its plan's; 0: no limit.
func (d *Database) MemoryLimit() int64 {
	if d.MaxMemory > 0 {
		return d.MaxMemory
	}
	p, _ := LookupPlan(d.Plan)
	return p.MaxData
}
