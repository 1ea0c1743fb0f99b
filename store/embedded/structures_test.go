package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newRand returns a source whose seed is in the test's log, so that a failure can be repeated.
func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// randomValue mixes integers of all widths with strings of all lengths that the packed encodings tell apart.
func randomValue(r *rand.Rand) []byte {
	switch r.IntN(8) {
	case 0:
		return strconv.AppendInt(nil, int64(r.Uint64())>>r.IntN(64), 10)
	case 1:
		return strconv.AppendInt(nil, int64(r.IntN(200)), 10)
	case 2:
		return fmt.Appendf(nil, "%03d", r.IntN(100)) // leading zeros: not an integer
	case 3:
		return bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(200))
	case 4:
		if r.IntN(20) == 0 {
			return bytes.Repeat([]byte("x"), 4000+r.IntN(6000))
		}
		return []byte{}
	default:
		return fmt.Appendf(nil, "v%d", r.IntN(300))
	}
}

func TestListpackEntries(t *testing.T) {
	values := []string{"", "0", "-0", "00", "1", "-1", "127", "128", "4095", "4096", "-4096", "-4097", "32767", "32768", "-32768",
		"-32769", "8388607", "8388608", "-8388608", "-8388609", "2147483647", "2147483648", "-2147483648", "-2147483649",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "+1", " 1", "1.5",
		strings.Repeat("a", 63), strings.Repeat("b", 64), strings.Repeat("c", 125), strings.Repeat("d", 126), strings.Repeat("e", 4095),
		strings.Repeat("f", 4096), strings.Repeat("g", 20000), strings.Repeat("h", 1<<21)}
	l := newListpack()
	for _, v := range values {
		l = l.push([]byte(v))
	}
	if got := l.count(); got != len(values) {
		t.Fatalf("count %d, want %d", got, len(values))
	}
	if got := int(binary.LittleEndian.Uint32(l)); got != len(l) {
		t.Fatalf("total length %d, want %d", got, len(l))
	}
	p := lpHeader
	for i, want := range values {
		v, next := lpDecode(l, p)
		if got := v.String(); got != want {
			t.Fatalf("entry %d: %.40q, want %.40q", i, got, want)
		}
		if lpSkip(l, p) != next || lpPrev(l, next) != p {
			t.Fatalf("entry %d: skip %d, prev %d, want %d, %d", i, lpSkip(l, p), lpPrev(l, next), next, p)
		}
		if l.seek(i) != p {
			t.Fatalf("seek(%d) = %d, want %d", i, l.seek(i), p)
		}
		if got := l.find([]byte(want), 1); got != p {
			t.Fatalf("find(%.40q) = %d, want %d", want, got, p)
		}
		p = next
	}
	if !l.atEnd(p) {
		t.Fatal("bytes behind the last entry")
	}
}

func TestListpackCountBeyondHeader(t *testing.T) {
	l := newListpack()
	for range 70000 {
		l = l.push([]byte("1"))
	}
	if l.count() != 70000 {
		t.Fatalf("count %d", l.count())
	}
	l = l.remove(lpHeader, 69000)
	if l.count() != 1000 {
		t.Fatalf("count after remove %d", l.count())
	}
}

func TestIntsetAgainstModel(t *testing.T) {
	r := newRand(t)
	for range 50 {
		s := newIntset()
		model := map[int64]bool{}
		shift := 64 - (8 + r.IntN(57))
		for range 300 {
			n := int64(r.Uint64()) >> shift
			if r.IntN(3) > 0 {
				var added bool
				if s, added = s.add(n); added == model[n] {
					t.Fatalf("add(%d)", n)
				}
				model[n] = true
			} else {
				var removed bool
				if s, removed = s.remove(n); removed != model[n] {
					t.Fatalf("remove(%d)", n)
				}
				delete(model, n)
			}
			if s.has(n) != model[n] || s.count() != len(model) {
				t.Fatalf("has(%d) or count %d, want %d", n, s.count(), len(model))
			}
		}
		for i, want := range slices.Sorted(maps.Keys(model)) {
			if s.at(i) != want {
				t.Fatalf("at(%d) = %d, want %d", i, s.at(i), want)
			}
		}
	}
}

