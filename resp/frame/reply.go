package frame

import (
	"bytes"
	"math"
)

// maxDepth bounds the nesting of replies.
const maxDepth = 128

// A Reply is one complete frame, with all that is nested in it. An attribute is a frame of its own: the reply that it
// speaks of comes next.
type Reply struct {
	Raw []byte
}

// NextReply takes the next reply off the buffer. It never reads from the source: false says that Fill is needed first.
// Bare line feeds between replies, by which a primary keeps a waiting replica's connection alive, are skipped.
// A *ProtocolError is final.
func (r *Reader) NextReply(p *Reply) (bool, error) {
	if r.bad != nil {
		return false, r.bad
	}
	s := &r.scan
	for s.pos == 0 && r.start < r.end && r.buf[r.start] == '\n' {
		r.consume(1)
	}
	b := r.buf[r.start:r.end]
	for {
		if s.bulk < 0 {
			if s.pos == len(b) {
				return r.more()
			}
			more, err := r.scanElement(b)
			if err != nil {
				return false, r.fail(err)
			}
			if more {
				return r.more()
			}
		}
		if s.bulk >= 0 {
			end := s.pos + s.bulk
			if end+2 > len(b) {
				return r.more()
			}
			if b[end] != '\r' || b[end+1] != '\n' {
				return false, r.fail(&ProtocolError{"expected CRLF after bulk"})
			}
			if s.verbatim && b[s.pos+3] != ':' {
				return false, r.fail(&ProtocolError{"invalid value of type '='"})
			}
			s.pos, s.bulk, s.verbatim = end+2, -1, false
		}
		for len(s.stack) > 0 && s.stack[len(s.stack)-1] == 0 {
			s.stack = s.stack[:len(s.stack)-1]
		}
		if len(s.stack) == 0 {
			p.Raw = b[:s.pos:s.pos]
			r.consume(s.pos)
			return true, nil
		}
	}
}

// ReadReply is NextReply that fills the buffer until a reply is there. At the end of the stream it returns io.EOF
// between replies, io.ErrUnexpectedEOF within one.
func (r *Reader) ReadReply(p *Reply) error {
	for {
		if ok, err := r.NextReply(p); ok || err != nil {
			return err
		}
		if err := r.fillFrame(); err != nil {
			return err
		}
	}
}

// scanElement reads the line of the element at b[s.pos:]: a whole scalar, or the header of a bulk (whose payload then
// is awaited) or of an aggregate (whose elements go onto the stack). True says that the line isn't complete.
func (r *Reader) scanElement(b []byte) (bool, *ProtocolError) {
	s := &r.scan
	kind := Kind(b[s.pos])
	switch kind {
	case Bulk, Verbatim, BulkError, Array, Set, Push, Map, Attribute:
		n, next := scanLen(b, s.pos+1)
		switch {
		case next == lenPartial:
			return true, nil
		case next == lenInvalid:
			return false, badLength(kind)
		}
		return false, r.header(kind, n, next)
	case Simple, Error, Int, Null, Bool, Double, BigNumber:
	default:
		return false, &ProtocolError{"unknown reply type " + quoteByte(b[s.pos])}
	}

	line := b[s.pos+1:]
	i := bytes.IndexByte(line[s.seen:], '\n')
	length := len(line)
	if i >= 0 {
		length = s.seen + i - 1
	}
	switch {
	case length > r.limits.Inline:
		return false, &ProtocolError{"too big line in reply"}
	case i < 0:
		s.seen = length
		return true, nil
	case length < 0 || bytes.IndexByte(line[:length+1], '\r') != length:
		return false, &ProtocolError{"line end other than CRLF in reply"}
	}
	if !validLine(kind, line[:length]) {
		return false, &ProtocolError{"invalid value of type " + quoteByte(byte(kind))}
	}
	s.seen = 0
	s.pos += length + 3
	r.element()
	return false, nil
}

// header notes the header of a bulk or an aggregate of length n, which ends at next.
func (r *Reader) header(kind Kind, n int64, next int) *ProtocolError {
	s := &r.scan
	switch kind {
	case Bulk, Verbatim, BulkError:
		if n > int64(r.limits.Bulk) || n < -1 || n < 0 && kind != Bulk || n < 4 && kind == Verbatim {
			return badLength(kind)
		}
		s.pos = next
		if n >= 0 {
			s.bulk, s.verbatim = int(n), kind == Verbatim
		}
		r.element()
		return nil
	}
	if n > math.MaxInt32 || n < -1 || n < 0 && kind != Array {
		return badLength(kind)
	}
	s.pos = next
	if kind == Map || kind == Attribute {
		n *= 2
	}
	// An attribute within an aggregate comes before an element and isn't counted as one.
	if kind != Attribute {
		r.element()
	}
	if n > 0 {
		if len(s.stack) == maxDepth {
			return &ProtocolError{"reply nested too deeply"}
		}
		s.stack = append(s.stack, int(n))
	}
	return nil
}

