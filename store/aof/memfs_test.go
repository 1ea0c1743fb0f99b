package aof_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"respmesh/store/aof"
)

var errPower = errors.New("the power is off")

// memFS is a file system in memory whose power can fail and whose disk can be full or broken.
type memFS struct {
	mu      sync.Mutex
	live    map[string]*inode // by path
	durable map[string]*inode // what SyncDir has made safe
	off     bool
	space   int64 // left, -1: plenty
	sync    error // of each Sync and each SyncDir
	write   error
	slow    func() // called before each operation, without the lock
	syncs   int
}

type inode struct {
	data   []byte
	synced int
}

func newMemFS() *memFS {
	return &memFS{live: map[string]*inode{}, durable: map[string]*inode{}, space: -1}
}

// set changes what fails.
func (m *memFS) set(change func(*memFS)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// crash ends everything under way, and returns what a machine finds after that: what was synced, and of the rest any part.
func (m *memFS) crash(rng *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
	names := m.durable
	if rng.IntN(2) == 0 {
		names = m.live
	}
	after := newMemFS()
	for name, i := range names {
		n := i.synced + rng.IntN(len(i.data)-i.synced+1)
		data := append([]byte(nil), i.data[:n]...)
		if rng.IntN(4) == 0 {
			data = append(data, make([]byte, rng.IntN(len(i.data)-n+1))...) // its length was written, its data weren't
		}
		file := &inode{data: data, synced: len(data)}
		after.live[name], after.durable[name] = file, file
	}
	return after
}

func (m *memFS) begin() error {
	if m.slow != nil {
		m.slow()
	}
	m.mu.Lock()
	if m.off {
		m.mu.Unlock()
		return errPower
	}
	return nil
}

func (m *memFS) OpenFile(name string, flag int, _ fs.FileMode) (aof.File, error) {
	if err := m.begin(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	i := m.live[name]
	switch {
	case i == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case i == nil && m.space == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	case i == nil:
		i = &inode{}
		m.live[name] = i
	case flag&os.O_TRUNC != 0:
		i.data, i.synced = nil, 0
	}
	return &memFile{m: m, i: i, name: name}, nil
}

func (m *memFS) Rename(from, to string) error {
	if err := m.begin(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.live[from] == nil {
		return fs.ErrNotExist
	}
	m.live[to] = m.live[from]
	delete(m.live, from)
	return nil
}

func (m *memFS) Remove(name string) error {
	if err := m.begin(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.live[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.live, name)
	return nil
}

func (m *memFS) Mkdir(string) error { return nil }

func (m *memFS) SyncDir(dir string) error {
	if err := m.begin(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.sync != nil {
		return m.sync
	}
	maps.DeleteFunc(m.durable, func(name string, _ *inode) bool { return filepath.Dir(name) == dir })
	for name, i := range m.live {
		if filepath.Dir(name) == dir {
			m.durable[name] = i
		}
	}
	return nil
}

type memFile struct {
	m      *memFS
	i      *inode
	name   string
	at     int
	closed bool
}

func (f *memFile) Read(p []byte) (int, error) {
	if err := f.m.begin(); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	if f.at >= len(f.i.data) {
		return 0, io.EOF
	}
	n := copy(p, f.i.data[f.at:])
	f.at += n
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	if err := f.m.begin(); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	if f.m.write != nil {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: f.m.write}
	}
	n := len(p)
	if f.m.space >= 0 {
		n = int(min(int64(n), f.m.space))
		f.m.space -= int64(n)
	}
	f.i.data = append(f.i.data, p[:n]...)
	if n < len(p) {
		return n, &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return n, nil
}

func (f *memFile) Sync() error {
	if err := f.m.begin(); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	switch {
	case f.closed:
		return os.ErrClosed
	case f.m.sync != nil:
		return &fs.PathError{Op: "sync", Path: f.name, Err: f.m.sync}
	}
	f.m.syncs++
	f.i.synced = len(f.i.data)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.m.begin(); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.i.data = f.i.data[:size]
	f.i.synced = min(f.i.synced, int(size))
	return nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.closed = true
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return memInfo{f.name, int64(len(f.i.data))}, nil
}

type memInfo struct {
	name string
	size int64
}

func (i memInfo) Name() string     { return i.name }
func (i memInfo) Size() int64      { return i.size }
func (memInfo) Mode() fs.FileMode  { return 0o600 }
func (memInfo) ModTime() time.Time { return time.Time{} }
func (memInfo) IsDir() bool        { return false }
func (memInfo) Sys() any           { return nil }
