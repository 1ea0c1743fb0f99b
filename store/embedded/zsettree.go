package embedded

import "unsafe"

// zsetTree orders the members of a big sorted set by score, then by bytes: a B+ tree that counts what is below each branch, so that
// ranks are found in O(log n). Redis has a skiplist. A tree of nodes as wide as some lines of a processor's cache finds a place
// with a fifth of the waiting for memory, and takes less of it.
type zsetTree struct {
	root        treeNode
	first, last *treeLeaf
	count       int
	bytes       int // of leaves and branches
}

// zmember is a member with its score. Only the tree changes the score.
type zmember struct {
	member string
	score  float64
}

const (
	treeSlots = 70 // so that a leaf fills a size of the allocator
	treeSmall = treeSlots / 4
	treeDepth = 12 // more than fits in memory, with treeSmall in each node
)

// treeNode is a *treeLeaf or, if leaf is nil, a *treeBranch.
type treeNode struct {
	leaf   *treeLeaf
	branch *treeBranch
}

// treeLeaf holds members in order. Scores stand apart, since most comparisons need nothing else.
type treeLeaf struct {
	prev, next *treeLeaf
	n          int
	scores     [treeSlots]float64
	members    [treeSlots]*zmember
}

// treeBranch holds nodes of one height. What is below the i-th is not before (scores[i], members[i]) and before the
// next one's; the first has no lower bound. A bound's member may have left the set or got another score.
type treeBranch struct {
	n       int
	scores  [treeSlots]float64
	members [treeSlots]string
	nodes   [treeSlots]treeNode
	counts  [treeSlots]int
}

// treePath is the way to a leaf: the branches from the root down, and which of their nodes was taken.
type treePath struct {
	branch [treeDepth]*treeBranch
	at     [treeDepth]int
	depth  int
}

// before tells whether the first pair sorts before the second.
func zbefore(s1 float64, m1 string, s2 float64, m2 string) bool {
	return s1 < s2 || s1 == s2 && m1 < m2
}

