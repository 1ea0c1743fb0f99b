package psync

import (
	"fmt"
	"io"
	"os"
)

// spool holds a snapshot between the engine, which writes it fast while its data
// is frozen, and a replica, which takes it as slowly as it likes: in memory up to
// a bound, then in a temporary file without a name.
type spool struct {
	dir    string
	limit  int
	chunks [][]byte // each of spoolChunk, but the last
	mem    int
	file   *os.File
	size   int64
}

const spoolChunk = 256 << 10

// Write keeps p.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.mem+len(p) > s.limit {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	s.size += int64(len(p))
	if s.file != nil {
		return s.file.Write(p)
	}
	s.mem += len(p)
	for rest := p; len(rest) > 0; {
		last := len(s.chunks) - 1
		if last < 0 || len(s.chunks[last]) == cap(s.chunks[last]) {
			s.chunks = append(s.chunks, make([]byte, 0, spoolChunk))
			last++
		}
		c := s.chunks[last]
		k := min(len(rest), cap(c)-len(c))
		s.chunks[last] = append(c, rest[:k]...)
		rest = rest[k:]
	}
	return len(p), nil
}

// spill moves what is in memory to a file.
func (s *spool) spill() error {
	f, err := os.CreateTemp(s.dir, "respmesh-sync-*.rdb")
	if err != nil {
		return fmt.Errorf("spool snapshot: %w", err)
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("spool snapshot: %w", err)
	}
	for _, c := range s.chunks {
		if _, err := f.Write(c); err != nil {
			return fmt.Errorf("spool snapshot: %w", err)
		}
	}
	s.chunks, s.mem = nil, 0
	return nil
}

// copyTo gives everything to w in pieces, each reported to progress.
func (s *spool) copyTo(w io.Writer, progress func(n int)) error {
	for i, c := range s.chunks {
		if _, err := w.Write(c); err != nil {
			return err
		}
		s.chunks[i] = nil
		progress(len(c))
	}
	if s.file == nil {
		return nil
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read spooled snapshot: %w", err)
	}
	buf := make([]byte, spoolChunk)
	for {
		n, err := s.file.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			progress(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read spooled snapshot: %w", err)
		}
	}
}

// close gives memory and file back.
func (s *spool) close() {
	s.chunks = nil
	if s.file != nil {
		_ = s.file.Close()
	}
}
