package aof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"

	"respmesh/resp/command"
	"respmesh/resp/frame"
	"respmesh/store/rdb"
)

const (
	// loadBatch bounds how many commands the target gets at once.
	loadBatch = 512
	// keepArgs bounds what a slot keeps for the next batch.
	keepArgs = 1024
	// searchTail is how much of an incomplete end is searched for whole commands.
	searchTail = 16 << 20
	// wholeCommands in an incomplete end, one after the other, show that it isn't one.
	wholeCommands = 3
	// maxString is the longest argument, as for clients.
	maxString = 512 << 20
)

// ErrDamaged is wrapped by the error for files that can't be loaded and aren't merely cut off at their end.
var ErrDamaged = errors.New("append-only file is damaged")

// Loaded is what Load found.
type Loaded struct {
	Commands int64 // executed, beside the base's keys
	Bytes    int64
	Cut      int64 // bytes of an incomplete end that were cut off

	Mark  string // the last one in the last file that has anything; empty: none
	After int64  // bytes of commands after it
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Load hands the data to t. An incomplete end of the last file, as a crash leaves it, is cut off with a warning, and
// with it a transaction that has no EXEC; nothing of either was acknowledged under the policy Always. Anything else that
// can't be read is an error which says where: t then has an unknown part of the data, and the files are as they were.
func (w *Writer) Load(t Target) (Loaded, error) {
	var sum Loaded
	files := w.manifest.files()
	sizes := make([]int64, len(files))
	for i, p := range files {
		size, err := w.stat(p.name)
		if err != nil {
			return sum, fmt.Errorf("load append-only file: %s, which the manifest lists: %w", p.name, err)
		}
		sizes[i] = size
	}
	for i, p := range files {
		if sizes[i] == 0 {
			continue
		}
		l := &loading{w: w, t: t, name: p.name, size: sizes[i]}
		torn, err := l.file()
		sum.Commands += l.commands
		if err != nil {
			return sum, fmt.Errorf("load append-only file: %w", err)
		}
		sum.Bytes += l.good
		sum.Mark, sum.After = l.mark, 0
		if l.mark != "" {
			sum.After = l.good - l.marked
		}
		if torn == "" {
			continue
		}
		for j, later := range files[i+1:] {
			if sizes[i+1+j] > 0 {
				return sum, fmt.Errorf("load append-only file: %w: %s ends at byte %d within a command, and yet %s follows it; "+
					"restore %s from a backup or a replica, or, to give up what came later, make a copy of %s and leave only what precedes",
					ErrDamaged, p.name, l.size, later.name, dirName, dirName)
			}
		}
		if err := w.cut(p.name, l.good); err != nil {
			return sum, fmt.Errorf("load append-only file: cut the incomplete end of %s: %w", p.name, err)
		}
		sum.Cut = l.size - l.good
		w.log.Warn("the append-only file ended within a command; the incomplete end is cut off",
			"file", p.name, "at", l.good, "bytes", sum.Cut, "end", torn)
		sizes[i] = l.good
	}
	var total int64
	for _, n := range sizes {
		total += n
	}
	w.size.Store(total)
	if w.manifest.base != nil {
		w.baseline.Store(sizes[0])
	}
	return sum, nil
}

func (w *Writer) stat(name string) (int64, error) {
	f, err := w.fs.OpenFile(w.path(name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// cut shortens a file.
func (w *Writer) cut(name string, size int64) error {
	f, err := w.fs.OpenFile(w.path(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// loading is one file under way.
type loading struct {
	w    *Writer
	t    Target
	name string
	size int64

	in       *frame.Reader
	start    int64 // of the commands in the file: after an RDB
	reqs     []command.Request
	n        int
	from     int64 // offset of the first command in reqs
	commands int64
	inTx     bool
	tx       int64 // offset of its MULTI
	good     int64 // up to here the file is whole
	mark     string
	marked   int64 // where what it is about begins, less the annotations since
}

// file loads it. torn says how it ends if that isn't after a whole command or transaction.
func (l *loading) file() (torn string, err error) {
	f, err := l.w.fs.OpenFile(l.w.path(l.name), os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var magic [5]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && err != io.ErrUnexpectedEOF {
		return "", fmt.Errorf("%s: %w", l.name, err)
	}
	src := io.MultiReader(bytes.NewReader(magic[:n]), f)
	if string(magic[:n]) == "REDIS" {
		if src, err = l.preamble(src); err != nil {
			return "", err
		}
		if src == nil {
			l.good = l.size
			return "", nil
		}
	}
	l.good = l.start
	l.in = frame.NewReader(src)
	l.in.SetLimits(frame.Limits{Inline: 64 << 10, Bulk: maxString, Args: math.MaxInt32})
	// Each file stands for itself.
	l.add(command.Request{Spec: command.ByName("select"), Command: frame.Command{Args: [][]byte{[]byte("SELECT"), []byte("0")}}}, l.start)
	torn, err = l.stream()
	if err == nil && torn != "" && l.inTx {
		// Leave nothing queued in the target.
		l.add(command.Request{Spec: command.ByName("discard"), Command: frame.Command{Args: [][]byte{[]byte("DISCARD")}}}, l.good)
		err = l.apply()
	}
	return torn, err
}

// preamble loads an RDB at the beginning of the file, and returns a reader for what follows, nil if nothing can.
func (l *loading) preamble(src io.Reader) (io.Reader, error) {
	damaged := func(err error) error {
		return fmt.Errorf("%w: %s: %w; redis-check-rdb %s tells more, and a replica or a backup may have the data",
			ErrDamaged, l.name, err, l.w.path(l.name))
	}
	if strings.HasSuffix(l.name, ".rdb") {
		if err := l.t.Restore(src); err != nil {
			return nil, damaged(err)
		}
		return nil, nil
	}
	// Only a decoder knows where it ends, and the target's may read beyond: so decode it first for its length alone.
	end, err := l.rdbSize()
	if err != nil {
		return nil, damaged(err)
	}
	if err := l.t.Restore(io.LimitReader(src, end)); err != nil {
		return nil, damaged(err)
	}
	l.start = end
	return src, nil
}

func (l *loading) rdbSize() (int64, error) {
	f, err := l.w.fs.OpenFile(l.w.path(l.name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := rdb.NewReader(f)
	for {
		if _, err := r.Next(); err == io.EOF {
			return r.Offset(), nil
		} else if err != nil {
			return 0, err
		}
	}
}

// stream loads commands up to the end of the file.
func (l *loading) stream() (torn string, err error) {
	for {
		at := l.start + l.in.Consumed()
		if b := l.in.Buffered(); len(b) > 0 {
			more, err := l.next(b, at)
			if err != nil {
				return l.broken(at, err)
			}
			if more {
				continue
			}
		}
		if err := l.apply(); err != nil {
			return "", err
		}
		if err := l.in.Fill(); err == io.EOF {
			break
		} else if err != nil {
			return "", fmt.Errorf("%s at byte %d: %w", l.name, at, err)
		}
	}
	at := l.start + l.in.Consumed()
	switch rest := l.in.Buffered(); {
	case len(rest) > 0 && followed(rest):
		return l.broken(at, errors.New("a command that isn't whole is followed by others"))
	case l.inTx:
		return "transaction without EXEC", nil
	case len(rest) > 0:
		return "incomplete command", nil
	}
	return "", nil
}

// next takes the next command, or annotation, that is buffered; more is false if that isn't whole.
func (l *loading) next(b []byte, at int64) (more bool, err error) {
	switch {
	case b[0] == '#': // an annotation, up to the end of the line
		if bytes.IndexByte(b, '\n') < 0 {
			if len(b) > 64<<10 {
				return false, errors.New("annotation without an end")
			}
			return false, nil
		}
		line, err := l.in.ReadLine()
		if err != nil {
			return false, err
		}
		if text, ok := strings.CutPrefix(string(line), markPrefix); ok {
			l.mark, l.marked = text, l.start+l.in.Consumed()
		} else {
			l.marked += l.start + l.in.Consumed() - at
		}
		l.advance()
		return true, nil
	case b[0] != '*' || len(b) > 1 && (b[1] < '1' || b[1] > '9'):
		return false, fmt.Errorf("want a command, got %.16q", b)
	case l.n == loadBatch:
		if err := l.apply(); err != nil {
			return false, err
		}
	}
	if l.n == len(l.reqs) {
		l.reqs = append(l.reqs, command.Request{})
	}
	q := &l.reqs[l.n]
	ok, err := l.in.NextCommand(&q.Command)
	if !ok || err != nil {
		return false, err
	}
	if q.Spec = command.Lookup(q.Args); q.Spec == nil {
		return false, errors.New(command.UnknownError(q.Args))
	}
	switch q.Spec.Name {
	case "multi":
		l.inTx, l.tx = true, at
	case "exec", "discard":
		l.inTx = false
	}
	if l.n == 0 {
		l.from = at
	}
	l.n++
	l.commands++
	l.advance()
	return true, nil
}

// advance notes that the file is whole up to here, unless a transaction is open.
func (l *loading) advance() {
	if l.inTx {
		l.good = l.tx
	} else {
		l.good = l.start + l.in.Consumed()
	}
}

// add puts a command of ours into the batch.
func (l *loading) add(q command.Request, at int64) {
	q.Raw = frame.AppendCommand(nil, q.Args...)
	if l.n == len(l.reqs) {
		l.reqs = append(l.reqs, q)
	} else {
		l.reqs[l.n] = q
	}
	if l.n == 0 {
		l.from = at
	}
	l.n++
}

// apply executes the batch.
func (l *loading) apply() error {
	if l.n == 0 {
		return nil
	}
	err := l.t.Apply(l.reqs[:l.n])
	for i := range l.n {
		if cap(l.reqs[i].Args) > keepArgs {
			l.reqs[i] = command.Request{}
		}
	}
	l.n = 0
	if err != nil {
		return fmt.Errorf("%w: %s: a command between bytes %d and %d: %w", ErrDamaged, l.name, l.from, l.start+l.in.Consumed(), err)
	}
	return nil
}

// broken is the end of loading at a place that isn't a command. Some file systems leave zeros at the end after a crash: an
// incomplete command that goes over into zeros up to the end is an incomplete end. Everything else is damage.
func (l *loading) broken(at int64, cause error) (torn string, err error) {
	if errors.Is(cause, ErrDamaged) {
		return "", cause
	}
	if zeros, err := l.zerosAfter(at); err != nil {
		return "", fmt.Errorf("%s at byte %d: %w", l.name, at, err)
	} else if zeros {
		return "zeros", l.apply()
	}
	path := l.w.path(l.name)
	return "", fmt.Errorf("%w: %s at byte %d: %w; the files are as they were. Restore %s from a backup or a replica, or make a copy of it "+
		"and cut off what can't be read, and all that follows it, by: truncate -s %d %s", ErrDamaged, path, at, cause, dirName, l.good, path)
}

// zerosAfter tells whether the file has nothing from a place on but at most the beginning of a command, and then zeros.
func (l *loading) zerosAfter(at int64) (bool, error) {
	end, err := l.lastByte(at)
	if err != nil || end == l.size {
		return false, err
	}
	rest := make([]byte, min(end-at, searchTail))
	f, err := l.w.fs.OpenFile(l.w.path(l.name), os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := io.CopyN(io.Discard, f, at); err != nil {
		return false, err
	}
	if _, err := io.ReadFull(f, rest); err != nil {
		return false, err
	}
	in := frame.NewReader(bytes.NewReader(rest))
	var c frame.Command
	err = in.ReadCommand(&c)
	return (err == io.EOF || err == io.ErrUnexpectedEOF) && !followed(rest), nil
}

// lastByte is the offset after the last byte that isn't zero, at least at.
func (l *loading) lastByte(at int64) (int64, error) {
	f, err := l.w.fs.OpenFile(l.w.path(l.name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, pos := at, int64(0)
	for buf := make([]byte, 64<<10); ; {
		n, err := f.Read(buf)
		if data := bytes.TrimRight(buf[:n], "\x00"); len(data) > 0 {
			end = max(end, pos+int64(len(data)))
		}
		pos += int64(n)
		if err == io.EOF {
			return end, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// followed tells whether an incomplete end has whole commands in it: then a length before them is wrong, and cutting
// there would throw them away.
func followed(rest []byte) bool {
	rest = rest[:min(len(rest), searchTail)]
	for at := 0; ; {
		i := bytes.Index(rest[at:], []byte("\r\n*"))
		if i < 0 {
			return false
		}
		at += i + 2
		in := frame.NewReader(bytes.NewReader(rest[at:]))
		var c frame.Command
		for n := 0; ; n++ {
			if n == wholeCommands {
				return true
			}
			if in.ReadCommand(&c) != nil || command.Lookup(c.Args) == nil {
				break
			}
		}
	}
}
