package embedded

const errLCSTypes = "ERR The specified keys must contain string values"

// lcsMatch is a common run, in both strings, first and last index.
type lcsMatch struct{ a0, a1, b0, b1 int }

func lcsCommand(x *call) {
	a, okA := x.lcsOperand(x.args[1])
	b, okB := x.lcsOperand(x.args[2])
	if !okA || !okB {
		x.err(errLCSTypes)
		return
	}
	var wantLen, wantIdx, withLen bool
	minLen := int64(0)
	for i := 3; i < len(x.args); i++ {
		switch arg := x.args[i]; {
		case is(arg, "IDX"):
			wantIdx = true
		case is(arg, "LEN"):
			wantLen = true
		case is(arg, "WITHMATCHLEN"):
			withLen = true
		case is(arg, "MINMATCHLEN") && i+1 < len(x.args):
			i++
			var ok bool
			if minLen, ok = x.argInt(x.args[i]); !ok {
				return
			}
			minLen = max(minLen, 0)
		default:
			x.syntax()
			return
		}
	}
	if wantLen && wantIdx {
		x.err("ERR If you want both the length and indexes, please just use IDX.")
		return
	}
	if uint64(len(a)+1)*uint64(len(b)+1)*4 > maxString {
		x.err("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
		return
	}
	common, matches, n := lcs(a, b)
	switch {
	case wantLen:
		x.int(int64(n))
	case wantIdx:
		x.lcsMatches(matches, int(minLen), withLen, n)
	default:
		x.bulk(common)
	}
}

func (x *call) lcsOperand(key []byte) ([]byte, bool) {
	o := x.read(key)
	switch {
	case o == nil:
		return nil, true
	case o.kind != kindString:
		return nil, false
	}
	return o.raw0(), true
}

// lcs finds the longest common subsequence, its runs from the last to the first, and its length.
func lcs(a, b []byte) (common []byte, matches []lcsMatch, n int) {
	width := len(b) + 1
	table := make([]uint32, (len(a)+1)*width)
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			if a[i-1] == b[j-1] {
				table[i*width+j] = table[(i-1)*width+j-1] + 1
			} else {
				table[i*width+j] = max(table[(i-1)*width+j], table[i*width+j-1])
			}
		}
	}
	n = int(table[len(table)-1])
	common = make([]byte, n)
	at := n
	var run *lcsMatch
	for i, j := len(a), len(b); i > 0 && j > 0; {
		if a[i-1] != b[j-1] {
			run = nil
			if table[(i-1)*width+j] > table[i*width+j-1] {
				i--
			} else {
				j--
			}
			continue
		}
		at--
		common[at] = a[i-1]
		if run != nil && run.a0 == i && run.b0 == j {
			run.a0, run.b0 = i-1, j-1
		} else {
			matches = append(matches, lcsMatch{i - 1, i - 1, j - 1, j - 1})
			run = &matches[len(matches)-1]
		}
		i--
		j--
	}
	return common, matches, n
}

func (x *call) lcsMatches(matches []lcsMatch, minLen int, withLen bool, n int) {
	kept := matches[:0]
	for _, m := range matches {
		if m.a1-m.a0+1 >= minLen {
			kept = append(kept, m)
		}
	}
	x.mapHeader(2)
	x.bulkString("matches")
	x.array(len(kept))
	for _, m := range kept {
		if withLen {
			x.array(3)
		} else {
			x.array(2)
		}
		x.array(2)
		x.int(int64(m.a0))
		x.int(int64(m.a1))
		x.array(2)
		x.int(int64(m.b0))
		x.int(int64(m.b1))
		if withLen {
			x.int(int64(m.a1 - m.a0 + 1))
		}
	}
	x.bulkString("len")
	x.int(int64(n))
}
