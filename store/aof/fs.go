package aof

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// FS is what the package needs of a file system. Tests put one that fails in its place.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	Mkdir(name string) error   // with its parents; one that exists is no error
	SyncDir(name string) error // makes the names in it survive a crash
}

// File is an open file.
type File interface {
	io.ReadWriteCloser
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

const (
	writeAppend = os.O_WRONLY | os.O_APPEND
	writeNew    = os.O_WRONLY | os.O_APPEND | os.O_CREATE | os.O_TRUNC
	filePerm    = 0o600
)

// OS is the operating system's file system.
type OS struct{}

// OpenFile implements FS.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // never a nil *os.File in the interface
	}
	return f, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Mkdir implements FS.
func (OS) Mkdir(name string) error { return os.MkdirAll(name, 0o700) }

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a small file.
func readFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// replaceFile puts a file in the place of another so that a crash leaves the old or the new one.
func replaceFile(fsys FS, dir, temp, name string, write func(File) error) error {
	f, err := fsys.OpenFile(temp, writeNew, filePerm)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
