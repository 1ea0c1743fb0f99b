package acl

// match tells whether name fits Redis's glob-style pattern: *, ?, [a-c], [^a], \c. It takes at most time in the order of the product of
// both lengths.
func match(pattern string, name []byte) bool {
	if len(name) == 0 {
		return pattern == "" // Redis doesn't look at the pattern then, not even at a *
	}
	p, n := 0, 0
	star, mark := -1, 0 // where to go on when what follows the last star doesn't fit
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if ok, next := matchOne(pattern, p, name[n]); ok {
				p, n = next, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, n = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one character against the element of the pattern at p and returns where the next begins.
func matchOne(pattern string, p int, c byte) (ok bool, next int) {
	switch pattern[p] {
	case '?':
		return true, p + 1
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	case '[':
		return matchSet(pattern, p+1, c)
	}
	return pattern[p] == c, p + 1
}

func matchSet(pattern string, p int, c byte) (ok bool, next int) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	for {
		switch {
		case p+1 < len(pattern) && pattern[p] == '\\':
			p++
			ok = ok || pattern[p] == c
		case p >= len(pattern): // not closed: it ends with the pattern
			return ok != not, p
		case pattern[p] == ']':
			return ok != not, p + 1
		case p+2 < len(pattern) && pattern[p+1] == '-':
			lo, hi := pattern[p], pattern[p+2]
			if lo > hi {
				lo, hi = hi, lo
			}
			ok = ok || lo <= c && c <= hi
			p += 2
		default:
			ok = ok || pattern[p] == c
		}
		p++
	}
}