func TestDictAgainstModel(t *testing.T) {
	r := newRand(t)
	d := newDict(7, 0, stringKey)
	model := map[string]bool{}
	for phase := range 6 {
		for range 20000 {
			k := strconv.Itoa(r.IntN(15000))
			if add := r.IntN(10); (add < 8) == (phase%2 == 0) {
				if !model[k] {
					d.insert(k)
				}
				model[k] = true
			} else {
				if _, ok := d.remove([]byte(k)); ok != model[k] {
					t.Fatalf("remove %s: %v", k, ok)
				}
				delete(model, k)
			}
			k = strconv.Itoa(r.IntN(15000))
			if f := d.find([]byte(k)); (f != nil) != model[k] || f != nil && *f != k {
				t.Fatalf("find %s: %v", k, f)
			}
			if d.len() != len(model) {
				t.Fatalf("len %d, want %d", d.len(), len(model))
			}
		}
		seen := map[string]int{}
		d.each(func(k string) bool { seen[k]++; return true })
		for k, n := range seen {
			if n != 1 || !model[k] {
				t.Fatalf("each: %s %d times", k, n)
			}
		}
		if len(seen) != len(model) {
			t.Fatalf("each saw %d, want %d", len(seen), len(model))
		}
	}
	for k := range model {
		d.remove([]byte(k))
	}
	if d.len() != 0 || d.chains != 0 || len(d.tables[0])+len(d.tables[1]) > 64 {
		t.Fatalf("empty: len %d, chains %d, buckets %d", d.len(), d.chains, len(d.tables[0]))
	}
}

// What is in the dict from the first to the last call of a scan is seen, whatever comes, goes and is moved meanwhile.
func TestDictScanGuarantee(t *testing.T) {
	r := newRand(t)
	for round := range 60 {
		d := newDict(uint64(round), 0, stringKey)
		stay := map[string]bool{}
		for i := range 200 + r.IntN(800) {
			k := "stay" + strconv.Itoa(i)
			stay[k] = true
			d.insert(k)
		}
		var passing []string
		next := 0
		churn := func() {
			for range r.IntN(400) {
				if round%2 == 0 && next > 20000 {
					return // growing for ever faster than the scan would never end
				}
				if grow := round%2 == 0; grow || len(passing) == 0 {
					k := "pass" + strconv.Itoa(next)
					next++
					d.insert(k)
					passing = append(passing, k)
				} else {
					d.remove([]byte(passing[len(passing)-1]))
					passing = passing[:len(passing)-1]
				}
			}
		}
		if round%2 == 1 {
			for range 20000 {
				k := "pass" + strconv.Itoa(next)
				next++
				d.insert(k)
				passing = append(passing, k)
			}
		}
		seen := map[string]bool{}
		cursor := uint64(0)
		for {
			cursor = d.scan(cursor, func(k string) { seen[k] = true })
			if cursor == 0 {
				break
			}
			churn()
		}
		for k := range stay {
			if !seen[k] {
				t.Fatalf("round %d: %s was there all the time and not seen", round, k)
			}
		}
	}
}

func TestDictRandomIsFair(t *testing.T) {
	d := newDict(3, 0, stringKey)
	for i := range 200 {
		d.insert(strconv.Itoa(i))
	}
	const draws = 200 * 500
	got := map[string]int{}
	for range draws {
		got[d.random()]++
	}
	chi := 0.0
	for i := range 200 {
		diff := float64(got[strconv.Itoa(i)]) - draws/200
		chi += diff * diff / (draws / 200)
	}
	// 199 degrees of freedom: mean 199, deviation 20; nine deviations never happen by chance.
	if chi > 199+9*20 {
		t.Fatalf("chi² %.0f", chi)
	}
}

