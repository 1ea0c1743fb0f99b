package embedded

import (
	"slices"
	"strconv"

	"respmesh/resp/frame"
)

// effects collects what the commands of a batch did, as commands for replicas and logs: with SELECT where the
// database changes, and MULTI … EXEC around the effects of one command or transaction when there are several.
// The engine's write lock guards it.
type effects struct {
	sink Sink
	buf  []byte
	db   int  // the database that the stream has selected
	say  bool // the next effect starts with SELECT in any case
	n    int  // effects in the unit under way
	unit int  // where the first of them begins in buf
}

const (
	multiFrame = "*1\r\n$5\r\nMULTI\r\n"
	execFrame  = "*1\r\n$4\r\nEXEC\r\n"
	// effectsKeep is the largest buffer kept for the next batch.
	effectsKeep = 1 << 20
)

func (f *effects) add(db int, args [][]byte) {
	if f.sink == nil {
		return
	}
	f.begin(db)
	f.buf = frame.AppendCommand(f.buf, args...)
}

// addWith is add with one argument in the place of another.
func (f *effects) addWith(db int, args [][]byte, at int, arg []byte) {
	if f.sink == nil {
		return
	}
	f.begin(db)
	f.buf = frame.AppendArray(f.buf, len(args))
	for i, a := range args {
		if i == at {
			a = arg
		}
		f.buf = frame.AppendBulk(f.buf, a)
	}
}

func (f *effects) addRaw(db int, raw []byte) {
	if f.sink == nil {
		return
	}
	f.begin(db)
	f.buf = append(f.buf, raw...)
}

// begin opens an effect. As in Redis, the SELECT for the first effect of a unit stands before the MULTI.
func (f *effects) begin(db int) {
	if f.n == 1 {
		f.buf = slices.Insert(f.buf, f.unit, []byte(multiFrame)...)
	}
	if db != f.db || f.say {
		f.buf = frame.AppendCommandString(f.buf, "SELECT", strconv.Itoa(db))
		f.db, f.say = db, false
	}
	if f.n == 0 {
		f.unit = len(f.buf)
	}
	f.n++
}

// end closes a unit: a command, a transaction, or a deletion by the engine itself.
func (f *effects) end() {
	if f.n > 1 {
		f.buf = append(f.buf, execFrame...)
	}
	f.n = 0
}

// flush hands everything to the sink.
func (f *effects) flush() {
	if len(f.buf) == 0 {
		return
	}
	f.sink.Append(f.buf)
	f.buf = f.buf[:0]
	if cap(f.buf) > effectsKeep {
		f.buf = nil
	}
}

// forget makes the next effect start with SELECT: a replica is about to begin with the stream here.
func (f *effects) forget() { f.say = true }
