package netconf

import (
	"fmt"
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
