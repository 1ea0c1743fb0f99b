package e2e

import (
	"strconv"
	"testing"
	"time"

	"respmesh/test/dev"
)

// A mesh that is killed while it writes finds all that it has answered when it starts again.
func TestKilledMeshKeepsWhatItAnswered(t *testing.T) {
	dir := t.TempDir()
	answered := 0
	for _, policy := range []string{"everysec", "always"} {
		p, err := launch(t, dev.Options{Args: []string{"--regions", "mad,ams", "--wan", "none", "--data", dir, "--appendfsync", policy}})
		if err != nil {
			t.Fatal(err)
		}
		c := connect(t, p.Region("mad"))
		c.want(strconv.Itoa(answered), "INCRBY", "n", "0")
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); answered++ {
			c.want(strconv.Itoa(answered+1), "INCR", "n")
		}
		p.Kill()
	}
	if answered == 0 {
		t.Fatal("nothing was written")
	}
	again := start(t, "--regions", "mad,ams", "--wan", "none", "--data", dir)
	eventuallyGet(t, again.Region("ams"), 3*time.Second, "n", strconv.Quote(strconv.Itoa(answered)))
}
