package embedded

import (
	"math"
	"slices"
	"strconv"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

func streamCommands() []registration {
	return []registration{
		{name: "xadd", handle: xaddCommand},
		{name: "xlen", handle: xlenCommand},
		{name: "xrange", handle: func(x *call) { xrangeGeneric(x, false) }},
		{name: "xrevrange", handle: func(x *call) { xrangeGeneric(x, true) }},
		{name: "xdel", handle: xdelCommand},
		{name: "xtrim", handle: xtrimCommand},
		{name: "xsetid", handle: xsetidCommand},
		{name: "xread", handle: func(x *call) { xreadGeneric(x, false) }, lock: lockExclusive}, // it may have to queue up
		{name: "xreadgroup", handle: func(x *call) { xreadGeneric(x, true) }},
		{name: "xack", handle: xackCommand},
		{name: "xpending", handle: xpendingCommand},
		{name: "xclaim", handle: xclaimCommand},
		{name: "xautoclaim", handle: xautoclaimCommand},
		{name: "xgroup|create", handle: xgroupCreate},
		{name: "xgroup|setid", handle: xgroupSetID},
		{name: "xgroup|destroy", handle: xgroupDestroy},
		{name: "xgroup|createconsumer", handle: xgroupCreateConsumer},
		{name: "xgroup|delconsumer", handle: xgroupDelConsumer},
		{name: "xgroup|help", handle: xgroupHelp},
		{name: "xinfo|stream", handle: xinfoStream},
		{name: "xinfo|groups", handle: xinfoGroups},
		{name: "xinfo|consumers", handle: xinfoConsumers},
		{name: "xinfo|help", handle: xinfoHelp},
	}
}

// maxEntry bounds what an entry may hold.
const maxEntry = 1 << 30

func (x *call) readStream(key []byte) (s *streamValue, ok bool) {
	o, ok := x.readKind(key, kindStream)
	if o == nil {
		return nil, ok
	}
	return o.stream(), true
}

// writeStream is writeKind for a stream: its object too, both nil if there is none.
func (x *call) writeStream(key []byte) (o *object, s *streamValue, ok bool) {
	o, ok = x.writeKind(key, kindStream)
	if o == nil {
		return nil, nil, ok
	}
	return o, o.stream(), true
}

// readStreamForWrite is writeStream by a command that reads the key for those who listen.
func (x *call) readStreamForWrite(key []byte) (o *object, s *streamValue, ok bool) {
	o, ok = x.readKindForWrite(key, kindStream)
	if o == nil {
		return nil, nil, ok
	}
	return o, o.stream(), true
}

// --- replies ---

// arrayAt puts the header of an array before what has been replied since mark.
func (x *call) arrayAt(mark, n int) {
	x.insert(mark, frame.AppendArray(nil, n))
}

func (x *call) insert(mark int, head []byte) { x.out = slices.Insert(x.out, mark, head...) }

func (x *call) streamEntry(e *streamEntry) {
	x.array(2)
	x.streamID(e.id)
	x.array(2 * e.fields)
	e.each(func(field, value lpValue) {
		x.value(field)
		x.value(value)
	})
}

// streamRange replies the entries of a range, at most count if that isn't 0.
func (x *call) streamRange(s *streamValue, from, to streamID, count int64, reverse bool) {
	mark, n := len(x.out), 0
	s.walk(from, to, reverse, false, func(e *streamEntry) bool {
		x.streamEntry(e)
		n++
		return int64(n) != count
	})
	x.arrayAt(mark, n)
}

// --- XADD, XTRIM ---

// addOptions are what XADD and XTRIM take before the id.
type addOptions struct {
	trimming
	noMake  bool
	id      streamID
	idGiven bool // not "*"
	auto    bool // "ms-*"
	idAt    int
}

func (x *call) addOptions(xadd bool) (o addOptions, ok bool) {
	limited := false
	i := 2
options:
	for ; i < len(x.args); i++ {
		more := len(x.args) - 1 - i
		switch a := x.args[i]; {
		case xadd && string(a) == "*":
			break options
		case (is(a, "MAXLEN") || is(a, "MINID")) && more > 0:
			if o.on() {
				x.err("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
				return o, false
			}
			if s := string(x.args[i+1]); more >= 2 && (s == "~" || s == "=") {
				o.approx = s == "~"
				i++
			}
			i++
			o.valueAt = i
			if is(a, "MINID") {
				if o.minID, ok = x.argID(x.args[i]); !ok {
					return o, false
				}
				o.byID = true
				continue
			}
			n, ok := x.argInt(x.args[i])
			if !ok {
				return o, false
			}
			if n < 0 {
				x.err("ERR The MAXLEN argument must be >= 0.")
				return o, false
			}
			o.byLength, o.length = true, uint64(n)
		case is(a, "LIMIT") && more > 0:
			i++
			if o.limit, ok = x.argInt(x.args[i]); !ok {
				return o, false
			}
			if o.limit < 0 {
				x.err("ERR The LIMIT argument must be >= 0.")
				return o, false
			}
			limited = true
		case xadd && is(a, "NOMKSTREAM"):
			o.noMake = true
		case xadd:
			if o.id, o.auto, ok = (idForm{auto: true}).parse(a); !ok {
				x.err(errStreamID)
				return o, false
			}
			o.idGiven = true
			break options
		default:
			x.syntax()
			return o, false
		}
	}
	o.idAt = i
	switch {
	case o.limit > 0 && !o.on():
		x.err("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
		return o, false
	case !xadd && !o.on():
		x.err("ERR syntax error, XTRIM must be called with a trimming strategy")
		return o, false
	case x.fromStream:
		o.limit = 0
	case limited && !o.approx:
		x.err("ERR syntax error, LIMIT cannot be used without the special ~ option")
		return o, false
	case !limited && o.approx:
		o.limit = 100 * chunkEntries
	}
	return o, true
}

// settled is the command with what "~" came to, so that replicas trim the same.
func (t *trimming) settled(args [][]byte, s *streamValue) [][]byte {
	args = slices.Clone(args)
	args[t.valueAt-1] = []byte("=")
	if t.byLength {
		args[t.valueAt] = strconv.AppendUint(nil, s.length, 10)
	} else {
		args[t.valueAt] = idArg(s.firstID(true))
	}
	return args
}

func xaddCommand(x *call) {
	opts, ok := x.addOptions(true)
	if !ok {
		return
	}
	pairs := x.args[min(opts.idAt+1, len(x.args)):]
	if len(pairs) < 2 || len(pairs)%2 != 0 {
		x.err(command.ArityError(x.spec))
		return
	}
	if opts.idGiven && !opts.auto && opts.id.zero() {
		x.err("ERR The ID specified in XADD must be greater than 0-0")
		return
	}
	key := x.args[1]
	o, s, ok := x.writeStream(key)
	if !ok {
		return
	}
	if s == nil {
		if opts.noMake {
			x.null()
			return
		}
		s = newStream()
	}
	id, problem := opts.newID(s, x.now)
	size := 0
	for _, p := range pairs {
		size += len(p)
	}
	if problem == "" && size > maxEntry {
		problem = "ERR Elements are too large to be stored"
	}
	if problem != "" {
		x.err(problem)
		return
	}
	s.add(id, pairs)
	x.streamID(id)
	x.dirty++
	args := x.args
	trimmed := int64(0)
	if opts.on() {
		trimmed = s.trim(&opts.trimming)
		if opts.approx {
			args = opts.settled(args, s)
		}
	}
	switch {
	case !opts.idGiven || opts.auto:
		var scratch [44]byte
		x.rewritten = true
		x.e.effects.addWith(x.dbIndex, args, opts.idAt, id.appendTo(scratch[:0]))
	case &args[0] != &x.args[0]:
		x.propagate(args...)
	}
	x.saved(key, o, streamPayload(s), "xadd")
	if trimmed > 0 {
		x.notify(eventStream, "xtrim", key)
	}
	if o != nil {
		x.e.signalReady(x.dbIndex, key, kindStream)
	}
}

// newID is the id of a new entry, or why there is none.
func (o *addOptions) newID(s *streamValue, now int64) (id streamID, problem string) {
	if s.last == streamMax {
		return id, "ERR The stream has exhausted the last possible ID, unable to add more items"
	}
	switch {
	case !o.idGiven && uint64(now) > s.last.ms:
		id = streamID{ms: uint64(now)}
	case !o.idGiven:
		id, _ = s.last.next()
	case o.auto && s.last.ms == o.id.ms && s.last.seq == math.MaxUint64:
		return id, "ERR Elements are too large to be stored" // sic: the number can't be incremented
	case o.auto && s.last.ms == o.id.ms:
		id = streamID{o.id.ms, s.last.seq + 1}
	default:
		id = o.id
	}
	if !s.last.before(id) {
		return id, "ERR The ID specified in XADD is equal or smaller than the target stream top item"
	}
	return id, ""
}

func xtrimCommand(x *call) {
	opts, ok := x.addOptions(false)
	if !ok {
		return
	}
	key := x.args[1]
	o, s, ok := x.writeStream(key)
	if !ok {
		return
	}
	var removed int64
	if s != nil {
		if removed = s.trim(&opts.trimming); removed > 0 {
			x.touch(key, o)
			x.notify(eventStream, "xtrim", key)
			x.dirty += int(removed)
			if opts.approx {
				x.propagate(opts.settled(x.args, s)...)
			}
		}
	}
	x.int(removed)
}

// --- the others on entries ---

func xlenCommand(x *call) {
	s, ok := x.readStream(x.args[1])
	switch {
	case !ok:
	case s == nil:
		x.int(0)
	default:
		x.int(int64(s.length))
	}
}

func xrangeGeneric(x *call, reverse bool) {
	lo, hi := x.args[2], x.args[3]
	if reverse {
		lo, hi = hi, lo
	}
	from, ok := x.argStart(lo)
	if !ok {
		return
	}
	to, ok := x.argEnd(hi)
	if !ok {
		return
	}
	count := int64(-1)
	for rest := x.args[4:]; len(rest) > 0; rest = rest[2:] {
		if len(rest) < 2 || !is(rest[0], "COUNT") {
			x.syntax()
			return
		}
		if count, ok = x.argInt(rest[1]); !ok {
			return
		}
		count = max(count, 0)
	}
	s, ok := x.readStream(x.args[1])
	switch {
	case !ok:
	case s == nil:
		x.array(0)
	case count == 0:
		x.nullArray()
	default:
		x.streamRange(s, from, to, max(count, 0), reverse)
	}
}

func xdelCommand(x *call) {
	key := x.args[1]
	o, s, ok := x.writeStream(key)
	if !ok {
		return
	}
	if s == nil {
		x.int(0)
		return
	}
	ids, ok := x.argIDs(x.args[2:])
	if !ok {
		return
	}
	removed, first := 0, false
	for _, id := range ids {
		if s.remove(id) {
			first = first || id == s.first
			if s.maxDeleted.before(id) {
				s.maxDeleted = id
			}
			removed++
		}
	}
	if removed > 0 {
		if first || s.length == 0 {
			s.settleFirst()
		}
		x.touch(key, o)
		x.notify(eventStream, "xdel", key)
		x.dirty += removed
	}
	x.int(int64(removed))
}

func xsetidCommand(x *call) {
	id, ok := x.argID(x.args[2])
	if !ok {
		return
	}
	added, maxDeleted := int64(-1), streamID{}
	for rest := x.args[3:]; len(rest) > 0; rest = rest[2:] {
		switch {
		case len(rest) > 1 && is(rest[0], "ENTRIESADDED"):
			if added, ok = x.argInt(rest[1]); !ok {
				return
			}
			if added < 0 {
				x.err("ERR entries_added must be positive")
				return
			}
		case len(rest) > 1 && is(rest[0], "MAXDELETEDID"):
			if maxDeleted, ok = x.argID(rest[1]); !ok {
				return
			}
			if id.before(maxDeleted) {
				x.err("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
				return
			}
		default:
			x.syntax()
			return
		}
	}
	o, s, ok := x.writeStream(x.args[1])
	switch {
	case !ok:
		return
	case o == nil:
		x.err(errNoSuchKey)
		return
	case s.length > 0 && id.before(s.lastID()):
		x.err("ERR The ID specified in XSETID is smaller than the target stream top item")
		return
	case s.length > 0 && added != -1 && s.length > uint64(added):
		x.err("ERR The entries_added specified in XSETID is smaller than the target stream length")
		return
	}
	s.last = id
	if added != -1 {
		s.added = uint64(added)
	}
	if !maxDeleted.zero() {
		s.maxDeleted = maxDeleted
	}
	x.notify(eventStream, "xsetid", x.args[1])
	x.dirty++
	x.ok()
}
