package lab

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestPrimaryAndControlKilled: the node dies that takes the writes and that leads the control plane, too. Another one of the
// region takes over once the other members have elected and the lease has run out. RESPMESH_KILLS says how often.
func TestPrimaryAndControlKilled(t *testing.T) {
	w := world(t)
	kills := 1
	if n, err := strconv.Atoi(os.Getenv("RESPMESH_KILLS")); err == nil && n > 0 {
		kills = n
	}
	var took []time.Duration
	for round := range kills {
		w.settle(t)
		victim := w.lab.Node(order[0])
		w.leadControl(t, victim)
		w.leadWrites(t, victim, w.lab.Node("mad-2"))
		s := session(t, w.Laptop.Host, w.Cart)
		value := strconv.Itoa(round)
		s.want(t, "OK", "SET", "kept", value)
		w.settle(t)
		victim.Kill()
		took = append(took, s.writes(t, 20*time.Second, "after", value))
		t.Logf("writes went on after %v", took[round])
		s.want(t, value, "GET", "kept")
		if err := victim.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.settle(t)
	slices.Sort(took)
	t.Logf("%d kills: median %v, %v to %v", kills, took[kills/2], took[0], took[kills-1])
	if worst := took[kills-1]; worst > 10*time.Second { // 5 s on a calm machine
		t.Errorf("writes went on only after %v", worst)
	}
}

var controlLeader = regexp.MustCompile(`(?m)^(\S+) .*leader +online`)

// leadControl has a member lead the control plane: whoever does instead is started again.
func (w *World) leadControl(t *testing.T, want *Node) {
	t.Helper()
	for range 20 {
		var leader string
		eventually(t, 30*time.Second, func() error {
			out, err := w.lab.Node("nrt-2").CLI(t.Context(), "control", "members")
			if m := controlLeader.FindStringSubmatch(out); m != nil {
				leader = m[1]
			}
			return err
		})
		if leader == want.Name {
			return
		}
		other := w.lab.Node(leader)
		other.Kill()
		if err := other.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.settle(t)
	}
	t.Fatalf("%s doesn't come to lead the control plane", want.Name)
}

// leadWrites has a node take the writes of the cart instead of another.
func (w *World) leadWrites(t *testing.T, want, other *Node) {
	t.Helper()
	if w.primary(t, w.Cart) == want {
		return
	}
	w.cli(t, "nodes", "drain", other.Name)
	eventually(t, 20*time.Second, func() error {
		if now := w.primary(t, w.Cart); now != want {
			return errLeads(now.Name)
		}
		return nil
	})
	w.cli(t, "nodes", "undrain", other.Name)
}

type errLeads string

func (e errLeads) Error() string { return string(e) + " leads" }
