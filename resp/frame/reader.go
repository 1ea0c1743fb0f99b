package frame

import (
	"bytes"
	"io"
)

const (
	minBuffer  = 2 << 10   // what an idle connection costs
	warmBuffer = 64 << 10  // what a busy one reads at once, and may keep
	maxBuffer  = 256 << 10 // what it may keep for a while; a larger buffer goes with the frame that needed it
	minRoom    = 512       // less room than this isn't worth a read
	calmWarm   = 256       // after so many rounds that used little of it, a buffer is halved
	calmLarge  = 16        // the same for one larger than warmBuffer
)

// A Reader scans commands or replies from a byte stream. It is not for concurrent use.
type Reader struct {
	src    io.Reader
	limits Limits

	buf        []byte // all of it is in use: buf[start:end] holds what isn't consumed yet
	start, end int
	consumed   int64
	peak       int   // the most of buf that was in use since it was empty
	calm       int   // rounds, from empty to empty, in a row that used little of buf
	full       bool  // the last read left no room: there may be more
	srcErr     error // came with the last bytes of src; reported by the next Fill
	bad        error // a protocol error: final

	scan    scan
	scratch []byte // inline commands re-encoded since the last Fill
	decoded []byte // arguments of the inline command at hand
}

// scan is how far the frame at buf[start:] has been looked at. Positions are relative to start, so that they survive a
// move of the buffer.
type scan struct {
	pos   int    // all before is known
	bulk  int    // length of the bulk whose payload begins at pos, or -1
	seen  int    // bytes after pos that hold no line end
	left  int    // arguments of the command still to come; 0: its header isn't read
	spans []span // arguments found
	stack []int  // elements still to come on each level of a reply

	over    bool // the command is beyond Limits.Request…
	dropped int  // …and so much of it was dropped

	verbatim bool // the bulk at hand is a verbatim string
}

type span struct{ from, to int }

// NewReader returns a reader with DefaultLimits.
func NewReader(src io.Reader) *Reader {
	r := &Reader{src: src, limits: Limits{}.withDefaults()}
	r.scan.bulk = -1
	return r
}

// SetLimits changes the limits for the lengths that are read from now on.
func (r *Reader) SetLimits(l Limits) { r.limits = l.withDefaults() }

// Buffered returns the bytes read but not consumed.
func (r *Reader) Buffered() []byte { return r.buf[r.start:r.end:r.end] }

// Size returns how much memory the buffer takes.
func (r *Reader) Size() int { return len(r.buf) }

// Consumed returns how many bytes of the stream were consumed: those of frames returned, of empty lines and arrays
// skipped, and those handed out by Read and ReadLine.
func (r *Reader) Consumed() int64 { return r.consumed }

// Fill reads at least one byte from the source. It may move the buffer: whatever the reader returned before becomes
// invalid.
func (r *Reader) Fill() error {
	if err := r.srcErr; err != nil {
		return r.sourceError(err)
	}
	r.makeRoom()
	if r.scan.left == 0 && cap(r.scan.spans) > 1024 {
		r.scan.spans = nil
	}
	if cap(r.scratch) > maxBuffer {
		r.scratch, r.decoded = nil, nil
	}
	r.scratch = r.scratch[:0]
	for range 100 {
		n, err := r.src.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			panic("frame: source returned an impossible count from Read")
		}
		r.end += n
		if n > 0 {
			r.srcErr = err
			r.peak = max(r.peak, r.end)
			r.full = r.end == len(r.buf)
			return nil
		}
		if err != nil {
			return r.sourceError(err)
		}
	}
	return io.ErrNoProgress
}

// sourceError reports an error of the source. Only the end of the stream is for ever: after a missed deadline, say, the
// read may be tried again.
func (r *Reader) sourceError(err error) error {
	r.srcErr = nil
	if err == io.EOF {
		r.srcErr = err
	}
	return err
}

// makeRoom makes the buffer fit for a read.
func (r *Reader) makeRoom() {
	size, have := len(r.buf), r.end-r.start
	if have == 0 {
		if want := r.calmSize(); want != size {
			r.buf = make([]byte, want)
		}
		r.start, r.end, r.peak, r.full = 0, 0, 0, false
		return
	}
	grow := r.full && size < warmBuffer
	if !grow && size-r.end >= min(minRoom, size/2) {
		return
	}
	// need is what the frame at hand takes for sure, with some of the next one lest its last bytes need another move.
	need := 0
	if r.scan.bulk >= 0 {
		need = r.scan.pos + r.scan.bulk + minRoom
	}
	if !grow && r.start > 0 && (r.start >= size/2 || need > 0 && need <= size) {
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
		return
	}
	// Grow by doubling, or by just what is needed: never beyond twice what was received, whatever was announced.
	// Where it is many small ones that make a frame long, it is doubling, or all would be moved for each few of them.
	grown := 2 * size
	if need > size && r.scan.bulk >= size/8 {
		grown = min(grown, need)
	}
	buf := make([]byte, grown)
	copy(buf, r.buf[r.start:r.end])
	r.buf, r.start, r.end, r.full = buf, 0, have, false
}

