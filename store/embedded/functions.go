package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"respmesh/resp/frame"
	"respmesh/store/rdb"
)

// Functions (https://redis.io/docs/latest/develop/programmability/functions-intro/) are scripts that stay: libraries of them are
// data, kept in snapshots and propagated. They have an interpreter of their own and run as scripts do.

func functionCommands() []registration {
	return []registration{
		{"fcall", func(x *call) { fcallCommand(x, false) }, lockExclusive},
		{"fcall_ro", func(x *call) { fcallCommand(x, true) }, lockExclusive},
		{"function|load", functionLoad, lockExclusive},
		{"function|delete", functionDelete, lockExclusive},
		{"function|flush", functionFlush, lockExclusive},
		{"function|list", functionList, lockExclusive},
		{"function|dump", functionDump, lockExclusive},
		{"function|restore", functionRestore, lockExclusive},
		{"function|stats", func(x *call) { x.e.scripts.stats(x) }, lockExclusive},
		{"function|kill", func(x *call) { x.err(errNotBusy) }, lockExclusive},
		{"function|help", functionHelp, lockShared},
	}
}

// functions is what an engine keeps of them. The engine's write lock guards it.
type functions struct {
	libs   map[string]*library
	byName map[string]*function // lower case
	rt     *luaRuntime          // nil: the libraries' code is to be run again before a function is called
	bytes  int                  // of code
}

// library is a library: its code and what that has registered.
type library struct {
	name, code string
	functions  []*function
}

type function struct {
	lib         *library
	name        string
	description *string
	flags       scriptFlags
	callback    *lua.LFunction
}

func newFunctions() functions {
	return functions{libs: map[string]*library{}, byName: map[string]*function{}}
}

func (f *functions) add(lib *library) {
	f.libs[lib.name] = lib
	f.bytes += len(lib.code)
	for _, fn := range lib.functions {
		f.byName[strings.ToLower(fn.name)] = fn
	}
}

func (f *functions) remove(lib *library) {
	delete(f.libs, lib.name)
	f.bytes -= len(lib.code)
	for _, fn := range lib.functions {
		delete(f.byName, strings.ToLower(fn.name))
	}
}

// close ends the interpreter: the next call starts another.
func (f *functions) close() {
	if f.rt != nil {
		f.rt.close()
		f.rt = nil
	}
}

// sorted lists the libraries by their names.
func (f *functions) sorted() []*library {
	var out []*library
	for _, lib := range f.libs {
		out = append(out, lib)
	}
	slices.SortFunc(out, func(a, b *library) int { return strings.Compare(a.name, b.name) })
	return out
}

func fcallCommand(x *call, readonly bool) {
	x.rewritten = true // what goes to replicas is what the function does
	x.showAlways(x.spec, x.args)
	f := &x.e.functions
	fn := f.byName[strings.ToLower(string(x.args[1]))]
	if fn == nil {
		x.err("ERR Function not found")
		return
	}
	n, ok := frame.ParseInt(x.args[2])
	switch {
	case !ok:
		x.err("ERR Bad number of keys provided")
		return
	case n > int64(len(x.args)-3):
		x.err("ERR Number of keys can't be greater than number of args")
		return
	case n < 0:
		x.err("ERR Number of keys can't be negative")
		return
	}
	if problem := f.awake(x.e); problem != "" {
		x.err(problem)
		return
	}
	f.rt.ready()
	args := x.args[3:]
	p := program{name: fn.name, chunk: functionChunk, function: true, readonly: readonly, flags: fn.flags, command: x.args}
	if x.e.scripts.run(x, f.rt, p, fn.callback, luaList(f.rt.L, args[:n]), luaList(f.rt.L, args[n:])) {
		f.close()
	}
}

// --- FUNCTION ---

func functionLoad(x *call) {
	replace := false
	for _, a := range x.args[2 : len(x.args)-1] {
		if !is(a, "REPLACE") {
			x.errf("ERR Unknown option given: %s", a)
			return
		}
		replace = true
	}
	name, problem := x.e.functions.load(x.e, string(x.args[len(x.args)-1]), replace)
	if problem != "" {
		x.err(oneLine(problem))
		return
	}
	x.dirty++
	x.bulkString(name)
}

func functionDelete(x *call) {
	f := &x.e.functions
	lib := f.libs[string(x.args[2])]
	if lib == nil {
		x.err("ERR Library not found")
		return
	}
	f.remove(lib)
	x.dirty++
	x.ok()
}

