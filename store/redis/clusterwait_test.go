package redis

import (
	"testing"
	"time"

	"respmesh/resp/command"
)

// A command that waits and is sent to where its slot has moved waits there for the rest of its time.
func TestAMoveDoesntBeginATimeOutAnew(t *testing.T) {
	for _, tt := range []struct {
		args []string
		at   int
		want string
	}{
		{[]string{"BLPOP", "a", "b", "100"}, 3, "70.000"},
		{[]string{"blmove", "a", "b", "left", "right", "30.5"}, 5, "0.500"},
		{[]string{"BRPOP", "a", "10"}, 2, "0.001"},
		{[]string{"BZPOPMIN", "a", "0"}, 2, "0"},
		{[]string{"BLMPOP", "31", "1", "a", "LEFT"}, 1, "1.000"},
		{[]string{"XREAD", "COUNT", "1", "BLOCK", "40000", "STREAMS", "s", "$"}, 4, "10000"},
		{[]string{"XREADGROUP", "GROUP", "block", "40000", "STREAMS", "s", ">"}, 3, "40000"},
		{[]string{"XREADGROUP", "GROUP", "g", "c", "BLOCK", "31000", "STREAMS", "s", ">"}, 5, "1000"},
		{[]string{"XREAD", "STREAMS", "block", "7"}, 3, "7"},
		{[]string{"BLPOP", "a", "soon"}, 2, "soon"},
		{[]string{"GET", "a"}, 1, "a"},
	} {
		var r command.Request
		for _, a := range tt.args {
			r.Args = append(r.Args, []byte(a))
		}
		r.Spec = command.Lookup(r.Args)
		if got := string(waited(&r, 30*time.Second).Args[tt.at]); got != tt.want {
			t.Errorf("%v: %s, not %s", tt.args, got, tt.want)
		}
	}
}