// place is how many members of the leaf are before (score, member).
func (l *treeLeaf) place(score float64, member string) int {
	lo, hi := 0, l.n
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if s := l.scores[mid]; s < score || s == score && l.members[mid].member < member {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// place is the node below which (score, member) belongs.
func (b *treeBranch) place(score float64, member string) int {
	lo, hi := 1, b.n
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if s := b.scores[mid]; s < score || s == score && b.members[mid] <= member {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// descend finds the leaf where (score, member) is or would be.
func (t *zsetTree) descend(p *treePath, score float64, member string) *treeLeaf {
	p.depth = 0
	node := t.root
	for node.leaf == nil {
		b := node.branch
		i := b.place(score, member)
		p.branch[p.depth], p.at[p.depth] = b, i
		p.depth++
		node = b.nodes[i]
	}
	return node.leaf
}

// insert adds a member that isn't there.
func (t *zsetTree) insert(m *zmember) {
	if t.root.leaf == nil && t.root.branch == nil {
		t.first = t.newLeaf()
		t.root, t.last = treeNode{leaf: t.first}, t.first
	}
	var p treePath
	l := t.descend(&p, m.score, m.member)
	for i := range p.depth {
		p.branch[i].counts[p.at[i]]++
	}
	t.count++
	at := l.place(m.score, m.member)
	if l.n == treeSlots {
		half := treeSlots / 2
		if l == t.last && at == l.n {
			half = l.n // members that come in order fill their leaves
		}
		right := t.splitLeaf(l, half)
		if half == treeSlots || at > half {
			l, at = right, at-half
		}
		l.insert(at, m)
		t.grown(&p, treeNode{leaf: right}, right.n, right.scores[0], right.members[0].member)
		return
	}
	l.insert(at, m)
}

func (l *treeLeaf) insert(at int, m *zmember) {
	copy(l.scores[at+1:l.n+1], l.scores[at:l.n])
	copy(l.members[at+1:l.n+1], l.members[at:l.n])
	l.scores[at], l.members[at] = m.score, m
	l.n++
}

func (l *treeLeaf) remove(at int) {
	copy(l.scores[at:l.n-1], l.scores[at+1:l.n])
	copy(l.members[at:l.n-1], l.members[at+1:l.n])
	l.n--
	l.members[l.n] = nil
}

func (t *zsetTree) newLeaf() *treeLeaf {
	t.bytes += treeLeafMemory()
	return &treeLeaf{}
}

func (t *zsetTree) newBranch() *treeBranch {
	t.bytes += treeBranchMemory()
	return &treeBranch{}
}

func treeLeafMemory() int   { return allocatedPointers(int(unsafe.Sizeof(treeLeaf{}))) }
func treeBranchMemory() int { return allocatedPointers(int(unsafe.Sizeof(treeBranch{}))) }

// splitLeaf moves what is from a place on to a new leaf after it.
func (t *zsetTree) splitLeaf(l *treeLeaf, from int) *treeLeaf {
	r := t.newLeaf()
	r.n = copy(r.scores[:], l.scores[from:l.n])
	copy(r.members[:], l.members[from:l.n])
	clear(l.members[from:l.n])
	l.n = from
	r.prev, r.next, l.next = l, l.next, r
	if r.next != nil {
		r.next.prev = r
	} else {
		t.last = r
	}
	return r
}

// grown puts a new node, with so many members from a bound on, after the last of a path.
func (t *zsetTree) grown(p *treePath, node treeNode, count int, score float64, member string) {
	for d := p.depth - 1; d >= 0; d-- {
		b, at := p.branch[d], p.at[d]+1
		b.counts[at-1] -= count
		if b.n < treeSlots {
			b.insert(at, node, count, score, member)
			return
		}
		half := treeSlots / 2
		if at == b.n {
			half = b.n - 1 // as of leaves, but a branch is never empty
		}
		right := t.newBranch()
		right.n = b.n - half
		copy(right.scores[:], b.scores[half:])
		copy(right.members[:], b.members[half:])
		copy(right.nodes[:], b.nodes[half:])
		copy(right.counts[:], b.counts[half:])
		clear(b.members[half:])
		clear(b.nodes[half:])
		b.n = half
		if at > half {
			right.insert(at-half, node, count, score, member)
		} else {
			b.insert(at, node, count, score, member)
		}
		node, count, score, member = treeNode{branch: right}, right.count(), right.scores[0], right.members[0]
	}
	top := t.newBranch()
	top.n, top.nodes[0], top.counts[0] = 1, t.root, t.count-count
	top.insert(1, node, count, score, member)
	t.root = treeNode{branch: top}
}

func (b *treeBranch) insert(at int, node treeNode, count int, score float64, member string) {
	copy(b.scores[at+1:b.n+1], b.scores[at:b.n])
	copy(b.members[at+1:b.n+1], b.members[at:b.n])
	copy(b.nodes[at+1:b.n+1], b.nodes[at:b.n])
	copy(b.counts[at+1:b.n+1], b.counts[at:b.n])
	b.scores[at], b.members[at], b.nodes[at], b.counts[at] = score, member, node, count
	b.n++
}

func (b *treeBranch) remove(at int) {
	copy(b.scores[at:b.n-1], b.scores[at+1:b.n])
	copy(b.members[at:b.n-1], b.members[at+1:b.n])
	copy(b.nodes[at:b.n-1], b.nodes[at+1:b.n])
	copy(b.counts[at:b.n-1], b.counts[at+1:b.n])
	b.n--
	b.members[b.n], b.nodes[b.n] = "", treeNode{}
}

func (b *treeBranch) count() (n int) {
	for _, c := range b.counts[:b.n] {
		n += c
	}
	return n
}

// remove takes a member out.
func (t *zsetTree) remove(m *zmember) {
	var p treePath
	l := t.descend(&p, m.score, m.member)
	t.drop(&p, l, l.place(m.score, m.member))
}

// drop takes out what is at a place of a leaf. Nodes that become small are joined with a neighbour if both fit in one.
func (t *zsetTree) drop(p *treePath, l *treeLeaf, at int) {
	l.remove(at)
	t.count--
	for i := range p.depth {
		p.branch[i].counts[p.at[i]]--
	}
	if l.n >= treeSmall || p.depth == 0 {
		return
	}
	d := p.depth - 1
	b, i := p.branch[d], p.at[d]
	switch {
	case i+1 < b.n && l.n+b.nodes[i+1].leaf.n <= treeSlots:
		t.joinLeaves(b, i)
	case i > 0 && l.n+b.nodes[i-1].leaf.n <= treeSlots:
		t.joinLeaves(b, i-1)
	case l.n == 0: // the only one of its branch
		t.unlink(l)
		b.remove(i)
	default:
		return
	}
	for ; d > 0 && b.n < treeSmall; d-- {
		above, i := p.branch[d-1], p.at[d-1]
		switch {
		case i+1 < above.n && b.n+above.nodes[i+1].branch.n <= treeSlots:
			t.joinBranches(above, i)
		case i > 0 && b.n+above.nodes[i-1].branch.n <= treeSlots:
			t.joinBranches(above, i-1)
		case b.n == 0:
			t.bytes -= treeBranchMemory()
			above.remove(i)
		}
		b = above
	}
	for t.root.leaf == nil && t.root.branch.n <= 1 {
		t.bytes -= treeBranchMemory()
		t.root = t.root.branch.nodes[0]
		if t.root == (treeNode{}) {
			break
		}
	}
}

// unlink takes a leaf out of the chain.
func (t *zsetTree) unlink(l *treeLeaf) {
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		t.first = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		t.last = l.prev
	}
	t.bytes -= treeLeafMemory()
}

// joinLeaves moves what the leaf after the i-th has to the i-th.
func (t *zsetTree) joinLeaves(b *treeBranch, i int) {
	l, r := b.nodes[i].leaf, b.nodes[i+1].leaf
	copy(l.scores[l.n:], r.scores[:r.n])
	copy(l.members[l.n:], r.members[:r.n])
	l.n += r.n
	t.unlink(r)
	b.counts[i] += b.counts[i+1]
	b.remove(i + 1)
}

func (t *zsetTree) joinBranches(b *treeBranch, i int) {
	l, r := b.nodes[i].branch, b.nodes[i+1].branch
	r.scores[0], r.members[0] = b.scores[i+1], b.members[i+1] // the first of a branch has no bound of its own
	copy(l.scores[l.n:], r.scores[:r.n])
	copy(l.members[l.n:], r.members[:r.n])
	copy(l.nodes[l.n:], r.nodes[:r.n])
	copy(l.counts[l.n:], r.counts[:r.n])
	l.n += r.n
	t.bytes -= treeBranchMemory()
	b.counts[i] += b.counts[i+1]
	b.remove(i + 1)
}

// rescore gives a member another score. Where it stays between its neighbours, nothing moves.
func (t *zsetTree) rescore(m *zmember, score float64) {
	var p treePath
	l := t.descend(&p, m.score, m.member)
	at := l.place(m.score, m.member)
	if at > 0 && at < l.n-1 && zbefore(l.scores[at-1], l.members[at-1].member, score, m.member) &&
		zbefore(score, m.member, l.scores[at+1], l.members[at+1].member) {
		l.scores[at], m.score = score, score
		return
	}
	t.drop(&p, l, at)
	m.score = score
	t.insert(m)
}

// zcursor is a place in the order.
type zcursor struct {
	leaf *treeLeaf
	at   int
}

func (c zcursor) valid() bool { return c.leaf != nil }

func (c zcursor) get() *zmember { return c.leaf.members[c.at] }

// next goes to the next member, or to the one before.
func (c *zcursor) next(reverse bool) {
	switch {
	case reverse && c.at > 0:
		c.at--
	case reverse:
		if c.leaf = c.leaf.prev; c.leaf != nil {
			c.at = c.leaf.n - 1
		}
	case c.at+1 < c.leaf.n:
		c.at++
	default:
		c.leaf, c.at = c.leaf.next, 0
	}
}

// at is the place of the member with this rank.
func (t *zsetTree) at(rank int) zcursor {
	if rank < 0 || rank >= t.count {
		return zcursor{}
	}
	node := t.root
	for node.leaf == nil {
		b, i := node.branch, 0
		for rank >= b.counts[i] {
			rank -= b.counts[i]
			i++
		}
		node = b.nodes[i]
	}
	return zcursor{node.leaf, rank}
}

// rank of a member, 0 is the first.
func (t *zsetTree) rank(m *zmember) int {
	var p treePath
	l := t.descend(&p, m.score, m.member)
	rank := l.place(m.score, m.member)
	for d := range p.depth {
		for _, c := range p.branch[d].counts[:p.at[d]] {
			rank += c
		}
	}
	return rank
}

// countBefore is the number of members for which before holds; it must hold for a prefix of the order.
func (t *zsetTree) countBefore(before func(member []byte, score float64) bool) (rank int) {
	node := t.root
	if t.count == 0 {
		return 0
	}
	for node.leaf == nil {
		b := node.branch
		lo, hi := 1, b.n
		for lo < hi {
			if mid := int(uint(lo+hi) / 2); before(bytesOf(b.members[mid]), b.scores[mid]) {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		for _, c := range b.counts[:lo-1] {
			rank += c
		}
		node = b.nodes[lo-1]
	}
	l := node.leaf
	lo, hi := 0, l.n
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); before(bytesOf(l.members[mid].member), l.scores[mid]) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return rank + lo
}
