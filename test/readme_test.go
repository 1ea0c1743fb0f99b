package test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"respmesh/test/dev"
)

// What `respmesh dev` serves by default; the README's commands are written for these.
const (
	firstPort = 16379
	adminPort = 17379
)

// TestREADME runs the sh blocks of the README that follow a line <!-- test -->, in order, against one mesh of the default
// regions on ports of its own. A text block that follows <!-- output --> must be what the block before it printed.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := readmeBlocks(t, string(readme))
	if len(blocks) == 0 {
		t.Fatal("the README marks no commands with <!-- test -->")
	}
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Skip("NOT TESTED: redis-cli is missing; run scripts/install-test-deps")
	}
	var builder dev.Builder
	defer builder.Remove()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	binary, err := builder.Path(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dev.Start(ctx, dev.Options{Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := p.Stop(os.Interrupt, 10*time.Second); err != nil {
			t.Error(err)
		}
	}()
	for _, b := range blocks {
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
			commands := strings.ReplaceAll(withPorts(t, b.commands, p), "bin/respmesh", binary)
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
			cmd.Dir, cmd.Env = "..", append(os.Environ(), "RESPMESH_API="+p.Admin, "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, b.commands, out)
			}
			if b.checked && strings.TrimSpace(string(out)) != strings.TrimSpace(b.output) {
				t.Errorf("%s\nprints\n%s\nwant\n%s", b.commands, out, b.output)
			}
		})
	}
}

type readmeBlock struct {
	line     int
	commands string
	output   string
	checked  bool
}

func readmeBlocks(t *testing.T, text string) []readmeBlock {
	t.Helper()
	var blocks []readmeBlock
	var mark, fence, body string
	begin := 0
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == "```":
			switch {
			case mark == "test" && fence == "```sh":
				blocks = append(blocks, readmeBlock{line: begin, commands: body})
			case mark == "output" && len(blocks) > 0:
				last := &blocks[len(blocks)-1]
				last.output, last.checked = body, true
			case mark != "":
				t.Errorf("README.md:%d: <!-- %s --> can't stand before this block", begin, mark)
			}
			fence, mark, body = "", "", ""
		case fence != "":
			body += line + "\n"
		case strings.HasPrefix(trimmed, "```"):
			fence, begin = trimmed, i+1
		case trimmed == "<!-- test -->", trimmed == "<!-- output -->":
			mark = strings.Trim(trimmed, "<!-> ")
		case trimmed != "":
			mark = ""
		}
	}
	return blocks
}

// withPorts puts the ports of this run in place of the default ones.
func withPorts(t *testing.T, commands string, p *dev.Process) string {
	t.Helper()
	admin, err := url.Parse(p.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`\b1[67]\d{3}\b`).ReplaceAllStringFunc(commands, func(s string) string {
		n, _ := strconv.Atoi(s)
		if i := n - firstPort; i >= 0 && i < len(p.Regions) {
			return p.Regions[i].Port()
		}
		if n == adminPort {
			return admin.Port()
		}
		return s
	})
}
