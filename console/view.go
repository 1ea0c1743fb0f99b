package console

import (
	"fmt"
	"html/template"
	"math"
	"net"
	"strconv"
	"time"
)

// view is a Status with what the page sums up.
type view struct {
	Status
	Troubles []string // what is wrong, in sentences
	Tiles    []tile
}

type tile struct {
	Label, Value, Of string
	Bad              bool
}

// Command is a line to type, with what it is for.
type Command struct{ What, Line string }

func newView(s Status) view {
	v := view{Status: s}
	var copies, usable, handshakes int
	reachable := map[string]bool{} // regions of several databases count once
	var keys, sessions int64
	var rate float64
	var rated bool
	for _, d := range s.Databases {
		for _, r := range d.Regions {
			if _, seen := reachable[r.Code]; !seen {
				reachable[r.Code] = r.Reachable
				if !r.Reachable {
					v.Troubles = append(v.Troubles, fmt.Sprintf("Region %s can't be reached.", r.Code))
				}
			}
			if r.Role == RoleReplica {
				copies++
				switch {
				case r.Usable:
					usable++
				case r.Reachable:
					v.Troubles = append(v.Troubles, fmt.Sprintf("The replica of %s in %s isn't read from: %s.", d.Name, r.Code, r.State))
				}
			}
			if r.Role == RolePrimary {
				keys += r.Keys
			}
			sessions += r.Sessions
			if r.PerSecond != nil {
				rate += *r.PerSecond
				rated = true
			}
		}
	}
	for _, p := range s.Peers {
		if !stale(p.Handshake) {
			handshakes++
		}
	}
	up := 0
	for _, ok := range reachable {
		if ok {
			up++
		}
	}
	perSecond := "–"
	if rated {
		perSecond = count(rate)
	}
	v.Tiles = []tile{
		{"Regions reachable", strconv.Itoa(up), strconv.Itoa(len(reachable)), up < len(reachable)},
		{"Replicas in sync", strconv.Itoa(usable), strconv.Itoa(copies), usable < copies},
		{"Tunnels up", strconv.Itoa(handshakes), strconv.Itoa(len(s.Peers)), handshakes < len(s.Peers)},
		{"Keys", count(float64(keys)), "", false},
		{"Sessions", count(float64(sessions)), "", false},
		{"Commands per second", perSecond, "", false},
	}
	return v
}

// Connect lists ways to connect to a database.
func (d Database) Connect() []Command {
	var ways []Command
	for _, r := range d.Regions {
		host, port, err := net.SplitHostPort(r.RESP)
		if err != nil {
			continue
		}
		what := "as an app in " + r.Code
		if r.City != "" {
			what += " (" + r.City + ")"
		}
		ways = append(ways, Command{what, "redis-cli -h " + host + " -p " + port})
	}
	if d.DNS != "" {
		ways = append(ways, Command{"by name, inside the private network", "redis-cli -h " + d.DNS})
	}
	if d.Address != "" {
		ways = append(ways, Command{"by address, inside the private network", "redis-cli -h " + d.Address})
	}
	return ways
}

// Bar is the length of a region's RTT bar in per cent of the database's longest, on a scale that keeps short ones
// visible.
func (d Database) Bar(r Region) int {
	longest := time.Duration(0)
	for _, other := range d.Regions {
		longest = max(longest, other.RTT)
	}
	if longest <= 0 || r.RTT < 0 {
		return 0
	}
	return int(math.Round(100 * math.Sqrt(float64(r.RTT)/float64(longest))))
}

// stale tells whether a handshake is older than WireGuard lets a key live (180 s), or never was.
func stale(age time.Duration) bool { return age < 0 || age > 180*time.Second }

var formats = template.FuncMap{
	"millis": millis, "age": age, "bytes": byteCount, "count": func(n any) string {
		switch n := n.(type) {
		case int64:
			return count(float64(n))
		case *float64:
			if n == nil {
				return "–"
			}
			return count(*n)
		}
		return fmt.Sprint(n)
	},
	"stale": stale,
}

func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d < 0:
		return "–"
	case d == 0:
		return "0 ms"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 10_000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return age(d)
}

func age(d time.Duration) string {
	switch {
	case d < 0:
		return "never"
	case d < time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func byteCount(n any) string {
	var f float64
	switch n := n.(type) {
	case int64:
		f = float64(n)
	case uint64:
		f = float64(n)
	}
	if f < 1024 {
		return fmt.Sprintf("%.0f B", f)
	}
	for _, unit := range []string{"KiB", "MiB", "GiB"} {
		if f /= 1024; f < 1023.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.1f TiB", f/1024)
}

// count writes a number so that it fits and doesn't flicker: 7, 950, 12.3k, 4.0M.
func count(f float64) string {
	switch {
	case f < 9.95 && f != math.Trunc(f):
		return fmt.Sprintf("%.1f", f)
	case f < 9999.5:
		return fmt.Sprintf("%.0f", f)
	case f < 999_950:
		return fmt.Sprintf("%.1fk", f/1e3)
	case f < 999_950_000:
		return fmt.Sprintf("%.1fM", f/1e6)
	}
	return fmt.Sprintf("%.1fG", f/1e9)
}
