package command

import "respmesh/resp/frame"

// A Begin says how a key spec finds its first key.
type Begin uint8

const (
	BeginUnknown Begin = iota
	BeginIndex         // at KeySpec.Index
	BeginKeyword       // after KeySpec.Keyword, searched from KeySpec.Index on, from the end if that is negative
)

// A Find says how a key spec finds the rest of its keys.
type Find uint8

const (
	FindUnknown Find = iota
	FindRange        // up to KeySpec.LastKey
	FindKeyNum       // as many as an argument says
)

// A KeySpec is a rule for finding keys among the arguments:
// https://redis.io/docs/latest/develop/reference/key-specs/.
type KeySpec struct {
	Notes   string
	Flags   KeyFlags
	Begin   Begin
	Index   int
	Keyword string
	Find    Find

	LastKey int // FindRange: relative to the first key, or if negative to the end
	Limit   int // FindRange with a negative LastKey: only 1/Limit of the arguments left are keys

	KeyNumIdx int // FindKeyNum: where the number is, relative to the beginning
	FirstKey  int // FindKeyNum: where the first key is, likewise

	Step int
}

// A Key is an argument that is a key.
type Key struct {
	Index int
	Write bool     // the command may change it
	Flags KeyFlags // what the command does with it
}

func key(index int, flags KeyFlags) Key {
	return Key{Index: index, Write: flags&(KeyRW|KeyOW|KeyRM) != 0, Flags: flags}
}

// keysRule is what a command's key specs don't say about its keys.
type keysRule uint8

const (
	keysBySpec   keysRule = iota
	keysAny               // no argument is a key, and yet it is about keys
	keysSort              // SORT key [BY pattern] [GET pattern] [STORE key]
	keysGeo               // GEORADIUS key ... [STORE key] [STOREDIST key]
	keysMigrate           // MIGRATE host port key|"" ... [KEYS key ...]
	keysSet               // SET key value ... [GET]
	keysBitfield          // BITFIELD key [GET ...] [SET ...] [INCRBY ...] [OVERFLOW ...]
)

// AppendKeys appends the keys among args, of which args[0] is the command's name, to dst. False says that these aren't
// all, or that they can't be told: the command has to be treated as if it touched any key. So it is for malformed
// arguments, for commands about all keys (KEYS, FLUSHALL, EXEC), for scripts that declare no keys, and for SORT with
// patterns.
func (s *Spec) AppendKeys(dst []Key, args [][]byte) ([]Key, bool) {
	switch s.keys {
	case keysAny:
		return dst, false
	case keysSort:
		return s.sortKeys(dst, args)
	case keysGeo:
		return s.geoKeys(dst, args)
	case keysMigrate:
		return s.migrateKeys(dst, args)
	}
	n := len(dst)
	dst, all := s.keysBySpec(dst, args)
	if all && s.keys != keysBySpec {
		dst[n] = key(dst[n].Index, s.variableFlags(args))
	}
	return dst, all
}

// variableFlags returns what the arguments of SET and BITFIELD say of their key's use.
func (s *Spec) variableFlags(args [][]byte) KeyFlags {
	if s.keys == keysSet {
		for i := 3; i < len(args); i++ {
			if EqualFold(args[i], "get") {
				return KeyRW | KeyAccess | KeyUpdate
			}
		}
		return KeyOW | KeyUpdate
	}
	for i := 2; i < len(args); i++ {
		switch left := len(args) - i - 1; {
		case left >= 2 && EqualFold(args[i], "get"):
			i += 2
		case left >= 1 && EqualFold(args[i], "overflow"):
			i++
		default:
			return KeyRW | KeyAccess | KeyUpdate
		}
	}
	return KeyRO | KeyAccess
}

// hasKeys reports whether any of the command's arguments may be a key.
func (s *Spec) hasKeys() bool {
	for i := range s.KeySpecs {
		if s.KeySpecs[i].Flags&KeyNotKey == 0 {
			return true
		}
	}
	return false
}

func (s *Spec) keysBySpec(dst []Key, args [][]byte) ([]Key, bool) {
	n := len(dst)
	for i := range s.KeySpecs {
		if s.KeySpecs[i].Flags&KeyNotKey != 0 {
			continue
		}
		var ok bool
		if dst, ok = s.KeySpecs[i].appendKeys(dst, args); !ok {
			return dst[:n], false
		}
	}
	return dst, true
}

