package hosts

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guideHost is a host of docs/hosts.md, on loopback and in a directory of its own.
type guideHost struct {
	dir            string
	udp, http, tls int // ports
}

// TestGuide runs the sh blocks of docs/hosts.md that follow a line <!-- test: HOST -->, in order, each as on that host. Names and
// ports are replaced by those of this machine, systemd by a few lines of shell. The control plane stays with one member:
// several need hosts with loopback addresses of their own.
func TestGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- test: (\\w+) -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 5 {
		t.Fatalf("docs/hosts.md marks %d blocks", len(blocks))
	}
	binary, err := builder.Path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), slower(2*time.Minute))
	defer cancel()
	dir := t.TempDir()
	tools := filepath.Join(dir, "tools")
	for name, text := range map[string]string{
		"sudo":       "exec \"$@\"\n",
		"journalctl": "cat \"$JOURNAL\"\n",
		"systemctl": `case $1 in
stop | restart) kill "$(cat "$JOURNAL.pid")"; while kill -0 "$(cat "$JOURNAL.pid")" 2>/dev/null; do sleep 0.05; done ;;
esac
case $1 in
enable | start | restart)
	set -a; . "$ETC/server.env"; set +a
	nohup setsid ` + binary + ` server $RESPMESH_FLAGS $HERE >"$JOURNAL" 2>&1 </dev/null &
	echo $! >"$JOURNAL.pid"
	for ((i = 0; i < 600; i++)); do grep -q 'is ready' "$JOURNAL" && exit; kill -0 $! || break; sleep 0.1; done
	cat "$JOURNAL"; exit 1 ;;
esac
`,
	} {
		write(t, filepath.Join(tools, name), "#!/bin/bash\n"+text, 0o755)
	}
	if err := os.Symlink(binary, filepath.Join(tools, "respmesh")); err != nil {
		t.Fatal(err)
	}
	hosts := make(map[string]*guideHost)
	for _, b := range blocks {
		if hosts[b[1]] == nil {
			hosts[b[1]] = newGuideHost(t, filepath.Join(dir, b[1]))
		}
	}
	vars := os.Environ() // what the guide has the reader carry from host to host
	for _, b := range blocks {
		h := hosts[b[1]]
		line := 1 + strings.Count(string(page[:strings.Index(string(page), b[2])]), "\n")
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", h.localized(b[2], hosts)+"\nprintf '%s\\n' \"${PIN:-}\" \"${TOKEN:-}\" >\"$HOME/vars\"\n")
		cmd.Dir = filepath.Join(h.dir, "home")
		cmd.Env = append(slices.Clone(vars), "PATH="+tools+":"+os.Getenv("PATH"), "HOME="+cmd.Dir,
			"ETC="+filepath.Join(h.dir, "etc"), "STATE_DIRECTORY="+filepath.Join(h.dir, "var"), "JOURNAL="+filepath.Join(h.dir, "journal"),
			fmt.Sprintf("HERE=--wireguard 127.0.0.1:%d --http %d --tunnel userspace", h.udp, h.http), "RESPMESH_API=http://127.0.0.1:"+strconv.Itoa(h.http))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docs/hosts.md:%d on %s: %v\n%s\n%s", line, b[1], err, b[2], out)
		}
		if carried, err := os.ReadFile(filepath.Join(cmd.Dir, "vars")); err == nil {
			if v := strings.Split(string(carried), "\n"); v[0] != "" {
				vars = append(vars, "PIN="+v[0], "TOKEN="+v[1])
			}
		}
		t.Logf("line %d on %s:\n%s", line, b[1], out)
	}
	for name, h := range hosts {
		if h.running() {
			documented(t, name, h.http)
		}
	}
}

func newGuideHost(t *testing.T, dir string) *guideHost {
	t.Helper()
	h := &guideHost{dir: dir}
	for _, sub := range []string{"etc", "var", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.udp, h.http, h.tls = freePort(t), freePort(t), freePort(t)
	t.Cleanup(func() {
		if pid := h.pid(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			eventually(t, slower(20*time.Second), func() error {
				if syscall.Kill(pid, 0) == nil {
					return fmt.Errorf("%s still runs", dir)
				}
				return nil
			})
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "journal"))
			t.Logf("log of %s:\n%s", dir, log)
		}
	})
	return h
}

func (h *guideHost) pid() int {
	raw, err := os.ReadFile(filepath.Join(h.dir, "journal.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return pid
}

func (h *guideHost) running() bool { return h.pid() > 0 && syscall.Kill(h.pid(), 0) == nil }

// localized puts this machine's places in a block's names.
func (h *guideHost) localized(block string, hosts map[string]*guideHost) string {
	for name, other := range hosts {
		block = strings.ReplaceAll(block, name+".example.org:51820", "127.0.0.1:"+strconv.Itoa(other.udp))
		block = strings.ReplaceAll(block, name+".example.org:17380", "127.0.0.1:"+strconv.Itoa(other.tls))
	}
	return strings.NewReplacer(
		"[::]:17380", "[::]:"+strconv.Itoa(h.tls), " --control-members 3", "",
		"/etc/respmesh", filepath.Join(h.dir, "etc"), "/var/lib/respmesh", filepath.Join(h.dir, "var"),
	).Replace(block)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// documented holds a node's metrics against docs/metrics.md: each is there, with its type and labels.
func documented(t *testing.T, name string, port int) {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics of %s: %s", name, resp.Status)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	families := regexp.MustCompile(`(?m)^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)\n[^{\n]*\{([^}]*)\}`).FindAllSubmatch(text, -1)
	if len(families) < 20 {
		t.Errorf("%s has %d metrics:\n%s", name, len(families), text)
	}
	for _, f := range families {
		var labels []string
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllSubmatch(f[4], -1) {
			if label := string(l[1]); label != "le" {
				labels = append(labels, "`"+label+"`")
			}
		}
		slices.Sort(labels)
		row := fmt.Sprintf("| `%s` | %s | %s | %s |\n", f[1], f[3], strings.Join(labels, ", "), f[2])
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/metrics.md has no row\n%s", row)
		}
	}
}
