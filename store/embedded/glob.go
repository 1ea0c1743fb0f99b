package embedded

// match tells whether s matches a glob pattern as Redis understands it: * ? [abc] [^abc] [a-z] and \ before a character
// that shall stand for itself. Unlike Redis's it doesn't recurse: a mismatch goes back to the last * only.
func match(p, s []byte, fold bool) bool {
	if len(s) == 0 {
		return len(p) == 0 // Redis doesn't look at the pattern then, not even at a *
	}
	px, sx := 0, 0
	starP, starS := -1, 0
	for sx < len(s) {
		if px < len(p) {
			if p[px] == '*' {
				for px < len(p) && p[px] == '*' {
					px++
				}
				if px == len(p) {
					return true
				}
				starP, starS = px, sx
				continue
			}
			if n, ok := matchOne(p[px:], s[sx], fold); ok {
				px += n
				sx++
				continue
			}
		}
		if starP < 0 {
			return false
		}
		starS++
		px, sx = starP, starS
	}
	for px < len(p) && p[px] == '*' {
		px++
	}
	return px == len(p)
}

// matchOne matches one character against the pattern's next element, which is n bytes long.
func matchOne(p []byte, c byte, fold bool) (n int, ok bool) {
	switch {
	case p[0] == '?':
		return 1, true
	case p[0] == '[':
		return matchClass(p, c, fold)
	case p[0] == '\\' && len(p) >= 2:
		return 2, same(p[1], c, fold)
	}
	return 1, same(p[0], c, fold)
}

func matchClass(p []byte, c byte, fold bool) (n int, ok bool) {
	i := 1
	not := i < len(p) && p[i] == '^'
	if not {
		i++
	}
	for {
		switch {
		case i >= len(p): // not closed: the end closes it
			return i, ok != not
		case p[i] == '\\' && i+1 < len(p):
			i++
			ok = ok || same(p[i], c, fold)
		case p[i] == ']':
			return i + 1, ok != not
		case i+2 < len(p) && p[i+1] == '-':
			lo, hi, v := lower(p[i], fold), lower(p[i+2], fold), lower(c, fold)
			if p[i] > p[i+2] {
				lo, hi = hi, lo
			}
			ok = ok || v >= lo && v <= hi
			i += 2
		default:
			ok = ok || same(p[i], c, fold)
		}
		i++
	}
}

func lower(c byte, fold bool) byte {
	if fold && c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func same(a, b byte, fold bool) bool { return lower(a, fold) == lower(b, fold) }
