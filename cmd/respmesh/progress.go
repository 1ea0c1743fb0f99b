package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress shows how far long work is: on a terminal one line that is written over, elsewhere at most one line a second,
// and only when it says something new.
type progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	last     string
	at       time.Time
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd())), now: time.Now}
}

// show says how far it is.
func (p *progress) show(line string) {
	if line == p.last {
		return
	}
	now := p.now()
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
	} else if p.last != "" && now.Sub(p.at) < time.Second {
		return
	} else {
		fmt.Fprintln(p.w, line)
	}
	p.last, p.at = line, now
}

// done leaves the line that is written over, for what comes next.
func (p *progress) done() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.last = ""
}
