package acl

import "strings"

// Description is what ACL GETUSER says of a user's rules.
type Description struct {
	Flags                    []string
	Commands, Keys, Channels string
	Selectors                []Description // without flags
}

// Describe says the rules in Redis's words.
func (u *User) Describe() Description {
	d := u.root.describe()
	d.Flags = []string{"on"}
	if u.off {
		d.Flags[0] = "off"
	}
	for i := range u.selectors {
		d.Selectors = append(d.Selectors, u.selectors[i].describe())
	}
	return d
}

func (s *selector) describe() (d Description) {
	base := "-@all"
	if s.base {
		base = "+@all"
	}
	d.Commands = strings.Join(append([]string{base}, s.words...), " ")
	var keys []string
	if s.allKeys {
		keys = append(keys, "~*")
	}
	for _, k := range s.keys {
		prefix := map[permission]string{read: "%R~", write: "%W~", read | write: "~"}[k.allows]
		keys = append(keys, prefix+k.pattern)
	}
	d.Keys = strings.Join(keys, " ")
	if s.allChannels {
		d.Channels = "&*"
	} else if len(s.channels) > 0 {
		d.Channels = "&" + strings.Join(s.channels, " &")
	}
	return d
}

// String is the rules as ACL LIST has them. Parse takes it.
func (u *User) String() string {
	state := "on "
	if u.off {
		state = "off "
	}
	text := state + u.root.String()
	for i := range u.selectors {
		text += " (" + u.selectors[i].String() + ")"
	}
	return text
}

func (s *selector) String() string {
	d := s.describe()
	words := []string{d.Keys}
	switch {
	case s.allChannels:
		words = append(words, "&*")
	default:
		words = append(words, "resetchannels", d.Channels)
	}
	return strings.Join(strings.Fields(strings.Join(append(words, d.Commands), " ")), " ")
}
