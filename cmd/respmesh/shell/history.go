package shell

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const maxHistory = 500

// History keeps the lines typed, also in a file that only its owner may read. Lines with a password aren't kept.
type History struct {
	path  string   // "": only in memory
	lines []string // oldest first
}

// OpenHistory reads a history file. One that can't be read is as good as empty: a prompt without a past still works.
func OpenHistory(path string) *History {
	h := &History{path: path}
	if path == "" {
		return h
	}
	f, err := os.Open(path)
	if err != nil {
		return h
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if lines.Text() != "" {
			h.lines = append(h.lines, lines.Text())
		}
	}
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
	return h
}

// Add keeps a line, unless it repeats the last one or holds a secret.
func (h *History) Add(line string) {
	line = strings.TrimSpace(line)
	if line == "" || holdsSecret(line) || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
}

// Len and At are those of term.History: 0 is the newest line.
func (h *History) Len() int { return len(h.lines) }

// At gives a line; 0 is the newest.
func (h *History) At(i int) string { return h.lines[len(h.lines)-1-i] }

// Save writes the file anew: whole, or not at all.
func (h *History) Save() error {
	if h.path == "" || len(h.lines) == 0 {
		return nil
	}
	dir := filepath.Dir(h.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".history-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(strings.Join(h.lines, "\n") + "\n"); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), h.path)
}

// holdsSecret tells whether a command carries a password, as far as redis-cli's own rule goes.
func holdsSecret(line string) bool {
	words := strings.Fields(strings.ToLower(line))
	if len(words) == 0 {
		return false
	}
	switch words[0] {
	case "auth":
		return true
	case "hello", "migrate":
		return slices.Contains(words, "auth") || slices.Contains(words, "auth2")
	case "acl":
		return len(words) > 1 && words[1] == "setuser"
	case "config":
		return len(words) > 1 && words[1] == "set"
	}
	return false
}
