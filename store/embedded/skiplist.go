package embedded

import (
	"math/bits"
	"math/rand/v2"
)

// skiplist orders the members of a big sorted set by score, then by bytes. Each link counts the nodes it passes, so
// that ranks are found in O(log n). The lowest level of links lives in the node itself, since three nodes of four
// have no other.
type skiplist struct {
	head  skipNode // not a member; its levels are as many as any node's
	tail  *skipNode
	count int
}

type skipNode struct {
	member string
	score  float64
	prev   *skipNode
	next   *skipNode
	upper  []skipLink // levels 1…
}

type skipLink struct {
	to    *skipNode
	score float64 // of to: most comparisons needn't touch the node
	span  int     // nodes from here to to, to included; to the end if to is nil
}

// before tells whether the link leads to a node before (score, member).
func (l *skipLink) before(score float64, member string) bool {
	return l.to != nil && (l.score < score || l.score == score && l.to.member < member)
}

const skipMaxLevel = 32

// before tells whether n sorts before (score, member).
func (n *skipNode) before(score float64, member string) bool {
	return n.score < score || n.score == score && n.member < member
}

func randomLevel() int {
	// Each level has a quarter of the nodes of the one below: two zero bits of a random number.
	return min(1+bits.TrailingZeros64(rand.Uint64()|1<<62)/2, skipMaxLevel)
}

// skipPath is the last node before a place, on each level, and its rank (1 is the first member, 0 the head).
type skipPath struct {
	node [skipMaxLevel]*skipNode
	rank [skipMaxLevel]int
}

func (s *skiplist) path(p *skipPath, score float64, member string) {
	n, rank := s.upperPath(p, score, member)
	for n.next != nil && n.next.before(score, member) {
		rank++
		n = n.next
	}
	p.node[0], p.rank[0] = n, rank
}

// upperPath is path without the lowest level, where it would go on from n.
func (s *skiplist) upperPath(p *skipPath, score float64, member string) (n *skipNode, rank int) {
	n = &s.head
	for i := len(s.head.upper); i > 0; i-- {
		for l := &n.upper[i-1]; l.before(score, member); l = &n.upper[i-1] {
			rank += l.span
			n = l.to
		}
		p.node[i], p.rank[i] = n, rank
	}
	return n, rank
}

// insert adds a member that isn't there.
func (s *skiplist) insert(score float64, member string) *skipNode {
	n := &skipNode{member: member, score: score}
	s.link(n)
	return n
}

func (s *skiplist) link(n *skipNode) {
	var p skipPath
	s.path(&p, n.score, n.member)
	level := randomLevel()
	for i := len(s.head.upper) + 1; i < level; i++ {
		s.head.upper = append(s.head.upper, skipLink{span: s.count})
		p.node[i], p.rank[i] = &s.head, 0
	}
	if level > 1 {
		n.upper = make([]skipLink, level-1)
	}
	for i := 1; i <= len(s.head.upper); i++ {
		l := &p.node[i].upper[i-1]
		if i < level {
			passed := p.rank[0] - p.rank[i]
			n.upper[i-1] = skipLink{to: l.to, score: l.score, span: l.span - passed}
			*l = skipLink{to: n, score: n.score, span: passed + 1}
		} else {
			l.span++
		}
	}
	n.next = p.node[0].next
	p.node[0].next = n
	if p.node[0] != &s.head {
		n.prev = p.node[0]
	}
	if n.next != nil {
		n.next.prev = n
	} else {
		s.tail = n
	}
	s.count++
}

// remove takes n out.
func (s *skiplist) remove(n *skipNode) {
	var p skipPath
	s.upperPath(&p, n.score, n.member)
	if p.node[0] = n.prev; n.prev == nil { // the nodes know their neighbours: no need to walk there
		p.node[0] = &s.head
	}
	s.unlink(n, &p)
}

func (s *skiplist) unlink(n *skipNode, p *skipPath) {
	for i := 1; i <= len(s.head.upper); i++ {
		l := &p.node[i].upper[i-1]
		if l.to == n {
			span := l.span - 1
			*l = n.upper[i-1]
			l.span += span
		} else {
			l.span--
		}
	}
	p.node[0].next = n.next
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		s.tail = n.prev
	}
	n.next, n.prev, n.upper = nil, nil, nil
	for k := len(s.head.upper); k > 0 && s.head.upper[k-1].to == nil; k-- {
		s.head.upper = s.head.upper[:k-1]
	}
	s.count--
}

// rescore gives n another score, moving it only if the order changes or links know its score.
func (s *skiplist) rescore(n *skipNode, score float64) {
	if n.upper == nil && (n.prev == nil || n.prev.before(score, n.member)) &&
		(n.next == nil || !n.next.before(score, n.member)) {
		n.score = score
		return
	}
	s.remove(n)
	n.score = score
	s.link(n)
}

// rank of n, 0 is the first.
func (s *skiplist) rank(n *skipNode) int {
	var p skipPath
	s.path(&p, n.score, n.member)
	return p.rank[0]
}

// at returns the node with this rank, or nil.
func (s *skiplist) at(rank int) *skipNode {
	if rank < 0 || rank >= s.count {
		return nil
	}
	if rank == s.count-1 {
		return s.tail
	}
	n, left := &s.head, rank+1
	for i := len(s.head.upper); i > 0; i-- {
		for l := &n.upper[i-1]; l.to != nil && l.span <= left; l = &n.upper[i-1] {
			left -= l.span
			n = l.to
		}
	}
	for ; left > 0; left-- {
		n = n.next
	}
	return n
}

// seek returns the number of nodes for which before holds; it must hold for a prefix of the list. The node with
// that rank is the first for which it doesn't hold (nil at the end).
func (s *skiplist) seek(before func(*skipNode) bool) (int, *skipNode) {
	n, rank := &s.head, 0
	for i := len(s.head.upper); i > 0; i-- {
		for l := &n.upper[i-1]; l.to != nil && before(l.to); l = &n.upper[i-1] {
			rank += l.span
			n = l.to
		}
	}
	for n.next != nil && before(n.next) {
		rank++
		n = n.next
	}
	return rank, n.next
}