func TestZSetAgainstModel(t *testing.T) {
	r := newRand(t)
	type member struct {
		name  string
		score float64
	}
	for round := range 30 {
		z := newZSet()
		model := map[string]float64{}
		names := 20 + r.IntN(400)
		scores := []float64{0, 1, -1, 2.5, 0.1, math.Inf(1), math.Inf(-1), 1e300, 3e-5, 1 << 53}
		for range 2000 {
			name := strconv.Itoa(r.IntN(names))
			if r.IntN(2) == 0 {
				name = "m" + name
			}
			switch r.IntN(6) {
			case 0:
				_, ok := model[name]
				if z.remove([]byte(name)) != ok {
					t.Fatalf("remove %s", name)
				}
				delete(model, name)
			case 1:
				if len(model) == 0 || r.IntN(10) > 0 {
					continue
				}
				from := r.IntN(len(model))
				n := 1 + r.IntN(min(5, len(model)-from))
				var gone []string
				z.walk(from, n, false, func(m lpValue, _ float64) bool { gone = append(gone, m.String()); return true })
				z.removeRange(from, n)
				for _, g := range gone {
					delete(model, g)
				}
			default:
				score := scores[r.IntN(len(scores))]
				if r.IntN(2) == 0 {
					score = r.NormFloat64() * 10
				}
				_, had := model[name]
				if z.set([]byte(name), score, 9) == had {
					t.Fatalf("set %s: added %v", name, !had)
				}
				model[name] = score
			}
			if z.len() != len(model) {
				t.Fatalf("len %d, want %d", z.len(), len(model))
			}
		}
		var want []member
		for n, s := range model {
			want = append(want, member{n, s})
		}
		sort.Slice(want, func(i, j int) bool {
			return want[i].score < want[j].score || want[i].score == want[j].score && want[i].name < want[j].name
		})
		for _, z := range []*zset{z, z.clone()} {
			i := 0
			z.each(func(m lpValue, score float64) bool {
				if m.String() != want[i].name || score != want[i].score {
					t.Fatalf("round %d rank %d: %s %v, want %v", round, i, m, score, want[i])
				}
				i++
				return true
			})
			for i, w := range want {
				rank, score, ok := z.rank([]byte(w.name))
				if rank != i || score != w.score || !ok {
					t.Fatalf("rank of %s: %d %v %v, want %d %v", w.name, rank, score, ok, i, w.score)
				}
			}
			i = len(want)
			z.walk(len(want)-1, len(want), true, func(m lpValue, score float64) bool {
				i--
				if m.String() != want[i].name || score != want[i].score {
					t.Fatalf("reverse rank %d: %s %v, want %v", i, m, score, want[i])
				}
				return true
			})
			for _, bound := range scores {
				n := sort.Search(len(want), func(i int) bool { return want[i].score >= bound })
				if got := z.countBefore(func(_ []byte, s float64) bool { return s < bound }); got != n {
					t.Fatalf("countBefore %v: %d, want %d", bound, got, n)
				}
			}
		}
		if z.big != nil {
			checkTree(t, &z.big.tree)
		}
	}
}

// checkTree verifies counts, bounds and the chain of leaves.
func checkTree(t *testing.T, tree *zsetTree) {
	t.Helper()
	var leaves []*treeLeaf
	bytes := 0
	var below func(n treeNode) int
	below = func(n treeNode) (count int) {
		if n.leaf != nil {
			leaves = append(leaves, n.leaf)
			bytes += treeLeafMemory()
			for i := range n.leaf.n {
				if n.leaf.scores[i] != n.leaf.members[i].score {
					t.Fatalf("a leaf has score %v, the member %v", n.leaf.scores[i], n.leaf.members[i].score)
				}
			}
			return n.leaf.n
		}
		b := n.branch
		bytes += treeBranchMemory()
		for i := range b.n {
			from := len(leaves)
			got := below(b.nodes[i])
			if got != b.counts[i] || got == 0 {
				t.Fatalf("%d members below a node that counts %d", got, b.counts[i])
			}
			first, last := leaves[from].members[0], leaves[len(leaves)-1]
			if i > 0 && zbefore(first.score, first.member, b.scores[i], b.members[i]) {
				t.Fatalf("%v %q is before its bound %v %q", first.score, first.member, b.scores[i], b.members[i])
			}
			if m := last.members[last.n-1]; i+1 < b.n && !zbefore(m.score, m.member, b.scores[i+1], b.members[i+1]) {
				t.Fatalf("%v %q isn't before the next bound %v %q", m.score, m.member, b.scores[i+1], b.members[i+1])
			}
			count += got
		}
		return count
	}
	if got := below(tree.root); got != tree.count {
		t.Fatalf("count %d, want %d", tree.count, got)
	}
	if bytes != tree.bytes {
		t.Fatalf("%d bytes counted, want %d", tree.bytes, bytes)
	}
	if leaves[0] != tree.first || leaves[len(leaves)-1] != tree.last {
		t.Fatal("first or last is another leaf")
	}
	for i, l := range leaves {
		if i > 0 && (l.prev != leaves[i-1] || leaves[i-1].next != l) {
			t.Fatalf("leaf %d isn't linked with the one before", i)
		}
	}
}

