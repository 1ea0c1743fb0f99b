package command

import (
	"bytes"
	"testing"
)

// Options are told from what groups, consumers and streams are called.
func TestBlockAt(t *testing.T) {
	for args, want := range map[string]int{
		"XREAD STREAMS s 0":                                      0,
		"XREAD BLOCK 0 STREAMS s $":                              1,
		"xread count 1 block 5 streams s $":                      3,
		"XREAD STREAMS block 0":                                  0,
		"XREADGROUP GROUP g c BLOCK 0 STREAMS s >":               4,
		"XREADGROUP GROUP streams c BLOCK 0 STREAMS s >":         4,
		"XREADGROUP GROUP block streams STREAMS s >":             0,
		"XREADGROUP GROUP group block NOACK BLOCK 1 STREAMS s >": 5,
		"XREAD BLOCK": 1,
		"XREAD GROUP": 0,
	} {
		split := bytes.Fields([]byte(args))
		if got := BlockAt(split); got != want {
			t.Errorf("%s: %d, not %d", args, got, want)
		}
		if got := HasBlock(split); got != (want > 0) {
			t.Errorf("%s: HasBlock says %v", args, got)
		}
	}
}
