package aof

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const manifestName = prefix + ".manifest"

// maxManifestLine is Redis's bound for a line.
const maxManifestLine = 1024

// manifest lists the files that count. It is changed by making another one.
type manifest struct {
	base    *part // nil: none
	incr    []part
	history []part // no longer needed

	baseSeq, incrSeq int64 // the highest that were used
}

// part is one file.
type part struct {
	name string
	seq  int64
}

func (m manifest) empty() bool { return m.base == nil && len(m.incr) == 0 }

// files are those to load, in order.
func (m manifest) files() []part {
	var all []part
	if m.base != nil {
		all = append(all, *m.base)
	}
	return append(all, m.incr...)
}

// withIncr adds an incremental file of the name that comes next.
func (m manifest) withIncr() manifest {
	m.incrSeq++
	name := fmt.Sprintf("%s.%d.incr.aof", prefix, m.incrSeq)
	m.incr = append(slices.Clone(m.incr), part{name, m.incrSeq})
	return m
}

// withBase is the manifest once a new base has taken the place of all but the last incremental file.
func (m manifest) withBase() manifest {
	m.baseSeq++
	m.history = slices.Clone(m.history)
	if m.base != nil {
		m.history = append(m.history, *m.base)
	}
	last := len(m.incr) - 1
	m.history = append(m.history, m.incr[:last]...)
	m.incr = slices.Clone(m.incr[last:])
	m.base = &part{fmt.Sprintf("%s.%d.base.rdb", prefix, m.baseSeq), m.baseSeq}
	return m
}

func (m manifest) String() string {
	var b strings.Builder
	line := func(p part, kind byte) {
		name := p.name
		if strings.ContainsAny(name, " \"'\\") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
			name = quote(name)
		}
		fmt.Fprintf(&b, "file %s seq %d type %c\n", name, p.seq, kind)
	}
	if m.base != nil {
		line(*m.base, 'b')
	}
	for _, p := range m.history {
		line(p, 'h')
	}
	for _, p := range m.incr {
		line(p, 'i')
	}
	return b.String()
}

// quote writes a name as sdscatrepr does.
func quote(name string) string {
	b := []byte{'"'}
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = fmt.Appendf(b, `\x%02x`, c)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// write makes m the manifest on disk.
func (m manifest) write(fsys FS, dir string) error {
	err := replaceFile(fsys, dir, filepath.Join(dir, "temp-"+manifestName), filepath.Join(dir, manifestName),
		func(f File) error {
			_, err := io.WriteString(f, m.String())
			return err
		})
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// readManifest reads the file; that there is none is an empty manifest.
func readManifest(fsys FS, name string) (manifest, error) {
	raw, err := readFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{}, nil
	}
	if err != nil {
		return manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	m, err := parseManifest(string(raw))
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// parseManifest is as strict as Redis.
func parseManifest(text string) (m manifest, err error) {
	if text == "" {
		return m, errors.New("the manifest is empty")
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		fail := func(format string, args ...any) (manifest, error) {
			return manifest{}, fmt.Errorf("line %d: %s", n, fmt.Sprintf(format, args...))
		}
		if line[0] == '#' {
			continue
		}
		line, ok := strings.CutSuffix(line, "\n")
		if !ok {
			return fail("the line isn't complete")
		}
		if len(line) >= maxManifestLine {
			return fail("the line is too long")
		}
		p, kind, err := parsePart(strings.Trim(line, " \t\r"))
		if err != nil {
			return fail("%v", err)
		}
		switch kind {
		case "b":
			if m.base != nil {
				return fail("a second base file")
			}
			m.base, m.baseSeq = &p, max(m.baseSeq, p.seq)
		case "h":
			m.history = append(m.history, p)
		case "i":
			if p.seq <= m.incrSeq {
				return fail("sequence number %d after %d", p.seq, m.incrSeq)
			}
			m.incr, m.incrSeq = append(m.incr, p), p.seq
		default:
			return fail("unknown type %q", kind)
		}
	}
	// A file of the history is about to be deleted, so its name can't be used yet.
	for _, p := range m.history {
		m.baseSeq, m.incrSeq = max(m.baseSeq, p.seq), max(m.incrSeq, p.seq)
	}
	return m, nil
}

// parsePart reads one line: names and values in turn, in any order.
func parsePart(line string) (p part, kind string, err error) {
	words, err := splitWords(line)
	if err != nil {
		return p, "", err
	}
	if len(words) < 6 || len(words)%2 != 0 {
		return p, "", errors.New("want file NAME seq N type b|i|h")
	}
	for ; len(words) > 0; words = words[2:] {
		switch strings.ToLower(words[0]) {
		case "file":
			p.name = words[1]
		case "seq":
			if p.seq, err = strconv.ParseInt(words[1], 10, 64); err != nil {
				return p, "", fmt.Errorf("sequence number %q", words[1])
			}
		case "type":
			kind = words[1]
		}
	}
	if p.name == "" || p.name == "." || p.name == ".." || strings.ContainsAny(p.name, `/\`) {
		return p, "", fmt.Errorf("file name %q", p.name)
	}
	if p.seq <= 0 {
		return p, "", fmt.Errorf("sequence number %d", p.seq)
	}
	return p, kind, nil
}

// splitWords splits at spaces; a word in double quotes may have escapes, as in Redis's configuration.
func splitWords(line string) (words []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		if line[0] != '"' {
			end := strings.IndexAny(line, " \t")
			if end < 0 {
				end = len(line)
			}
			words, line = append(words, line[:end]), line[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, errors.New("unbalanced quotes")
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, errors.New("unbalanced quotes")
		}
		words, line = append(words, word), line[len(quoted):]
		if line != "" && line[0] != ' ' && line[0] != '\t' {
			return nil, errors.New("unbalanced quotes")
		}
	}
}