// TestZSetTreeAgainstModel makes trees of some levels grow and shrink, in and out of order.
func TestZSetTreeAgainstModel(t *testing.T) {
	r := newRand(t)
	for round := range 6 {
		var tree zsetTree
		var all []*zmember
		span := []float64{1, 50, 1e6}[round%3] // many equal scores, or few
		order := func(a, b *zmember) int {
			switch {
			case zbefore(a.score, a.member, b.score, b.member):
				return -1
			case a == b:
				return 0
			}
			return 1
		}
		check := func() {
			t.Helper()
			slices.SortFunc(all, order)
			if len(all) > 0 {
				checkTree(t, &tree)
			}
			at := tree.at(0)
			for i, m := range all {
				if !at.valid() || at.get() != m {
					t.Fatalf("round %d: another member at %d", round, i)
				}
				if i%97 == 0 {
					if got := tree.at(i).get(); got != m {
						t.Fatalf("at(%d)", i)
					}
					if got := tree.rank(m); got != i {
						t.Fatalf("rank %d, want %d", got, i)
					}
					n := tree.countBefore(func(member []byte, score float64) bool {
						return zbefore(score, string(member), m.score, m.member)
					})
					if n != i {
						t.Fatalf("countBefore %d, want %d", n, i)
					}
				}
				at.next(false)
			}
			if at.valid() {
				t.Fatal("more than all")
			}
		}
		next := 0
		for _, phase := range []struct{ steps, adds, removes int }{{12_000, 10, 1}, {9_000, 1, 4}, {3_000, 5, 5}, {12_000, 1, 10}} {
			for range phase.steps {
				switch n := r.IntN(phase.adds + phase.removes + 2); {
				case n < phase.adds:
					m := &zmember{fmt.Sprintf("m%07d", next), math.Floor(r.Float64() * span)}
					if round >= 3 {
						m.score = float64(next)
					}
					next++
					tree.insert(m)
					all = append(all, m)
				case len(all) == 0:
				case n < phase.adds+phase.removes:
					i := r.IntN(len(all))
					tree.remove(all[i])
					all[i] = all[len(all)-1]
					all = all[:len(all)-1]
				default:
					tree.rescore(all[r.IntN(len(all))], math.Floor(r.Float64()*span))
				}
			}
			check()
		}
		for len(all) > 0 {
			i := r.IntN(len(all))
			tree.remove(all[i])
			all = slices.Delete(all, i, i+1)
			if len(all)%500 == 0 {
				check()
			}
		}
	}
}

func TestHashAndSetAgainstModel(t *testing.T) {
	r := newRand(t)
	for range 40 {
		h, s := newHash(), newSet()
		fields, members := map[string]string{}, map[string]bool{}
		names := 5 + r.IntN(600)
		for range 2000 {
			k := strconv.Itoa(r.IntN(names))
			if r.IntN(50) == 0 {
				k = string(randomValue(r))
			}
			_, had := fields[k]
			if r.IntN(3) > 0 {
				v := randomValue(r)
				if h.set([]byte(k), v, 1) == had {
					t.Fatalf("hash set %q", k)
				}
				fields[k] = string(v)
				if s.add([]byte(k), 1) == members[k] {
					t.Fatalf("set add %q", k)
				}
				members[k] = true
			} else {
				if h.remove([]byte(k)) != had || s.remove([]byte(k)) != members[k] {
					t.Fatalf("remove %q", k)
				}
				delete(fields, k)
				delete(members, k)
			}
			if v, ok := h.get([]byte(k)); ok && v.String() != fields[k] || h.len() != len(fields) {
				t.Fatalf("get %q: %q, want %q", k, v, fields[k])
			}
			if s.has([]byte(k)) != members[k] || s.len() != len(members) {
				t.Fatalf("has %q", k)
			}
		}
		for _, h := range []*hashValue{h, h.clone()} {
			got := map[string]string{}
			h.each(func(f, v lpValue) bool { got[f.String()] = v.String(); return true })
			if !maps.Equal(got, fields) {
				t.Fatal("hash each differs")
			}
		}
		for _, s := range []*setValue{s, s.clone()} {
			got := map[string]bool{}
			s.each(func(m lpValue) bool { got[m.String()] = true; return true })
			if !maps.Equal(got, members) {
				t.Fatal("set each differs")
			}
		}
		if len(members) > 0 && !members[s.random().String()] {
			t.Fatal("random isn't a member")
		}
	}
}

