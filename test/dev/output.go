package dev

import (
	"bytes"
	"strings"
	"sync"
)

// Output keeps what a process prints and tells when its first whole line is there. The zero value works.
type Output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	line chan struct{} // made when somebody asks
	seen bool
}

// Write takes what the process prints.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	if !o.seen && bytes.IndexByte(p, '\n') >= 0 {
		o.seen = true
		close(o.lineLocked())
	}
	return len(p), nil
}

// Line is closed once FirstLine is whole.
func (o *Output) Line() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lineLocked()
}

func (o *Output) lineLocked() chan struct{} {
	if o.line == nil {
		o.line = make(chan struct{})
	}
	return o.line
}

// FirstLine is what was printed before the first line break.
func (o *Output) FirstLine() string {
	line, _, _ := strings.Cut(o.String(), "\n")
	return line
}

// String is all that was printed.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
