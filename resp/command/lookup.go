package command

import "strings"

// The index is an open-addressed hash table of the commands that aren't subcommands.
const (
	indexBits = 10
	indexSize = 1 << indexBits
)

var index, longestName = buildIndex()

func buildIndex() (table [indexSize]uint16, longest int) {
	for i := range specs {
		s := &specs[i]
		if s.parent != s.ID {
			continue
		}
		longest = max(longest, len(s.Name))
		h := hashName(s.Name)
		for table[h] != 0 {
			h = (h + 1) % indexSize
		}
		table[h] = uint16(i + 1)
	}
	return table, longest
}

// hashName hashes without regard to case: the bit by which upper and lower case differ is set in every byte. Equal
// hashes of different names do no harm, as the name is compared.
func hashName[T ~string | ~[]byte](name T) uint32 {
	h := uint32(len(name))
	for i := 0; i < len(name); i++ {
		h = (h ^ uint32(name[i]|0x20)) * 0x01000193
	}
	return (h * 0x9e3779b1) >> (32 - indexBits)
}

// EqualFold compares with a lower-case name as strcasecmp does: only ASCII letters have a case.
func EqualFold[T ~string | ~[]byte](name T, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := 0; i < len(lower); i++ {
		c := name[i]
		if c != lower[i] && (c < 'A' || c > 'Z' || c|0x20 != lower[i]) {
			return false
		}
	}
	return true
}

func find[T ~string | ~[]byte](name T) *Spec {
	if len(name) > longestName {
		return nil
	}
	for h := hashName(name); index[h] != 0; h = (h + 1) % indexSize {
		if s := &specs[index[h]-1]; EqualFold(name, s.Name) {
			return s
		}
	}
	return nil
}

func (s *Spec) findSub(name []byte) *Spec {
	skip := len(s.Name) + 1
	for i := range s.subs {
		if sub := &specs[s.firstSub+i]; EqualFold(name, sub.Name[skip:]) {
			return sub
		}
	}
	return nil
}

// Lookup finds the entry of a command without regard to case, nil if there is none. For a container it returns the
// entry of the subcommand, or the container's own when there is no second argument or no such subcommand: see
// IsContainer.
func Lookup(args [][]byte) *Spec {
	if len(args) == 0 {
		return nil
	}
	s := find(args[0])
	if s == nil || s.subs == 0 || len(args) == 1 {
		return s
	}
	if sub := s.findSub(args[1]); sub != nil {
		return sub
	}
	return s
}

// ByName finds an entry by its name, such as "get" or "client|setname", without regard to case; nil if there is none.
func ByName(name string) *Spec {
	container, sub, ok := strings.Cut(name, "|")
	s := find(container)
	if !ok || s == nil {
		return s
	}
	return s.findSub([]byte(sub))
}