func functionFlush(x *call) {
	if len(x.args) > 3 {
		x.badSubcommand()
		return
	}
	if len(x.args) == 3 && !is(x.args[2], "SYNC") && !is(x.args[2], "ASYNC") {
		x.err("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
		return
	}
	x.e.functions.close()
	x.e.functions = newFunctions()
	x.dirty++
	x.ok()
}

func functionList(x *call) {
	var pattern []byte
	given, code := false, false
	for i := 2; i < len(x.args); i++ {
		switch a := x.args[i]; {
		case !code && is(a, "WITHCODE"):
			code = true
		case !given && is(a, "LIBRARYNAME"):
			if i+1 == len(x.args) {
				x.err("ERR library name argument was not given")
				return
			}
			i++
			pattern, given = x.args[i], true
		default:
			x.err(oneLine("ERR Unknown argument " + cText(a)))
			return
		}
	}
	var libs []*library
	for _, lib := range x.e.functions.sorted() {
		if !given || match(pattern, []byte(lib.name), true) {
			libs = append(libs, lib)
		}
	}
	x.array(len(libs))
	for _, lib := range libs {
		if code {
			x.mapHeader(4)
		} else {
			x.mapHeader(3)
		}
		x.bulkString("library_name")
		x.bulkString(lib.name)
		x.bulkString("engine")
		x.bulkString("LUA")
		x.bulkString("functions")
		x.array(len(lib.functions))
		for _, fn := range lib.functions {
			x.mapHeader(3)
			x.bulkString("name")
			x.bulkString(fn.name)
			x.bulkString("description")
			if fn.description != nil {
				x.bulkString(*fn.description)
			} else {
				x.null()
			}
			x.bulkString("flags")
			names := fn.flags.names()
			x.setHeader(len(names))
			for _, n := range names {
				x.simple(n)
			}
		}
		if code {
			x.bulkString("library_code")
			x.bulkString(lib.code)
		}
	}
}

// names lists the flags as FUNCTION LIST does.
func (f scriptFlags) names() (out []string) {
	for _, n := range []struct {
		on   bool
		name string
	}{
		{f.noWrites, "no-writes"}, {f.allowOOM, "allow-oom"}, {f.allowStale, "allow-stale"},
		{f.noCluster, "no-cluster"}, {f.crossSlot, "allow-cross-slot-keys"},
	} {
		if n.on {
			out = append(out, n.name)
		}
	}
	return out
}

// stats is FUNCTION STATS. While a program runs that has let go of the engine's lock, the libraries don't change.
func (s *scripts) stats(x *call) {
	s.mu.Lock()
	p, active, ran := s.program, s.active, s.running()
	s.mu.Unlock()
	x.mapHeader(2)
	x.bulkString("running_script")
	if active && p.function {
		x.mapHeader(3)
		x.bulkString("name")
		x.bulkString(p.name)
		x.bulkString("command")
		x.array(len(p.command))
		for _, a := range p.command {
			x.bulk(a)
		}
		x.bulkString("duration_ms")
		x.int(ran.Milliseconds())
	} else {
		x.null()
	}
	x.bulkString("engines")
	x.mapHeader(1)
	x.bulkString("LUA")
	x.mapHeader(2)
	x.bulkString("libraries_count")
	x.int(int64(len(s.e.functions.libs)))
	x.bulkString("functions_count")
	x.int(int64(len(s.e.functions.byName)))
}

// --- DUMP and RESTORE ---

// functionDump is the part of a snapshot that has the libraries, with a footer as DUMP's.
func functionDump(x *call) {
	var file bytes.Buffer
	w := rdb.NewWriter(&file)
	for _, lib := range x.e.functions.sorted() {
		w.WriteFunction([]byte(lib.code))
	}
	w.Close()
	out := file.Bytes()[len(rdbMagic) : file.Len()-rdbTrailer]
	out = binary.LittleEndian.AppendUint16(out, rdb.Version)
	x.bulk(binary.LittleEndian.AppendUint64(out, rdb.CRC64(0, out)))
}

// undumpFunctions reads the payload of functionDump.
func undumpFunctions(p []byte) (codes [][]byte, problem string) {
	if len(p) < dumpFooter {
		return nil, errDumpBad
	}
	body, footer := p[:len(p)-dumpFooter], p[len(p)-dumpFooter:]
	if binary.LittleEndian.Uint16(footer) > rdb.Version ||
		binary.LittleEndian.Uint64(footer[2:]) != rdb.CRC64(0, p[:len(p)-8]) {
		return nil, errDumpBad
	}
	file := append(append([]byte(rdbMagic), body...), rdbEOF)
	file = append(file, make([]byte, 8)...) // no checksum
	rd := rdb.NewReader(bytes.NewReader(file))
	switch _, err := rd.Next(); {
	case err == nil:
		return nil, "ERR given type is not a function"
	case !errors.Is(err, io.EOF):
		return nil, "ERR failed loading payload"
	}
	return rd.Functions(), ""
}

func functionRestore(x *call) {
	if len(x.args) > 4 {
		x.badSubcommand()
		return
	}
	flush, replace := false, false
	if len(x.args) == 4 {
		switch a := x.args[3]; {
		case is(a, "FLUSH"):
			flush = true
		case is(a, "REPLACE"):
			replace = true
		case !is(a, "APPEND"):
			x.err("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
			return
		}
	}
	codes, problem := undumpFunctions(x.args[2])
	if problem == "" {
		problem = x.e.restoreFunctions(codes, flush, replace)
	}
	if problem != "" {
		x.err(oneLine(problem))
		return
	}
	x.dirty++
	x.ok()
}

// restoreFunctions loads libraries, all or none.
func (e *Engine) restoreFunctions(codes [][]byte, flush, replace bool) (problem string) {
	f := newFunctions()
	defer func() { f.close() }()
	var added []*library
	for _, code := range codes {
		lib, problem := f.compile(e, string(code))
		if problem != "" {
			return problem
		}
		if f.libs[lib.name] != nil {
			return "ERR Library " + lib.name + " already exists"
		}
		if name := f.clash(lib, nil); name != "" {
			return "ERR Function " + name + " already exists"
		}
		f.add(lib)
		added = append(added, lib)
	}
	old := &e.functions
	if !flush {
		for _, lib := range added {
			if old.libs[lib.name] != nil && !replace {
				return "ERR Library " + lib.name + " already exists"
			}
		}
		for _, have := range old.libs {
			if f.libs[have.name] != nil {
				continue // replaced
			}
			if name := f.clash(have, nil); name != "" {
				return "ERR Function " + name + " already exists"
			}
		}
		for _, have := range old.libs {
			if f.libs[have.name] == nil {
				f.add(have)
			}
		}
	}
	old.close()
	// The interpreter that the new ones are in doesn't have the old ones: the next call starts one with all.
	e.functions = functions{libs: f.libs, byName: f.byName, bytes: f.bytes}
	return ""
}

func functionHelp(x *call) {
	x.help(strings.Split(`FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
LOAD [REPLACE] <FUNCTION CODE>
    Create a new library with the given library name and code.
DELETE <LIBRARY NAME>
    Delete the given library.
LIST [LIBRARYNAME PATTERN] [WITHCODE]
    Return general information on all the libraries:
    * Library name
    * The engine used to run the Library
    * Library description
    * Functions list
    * Library code (if WITHCODE is given)
    It also possible to get only function that matches a pattern using LIBRARYNAME argument.
STATS
    Return information about the current function running:
    * Function name
    * Command used to run the function
    * Duration in MS that the function is running
    If no function is running, return nil
    In addition, returns a list of available engines.
KILL
    Kill the current running function.
FLUSH [ASYNC|SYNC]
    Delete all the libraries.
    When called without the optional mode argument, the behavior is determined by the
    lazyfree-lazy-user-flush configuration directive. Valid modes are:
    * ASYNC: Asynchronously flush the libraries.
    * SYNC: Synchronously flush the libraries.
DUMP
    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command
RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]
    Restore the libraries represented by the given payload, it is possible to give a restore policy to
    control how to handle existing libraries (default APPEND):
    * FLUSH: delete all existing libraries.
    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.
    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old
      libraries with the new libraries (notice that even on this option there is a chance of failure
      in case of functions name collision with another library).
HELP
    Prints this help.`, "\n")...)
}

// restoreAll replaces the libraries by those of a snapshot.
func (e *Engine) restoreAll(codes [][]byte) error {
	if problem := e.restoreFunctions(codes, true, false); problem != "" {
		return errors.New(problem)
	}
	return nil
}
