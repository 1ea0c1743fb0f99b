package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"respmesh/mesh/wan"
)

// narrow makes packets of more than 1,290 bytes vanish on their way to and from a region, as where a tunnel below has less to give
// and says nothing of it.
func (w *World) narrow(t *testing.T, region string) {
	t.Helper()
	t.Cleanup(func() {
		if err := w.lab.Default(); err != nil {
			t.Error(err)
		}
	})
	for _, d := range distances {
		if d.a != region && d.b != region {
			continue
		}
		c := wan.Conditions{Delay: d.delay, MaxDatagram: 1290}
		if err := errors.Join(w.lab.WAN.Set(d.a, d.b, c), w.lab.WAN.Set(d.b, d.a, c)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNarrowMember: a member of the control plane has nothing but narrow paths to the others. It starts, is needed to elect
// a leader and for changes, and gets whole copies of databases.
func TestNarrowMember(t *testing.T) {
	w := world(t)
	w.settle(t)
	ctx := t.Context()
	member := w.lab.Node("nrt-1")
	s := session(t, w.ShopApp.Host, w.Cart)
	const values, size = 12, 256 << 10
	for i := range values {
		s.want(t, "OK", "SET", fmt.Sprint("large:", i), strings.Repeat(fmt.Sprint(i%10), size))
	}
	member.Kill()
	w.narrow(t, member.Region)
	began := time.Now()
	if err := member.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("a member started on a narrow path in %v", time.Since(began))
	w.settle(t)
	t.Logf("all was well after %v", time.Since(began))

	// Without this one the other two that are left have no majority. If it leads it leads on; else the two elect.
	dead := w.leader(t)
	if dead == member {
		dead = w.lab.Node(order[0])
	}
	dead.Kill()
	began = time.Now()
	long := strings.Repeat("x", 50)
	eventually(t, 20*time.Second, func() error {
		_, err := member.CLI(ctx, "orgs", "create", "narrow-"+long)
		if err != nil && strings.Contains(err.Error(), "already exists") { // an answer was late
			err = nil
		}
		return err
	})
	t.Logf("%s was killed; a change was made %v later", dead.Name, time.Since(began))
	if err := dead.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	w.cli(t, "orgs", "destroy", "narrow-"+long, "--yes")

	w.cli(t, "redis", "update", "cart", "--org", "shop", "--replica-regions", "ams")
	began = time.Now()
	w.cli(t, "redis", "update", "cart", "--org", "shop", "--replica-regions", "ams,nrt")
	w.settle(t)
	t.Logf("a whole copy of %d MB came over a narrow path in %v", values*size>>20, time.Since(began))
	s = session(t, w.ShopApp.Host, w.Cart) // the other one may have been ended with its node
	for i := range values {
		s.want(t, "1", "DEL", fmt.Sprint("large:", i))
	}
	eventually(t, 30*time.Second, func() error {
		list, err := w.lab.NodeList(ctx)
		if err == nil && !slices.ContainsFunc(list, func(n nodeInfo) bool { return n.Name == member.Name && len(n.NarrowPaths) == 4 }) {
			err = fmt.Errorf("nodes list knows of no narrow paths: %+v", list)
		}
		return err
	})
}

// leader is the member that leads the control plane.
func (w *World) leader(t *testing.T) *Node {
	t.Helper()
	var name string
	eventually(t, 30*time.Second, func() error {
		out, err := w.lab.Node("nrt-2").CLI(t.Context(), "control", "members")
		if m := controlLeader.FindStringSubmatch(out); m != nil {
			name = m[1]
		} else if err == nil {
			err = fmt.Errorf("no leader:\n%s", out)
		}
		return err
	})
	return w.lab.Node(name)
}