// element counts the element just met as one of its aggregate's.
func (r *Reader) element() {
	if i := len(r.scan.stack) - 1; i >= 0 {
		r.scan.stack[i]--
	}
}

func badLength(kind Kind) *ProtocolError {
	switch kind {
	case Bulk, Verbatim, BulkError:
		return &ProtocolError{"invalid bulk length"}
	}
	return &ProtocolError{"invalid multibulk length"}
}

func quoteByte(c byte) string { return "'" + string([]byte{c}) + "'" }

// validLine checks the scalars whose value steers a reader; doubles and big numbers are left to those who use them.
func validLine(kind Kind, line []byte) bool {
	switch kind {
	case Int:
		_, ok := replyInt(line)
		return ok
	case Null:
		return len(line) == 0
	case Bool:
		return len(line) == 1 && (line[0] == 't' || line[0] == 'f')
	case Double, BigNumber:
		return len(line) > 0
	}
	return true
}

// replyInt parses an integer reply, which unlike a length may have a plus.
func replyInt(line []byte) (int64, bool) {
	if len(line) > 1 && line[0] == '+' && line[1] != '-' {
		line = line[1:]
	}
	return ParseInt(line)
}

// Kind returns the kind of the frame, 0 if there is none.
func (p Reply) Kind() Kind {
	if len(p.Raw) == 0 {
		return 0
	}
	return Kind(p.Raw[0])
}

// IsError reports whether the reply is an error of RESP2 or RESP3.
func (p Reply) IsError() bool { k := p.Kind(); return k == Error || k == BulkError }

// IsNull reports whether the reply is a null of RESP2 (bulk or array) or RESP3.
func (p Reply) IsNull() bool {
	switch p.Kind() {
	case Null:
		return true
	case Bulk, Array:
		return len(p.Raw) > 1 && p.Raw[1] == '-'
	}
	return false
}

// Int returns the value of an integer reply.
func (p Reply) Int() (int64, bool) {
	if p.Kind() != Int {
		return 0, false
	}
	return replyInt(p.Text())
}

// Text returns the payload of a scalar: without type, length, line end, and without the format of a verbatim string.
// It is nil for nulls and aggregates.
func (p Reply) Text() []byte {
	switch p.Kind() {
	case Simple, Error, Int, Bool, Double, BigNumber:
		return p.Raw[1 : len(p.Raw)-2]
	case Bulk, BulkError, Verbatim:
		n, next := scanLen(p.Raw, 1)
		if n < 0 || next <= 0 {
			return nil
		}
		text := p.Raw[next : next+int(n)]
		if p.Kind() == Verbatim {
			text = text[4:]
		}
		return text
	}
	return nil
}

// Len returns the number of frames that Each visits if there are no attributes among them: a map's keys and values
// both count. It is 0 for scalars and nulls.
func (p Reply) Len() int {
	n, _ := p.children()
	return n
}

// children returns the number of elements of an aggregate and where they begin.
func (p Reply) children() (n, from int) {
	switch p.Kind() {
	case Array, Set, Push:
		n, next := scanLen(p.Raw, 1)
		return int(max(n, 0)), next
	case Map, Attribute:
		n, next := scanLen(p.Raw, 1)
		return int(2 * n), next
	}
	return 0, len(p.Raw)
}

// Each calls visit for each element of an aggregate, a map's keys and values by turns, until visit returns false.
// An attribute is visited before the element that it speaks of.
func (p Reply) Each(visit func(Reply) bool) {
	_, at := p.children()
	for at < len(p.Raw) {
		end := frameEnd(p.Raw, at)
		if !visit(Reply{Raw: p.Raw[at:end:end]}) {
			return
		}
		at = end
	}
}

// frameEnd returns the end of the frame at b[at:], which a reader has scanned before.
func frameEnd(b []byte, at int) int {
	start := at
	for left := 1; left > 0; left-- {
		switch kind := Kind(b[at]); kind {
		case Bulk, Verbatim, BulkError:
			n, next := scanLen(b, at+1)
			at = next
			if n >= 0 {
				at += int(n) + 2
			}
		case Array, Set, Push:
			n, next := scanLen(b, at+1)
			at, left = next, left+int(max(n, 0))
		case Map, Attribute:
			n, next := scanLen(b, at+1)
			if kind == Attribute && at > start {
				left++ // an attribute within an aggregate isn't an element itself
			}
			at, left = next, left+int(2*n)
		default:
			at += bytes.IndexByte(b[at:], '\n') + 1
		}
	}
	return at
}