func TestListAgainstModel(t *testing.T) {
	r := newRand(t)
	for round := range 60 {
		l := newList()
		var model []string
		for op := range 3000 {
			n := len(model)
			v := randomValue(r)
			switch k := r.IntN(20); {
			case k < 5:
				l.pushFront(v)
				model = slices.Insert(model, 0, string(v))
			case k < 10:
				l.pushBack(v)
				model = append(model, string(v))
			case n == 0:
			case k < 12:
				if got := l.front().String(); got != model[0] {
					t.Fatalf("front %.20q, want %.20q", got, model[0])
				}
				l.dropFront()
				model = model[1:]
			case k < 14:
				if got := l.back().String(); got != model[n-1] {
					t.Fatalf("back %.20q, want %.20q", got, model[n-1])
				}
				l.dropBack()
				model = model[:n-1]
			case k < 16:
				i := r.IntN(n)
				l.set(i, v)
				model[i] = string(v)
			case k < 18:
				i := r.IntN(n + 1)
				l.insert(i, v)
				model = slices.Insert(model, i, string(v))
			case k < 19 && r.IntN(20) == 0:
				i := r.IntN(n)
				count := 1 + r.IntN(n-i)
				l.removeRange(i, count)
				model = slices.Delete(model, i, i+count)
			default:
				limit, reverse := r.IntN(3), r.IntN(2) == 0
				want := 0
				if reverse {
					slices.Reverse(model)
				}
				model = slices.DeleteFunc(model, func(s string) bool {
					if s == string(v) && (limit == 0 || want < limit) {
						want++
						return true
					}
					return false
				})
				if reverse {
					slices.Reverse(model)
				}
				if got := l.removeEqual(v, limit, reverse); got != want {
					t.Fatalf("removeEqual %d, want %d", got, want)
				}
			}
			if l.len() != len(model) {
				t.Fatalf("round %d op %d: len %d, want %d", round, op, l.len(), len(model))
			}
			if len(model) > 0 {
				if i := r.IntN(len(model)); l.at(i).String() != model[i] {
					t.Fatalf("round %d op %d: at(%d) %.20q, want %.20q", round, op, i, l.at(i), model[i])
				}
			}
		}
		for _, l := range []*listValue{l, l.clone()} {
			var got []string
			l.each(func(v lpValue) bool { got = append(got, v.String()); return true })
			if !slices.Equal(got, model) {
				t.Fatal("each differs")
			}
			got = got[:0]
			l.walk(len(model)-1, len(model), true, func(v lpValue) bool { got = append(got, v.String()); return true })
			slices.Reverse(got)
			if !slices.Equal(got, model) {
				t.Fatal("reverse walk differs")
			}
			bytes := 0
			for _, c := range l.live() {
				bytes += cap(c.buf)
			}
			if bytes != l.bytes {
				t.Fatalf("accounted %d bytes, have %d", l.bytes, bytes)
			}
		}
	}
}

func TestListAsQueueStaysSmall(t *testing.T) {
	l := newList()
	for i := range 200000 {
		l.pushFront(strconv.AppendInt(nil, int64(i), 10))
		if i >= 1000 {
			l.dropBack()
		}
	}
	if l.len() != 1000 || l.memory() > 64<<10 {
		t.Fatalf("len %d, memory %d", l.len(), l.memory())
	}
}
