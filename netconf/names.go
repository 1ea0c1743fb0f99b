package netconf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ValidateName checks the name of an org, node, database or peer: it is a DNS label that starts with a letter, so
// that `<db>.<org>.internal` is a host name everywhere. Upper case is refused rather than folded: DNS can't tell
// `Demo` from `demo`, and a name that changes on the way in surprises.
func ValidateName(name string) error {
	const rule = "use lower-case letters, digits and dashes, start with a letter, at most 63 characters"
	var reason string
	switch {
	case name == "":
		return fmt.Errorf("%w name: it is empty; %s", ErrInvalid, rule)
	case len(name) > 63:
		// The name itself isn't repeated: it may be a megabyte.
		return fmt.Errorf("%w name: %d characters; %s", ErrInvalid, len(name), rule)
	case name[0] < 'a' || name[0] > 'z':
		reason = "it doesn't start with a lower-case letter"
	case strings.HasSuffix(name, "-"):
		reason = "it ends with a dash"
	}
	for i := 0; i < len(name) && reason == ""; i++ {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			reason = fmt.Sprintf("%q isn't allowed", []rune(name[i:])[0])
		}
	}
	if reason != "" {
		return fmt.Errorf("%w name %q: %s; %s", ErrInvalid, name, reason, rule)
	}
	return nil
}

// Near lists at most three of the names that may have been meant by a wrong one, the likeliest first.
func Near(name string, names []string) []string {
	if name == "" || len(name) > 63 {
		return nil
	}
	type match struct {
		name string
		far  int
	}
	var found []match
	for _, n := range names {
		far := editDistance(name, n)
		if len(name) >= 3 && strings.HasPrefix(n, name) {
			far = min(far, 1)
		}
		// One mistake in a short name, two in a longer one; of a name that is all mistakes nothing can be guessed.
		if far == 0 || far > 2 || far == 2 && len(n) < 6 || far >= len(n) {
			continue
		}
		found = append(found, match{n, far})
	}
	slices.SortFunc(found, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.far, b.far), strings.Compare(a.name, b.name))
	})
	var near []string
	for _, m := range found[:min(3, len(found))] {
		near = append(near, m.name)
	}
	return near
}

// didYouMean ends an error about a name that nothing has: empty, or with a semicolon before.
func didYouMean(name string, names []string) string {
	near := Near(name, names)
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}
