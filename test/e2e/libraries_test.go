package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"respmesh/test/dev"
)

// The scripts of test/clients use the client libraries that people use, through each region.
func TestClientLibraries(t *testing.T) {
	p := world(t)
	root, err := dev.Root(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "test", "clients")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		t.Skip("NOT TESTED: the client libraries are missing; run scripts/install-test-deps")
	}
	type region struct {
		Region string `json:"region"`
		Host   string `json:"host"`
		Port   string `json:"port"`
	}
	var regions []region
	for _, r := range p.Regions {
		regions = append(regions, region{r.Code, r.Host(), r.Port()})
	}
	env, err := json.Marshal(regions)
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"ioredis.mjs", "redis.mjs"} {
		t.Run(strings.TrimSuffix(script, ".mjs"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, tool(t, "node"), script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "REGIONS="+string(env))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			} else if n := strings.Count(string(out), "ok "); n < 20 {
				t.Errorf("only %d checks:\n%s", n, out)
			}
		})
	}
}
