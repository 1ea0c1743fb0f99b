package embedded

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestHyperLogLog(t *testing.T) {
	vectors(t,
		"pfadd h", "get h", "pfcount h", "get h", "pfadd h a b c d e f g", "get h", "pfcount h", "get h", "pfadd h a", "get h", "pfcount h", "pfadd h \"\" x \"long element of more than eight bytes\"", "get h", "object encoding h",
		"pfcount nokey", "pfcount h nokey", "pfmerge m h nokey", "get m", "pfcount m", "pfmerge m", "get m", "pfmerge new", "get new", "pfcount h m new", "pfadd h", "pfadd h a",
		"set s v", "pfadd s a", "pfcount s", "pfcount h s", "pfmerge m s", "pfmerge s h", "set n 12", "pfadd n a", "rpush l a", "pfadd l a", "pfcount l", "pfmerge l h", "pfmerge h l",
		`set bad "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x00"`, "pfadd bad a", "pfcount bad", "pfcount bad h", "pfmerge m bad", "pfmerge bad h",
		`set bad "HYLL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x00"`, "pfcount bad", `set bad "HYLL\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"`, "pfcount bad",
		`set ok "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"`, "object encoding ok", "pfcount ok", "object encoding ok", "pfadd ok q", "get ok", "append ok x", "pfadd ok q", "pfcount ok",
	)
}

// The bytes are the same while a HyperLogLog grows from empty to dense, whatever the order.
func TestHyperLogLogBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var lines []string
	for _, key := range []string{"a", "b", "c"} {
		for range 150 {
			var elems []string
			for range 1 + rng.IntN(25) {
				elems = append(elems, fmt.Sprint(rng.IntN(1<<20)))
			}
			lines = append(lines, "pfadd "+key+" "+strings.Join(elems, " "), "get "+key)
			if rng.IntN(4) == 0 {
				lines = append(lines, "pfcount "+key, "pfmerge m a "+key, "get m", "pfcount a b c")
			}
		}
	}
	for i := range 40 {
		var elems []string
		for j := range 1000 {
			elems = append(elems, fmt.Sprint("e", i*1000+j))
		}
		lines = append(lines, "pfadd big "+strings.Join(elems, " "), "pfcount big", "get big")
	}
	vectors(t, append(lines, "pfmerge m a big", "get m", "pfmerge small b c", "get small", "pfcount a b c big")...)
}

func TestHyperLogLogPropagation(t *testing.T) {
	stream(t, "pfadd h a b", "pfadd h a", "pfcount h", "pfcount h", "pfmerge d h", "pfadd e", "pfcount h d")
}