// calmSize returns the size that an empty buffer should have.
func (r *Reader) calmSize() int {
	size := len(r.buf)
	if r.peak < size/4 {
		r.calm++
	} else {
		r.calm = 0
	}
	switch {
	case size == 0:
		return minBuffer
	case size > maxBuffer:
		return warmBuffer
	case size > warmBuffer && r.calm >= calmLarge, size > minBuffer && r.calm >= calmWarm:
		r.calm = 0
		return max(size/2, minBuffer)
	case r.full && size < warmBuffer:
		return 2 * size
	}
	return size
}

// consume takes n bytes, which were one frame, off the buffer.
func (r *Reader) consume(n int) {
	r.start += n
	r.consumed += int64(n)
	r.scan.pos, r.scan.bulk, r.scan.seen, r.scan.left = 0, -1, 0, 0
	r.scan.over, r.scan.dropped = false, 0
}

func (r *Reader) fail(e *ProtocolError) error {
	r.bad = e
	return e
}

// more is the answer to an incomplete frame.
func (r *Reader) more() (bool, error) {
	if r.end-r.start > r.limits.frame() {
		return false, r.fail(&ProtocolError{"frame too long"})
	}
	return false, nil
}

// fillFrame is Fill for those who need the rest of a frame.
func (r *Reader) fillFrame() error {
	err := r.Fill()
	if err == io.EOF && r.start < r.end {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read hands out the buffered bytes, then reads from the source: for what follows in the stream and isn't RESP.
func (r *Reader) Read(p []byte) (int, error) {
	if r.start < r.end {
		n := copy(p, r.buf[r.start:r.end])
		r.consume(n)
		r.scan.stack = r.scan.stack[:0]
		return n, nil
	}
	if err := r.srcErr; err != nil {
		return 0, r.sourceError(err)
	}
	n, err := r.src.Read(p)
	r.consumed += int64(n)
	return n, err
}

// ReadLine reads one line, blocking, and returns it without its line end: for the parts of the replication handshake
// that look like RESP but aren't. The line is valid until the next Fill.
func (r *Reader) ReadLine() ([]byte, error) {
	for {
		b := r.buf[r.start:r.end]
		if i := bytes.IndexByte(b[r.scan.seen:], '\n'); i >= 0 {
			line := b[:r.scan.seen+i]
			r.consume(len(line) + 1)
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		r.scan.seen = len(b)
		if len(b) > r.limits.Inline {
			return nil, r.fail(&ProtocolError{"line too long"})
		}
		if err := r.fillFrame(); err != nil {
			return nil, err
		}
	}
}

// The outcomes of scanLen other than a position.
const (
	lenPartial = 0
	lenInvalid = -1
)

// scanLen reads "<n>\r\n" at b[i:], n in Redis's strict form, and returns the position after it.
func scanLen(b []byte, i int) (n int64, next int) {
	j := i
	if j < len(b) && b[j] == '-' {
		j++
	}
	first := j
	for j < len(b) {
		d := b[j] - '0'
		if d > 9 {
			break
		}
		n = n*10 + int64(d)
		j++
		if j-first > 18 {
			return 0, lenInvalid
		}
	}
	if j == len(b) {
		return 0, lenPartial
	}
	if b[j] != '\r' || j == first || b[first] == '0' && (j-first > 1 || first > i) {
		return 0, lenInvalid
	}
	if j+1 == len(b) {
		return 0, lenPartial
	}
	if b[j+1] != '\n' {
		return 0, lenInvalid
	}
	if first > i {
		n = -n
	}
	return n, j + 2
}

// ParseInt parses an integer as strictly as Redis does where it expects one: no sign but a minus, no leading zeros,
// no spaces, within 64 bits.
func ParseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	neg := b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	if b[0] == '0' {
		return 0, len(b) == 1 && !neg
	}
	var u uint64
	for i, c := range b {
		d := uint64(c - '0')
		if c < '0' || c > '9' || i == 19 && (u > (1<<64-1-d)/10) {
			return 0, false
		}
		u = u*10 + d
	}
	switch {
	case neg && u <= 1<<63:
		return -int64(u), true
	case !neg && u < 1<<63:
		return int64(u), true
	}
	return 0, false
}