func (k *KeySpec) appendKeys(dst []Key, args [][]byte) ([]Key, bool) {
	if k.Flags&KeyIncomplete != 0 {
		return dst, false
	}
	first := k.begin(args)
	if first == len(args) && k.Begin == BeginIndex && k.LastKey == -1 {
		return dst, true // PFMERGE's sources may be none
	}
	if first <= 0 || first >= len(args) {
		return dst, false
	}
	var last int
	switch k.Find {
	case FindRange:
		switch {
		case k.LastKey >= 0:
			last = first + k.LastKey
		case k.Limit == 0:
			last = len(args) + k.LastKey
		default:
			last = first + (len(args)-first)/k.Limit + k.LastKey
		}
	case FindKeyNum:
		at := first + k.KeyNumIdx
		if at >= len(args) {
			return dst, false
		}
		n, ok := frame.ParseInt(args[at])
		if !ok || n <= 0 || n > int64(len(args)) {
			return dst, false
		}
		first += k.FirstKey
		last = first + (int(n)-1)*k.Step
	default:
		return dst, false
	}
	if last < first || last >= len(args) {
		return dst, false
	}
	for i := first; i <= last; i += k.Step {
		dst = append(dst, key(i, k.Flags))
	}
	return dst, true
}

// begin returns where the keys begin, 0 if that isn't found.
func (k *KeySpec) begin(args [][]byte) int {
	switch k.Begin {
	case BeginIndex:
		return k.Index
	case BeginKeyword:
		from, to, step := k.Index, len(args)-1, 1
		if from < 0 {
			from, to, step = len(args)+from, 0, -1
		}
		for i := from; i > 0 && i < len(args) && i != to; i += step {
			if equalFoldUpper(args[i], k.Keyword) {
				return i + 1
			}
		}
	}
	return 0
}

// equalFoldUpper is EqualFold for the upper-case keywords of key specs.
func equalFoldUpper(arg []byte, upper string) bool {
	if len(arg) != len(upper) {
		return false
	}
	for i := 0; i < len(upper); i++ {
		c := arg[i]
		if c >= 'a' && c <= 'z' {
			c &^= 0x20
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// sortKeys finds the keys of SORT and SORT_RO. Patterns name further keys by the elements sorted.
func (s *Spec) sortKeys(dst []Key, args [][]byte) ([]Key, bool) {
	if len(args) < 2 {
		return dst, false
	}
	dst = append(dst, key(1, KeyRO|KeyAccess))
	known, store := true, 0
	for i := 2; i < len(args); i++ {
		switch arg := args[i]; {
		case EqualFold(arg, "limit"):
			i += 2
		case EqualFold(arg, "by"):
			i++
			known = known && i < len(args) && !hasStar(args[i])
		case EqualFold(arg, "get"):
			i++
			known = known && i < len(args) && string(args[i]) == "#"
		case EqualFold(arg, "store") && s.Is(FlagWrite) && i+1 < len(args):
			i++
			store = i // the last one counts
		}
	}
	if store > 0 {
		dst = append(dst, key(store, KeyOW|KeyUpdate))
	}
	return dst, known
}

// hasStar reports whether a BY pattern names keys: without a star it but says not to sort.
func hasStar(pattern []byte) bool {
	for _, c := range pattern {
		if c == '*' {
			return true
		}
	}
	return false
}

// geoKeys finds the keys of GEORADIUS and GEORADIUSBYMEMBER, whose key specs fail when there is nothing to store.
func (s *Spec) geoKeys(dst []Key, args [][]byte) ([]Key, bool) {
	if len(args) < 2 {
		return dst, false
	}
	dst = append(dst, key(1, KeyRO|KeyAccess))
	var store [2]int // the last ones count
	for i := 5; i+1 < len(args); i++ {
		switch {
		case EqualFold(args[i], "store"):
			i++
			store[0] = i
		case EqualFold(args[i], "storedist"):
			i++
			store[1] = i
		}
	}
	for _, i := range store {
		if i > 0 {
			dst = append(dst, key(i, KeyOW|KeyUpdate))
		}
	}
	return dst, true
}

// migrateKeys finds the keys of MIGRATE: one in its place, or with an empty one there, those after KEYS.
func (s *Spec) migrateKeys(dst []Key, args [][]byte) ([]Key, bool) {
	if len(args) < 4 {
		return dst, false
	}
	const flags = KeyRW | KeyAccess | KeyDelete
	for i := 6; i < len(args); i++ {
		switch arg := args[i]; {
		case EqualFold(arg, "auth"):
			i++
		case EqualFold(arg, "auth2"):
			i += 2
		case EqualFold(arg, "keys"):
			if len(args[3]) > 0 {
				return dst, false
			}
			for j := i + 1; j < len(args); j++ {
				dst = append(dst, key(j, flags))
			}
			return dst, i+1 < len(args)
		}
	}
	return append(dst, key(3, flags)), true
}

// HasBlock says whether XREAD or XREADGROUP is given its option BLOCK.
func HasBlock(args [][]byte) bool { return BlockAt(args) > 0 }

// BlockAt is where XREAD or XREADGROUP is given its option BLOCK; 0: it isn't. What groups and consumers are called doesn't matter.
func BlockAt(args [][]byte) int {
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case EqualFold(a, "group"):
			i += 2
		case EqualFold(a, "block"):
			return i
		case EqualFold(a, "streams"):
			return 0
		}
	}
	return 0
}
