package frame

import (
	"bytes"
	"slices"
	"strconv"
)

// A Command is one request.
type Command struct {
	Raw  []byte   // as an array of bulks, re-encoded if it came inline
	Args [][]byte // its arguments, the name first; never empty
	// Excess is the length of a command beyond Limits.Request, of which nothing is kept: Raw and Args are empty then.
	Excess int
}

// NextCommand takes the next command off the buffer. It never reads from the source: false says that Fill is needed
// first. It reuses c.Args. Empty arrays and lines are skipped. A *ProtocolError is final.
func (r *Reader) NextCommand(c *Command) (bool, error) {
	if r.bad != nil {
		return false, r.bad
	}
	c.Excess = 0
	s := &r.scan
	for s.left == 0 {
		if r.start == r.end {
			return false, nil
		}
		if r.buf[r.start] != '*' {
			done, err := r.nextInline(c)
			if done || err != nil {
				return done, err
			}
			if s.seen > 0 {
				return false, nil
			}
			continue
		}
		n, next := scanLen(r.buf[r.start:r.end], 1)
		switch {
		case next == lenPartial:
			return false, nil
		case next == lenInvalid:
			return false, r.fail(&ProtocolError{"invalid multibulk length"})
		case n > int64(r.limits.Args):
			return false, r.fail(r.limits.argsError(n))
		case n <= 0:
			r.consume(next)
		default:
			s.left, s.pos, s.bulk = int(n), next, -1
			s.spans = s.spans[:0]
		}
	}

	b := r.buf[r.start:r.end]
	pos, bulk := s.pos, s.bulk
	for s.left > 0 {
		if bulk < 0 {
			if pos == len(b) {
				break
			}
			if b[pos] != '$' {
				return false, r.fail(&ProtocolError{"expected '$', got " + quoteByte(b[pos])})
			}
			n, next := scanLen(b, pos+1)
			if next == lenPartial {
				break
			}
			if next == lenInvalid || n < 0 {
				return false, r.fail(&ProtocolError{"invalid bulk length"})
			}
			if n > int64(r.limits.Bulk) {
				return false, r.fail(r.limits.bulkError(n))
			}
			pos, bulk = next, int(n)
		}
		end := pos + bulk
		s.over = s.over || r.limits.Request > 0 && end+2 > r.limits.Request
		if end+2 > len(b) {
			break
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return false, r.fail(&ProtocolError{"expected CRLF after bulk"})
		}
		if !s.over {
			s.spans = append(s.spans, span{pos, end})
		}
		pos, bulk = end+2, -1
		s.left--
	}
	if s.left > 0 {
		s.pos, s.bulk = pos, bulk
		if s.over {
			r.drop()
		}
		return r.more()
	}
	if s.over {
		c.Raw, c.Args, c.Excess = nil, c.Args[:0], s.dropped+pos
		r.consume(pos)
		return true, nil
	}

	c.Raw = b[:pos:pos]
	args := c.Args[:0]
	if cap(args) < len(s.spans) {
		args = slices.Grow(args, len(s.spans))
	}
	args = args[:len(s.spans)]
	for i, a := range s.spans {
		args[i] = b[a.from:a.to:a.to]
	}
	c.Args = args
	r.consume(pos)
	return true, nil
}

// drop frees the buffer of what has come of a command that is too long.
func (r *Reader) drop() {
	s := &r.scan
	n := s.pos
	if s.bulk > 0 {
		got := min(s.bulk, r.end-r.start-n)
		s.bulk -= got
		n += got
	}
	r.start += n
	r.consumed += int64(n)
	s.dropped += n
	s.pos = 0
}

// ReadCommand is NextCommand that fills the buffer until a command is there. At the end of the stream it returns
// io.EOF between commands, io.ErrUnexpectedEOF within one.
func (r *Reader) ReadCommand(c *Command) error {
	for {
		if ok, err := r.NextCommand(c); ok || err != nil {
			return err
		}
		if err := r.fillFrame(); err != nil {
			return err
		}
	}
}

// nextInline takes an inline command off the buffer. False without an error says that there was none: either the line
// isn't complete (scan.seen > 0), or it was empty and is consumed.
func (r *Reader) nextInline(c *Command) (bool, error) {
	b := r.buf[r.start:r.end]
	i := bytes.IndexByte(b[r.scan.seen:], '\n')
	length := len(b)
	if i >= 0 {
		length = r.scan.seen + i
	}
	if length > r.limits.Inline {
		return false, r.fail(&ProtocolError{"too big inline request"})
	}
	if i < 0 {
		r.scan.seen = len(b)
		return false, nil
	}
	r.scan.seen = 0
	decoded, spans, ok := splitInline(r.decoded[:0], r.scan.spans[:0], bytes.TrimSuffix(b[:length], []byte("\r")))
	r.decoded, r.scan.spans = decoded, spans
	if !ok {
		return false, r.fail(&ProtocolError{"unbalanced quotes in request"})
	}
	if len(spans) > r.limits.Args {
		return false, r.fail(r.limits.argsError(int64(len(spans))))
	}
	r.consume(length + 1)
	if len(spans) == 0 {
		return false, nil
	}

	// Earlier commands of this batch lie in scratch: it is only ever appended to, or left to them by a reallocation.
	size := 16
	for _, a := range spans {
		size += 16 + a.to - a.from
	}
	out := slices.Grow(r.scratch, size)
	from := len(out)
	out = AppendArray(out, len(spans))
	c.Args = c.Args[:0]
	for _, a := range spans {
		out = AppendBulk(out, decoded[a.from:a.to])
		end := len(out) - 2
		c.Args = append(c.Args, out[end-(a.to-a.from):end:end])
	}
	c.Raw = out[from:len(out):len(out)]
	r.scratch = out
	return true, nil
}

// splitInline splits a line into arguments by the rules of Redis's sdssplitargs: "double quotes" know \n \r \t \b \a
// \xHH and \ before any other byte, 'single quotes' know \' only, and a closing quote must end the argument. It reports
// false for unbalanced quotes. A NUL is a byte like any other; redis-server never sees the end of such a line.
func splitInline(dst []byte, spans []span, line []byte) ([]byte, []span, bool) {
	for {
		for len(line) > 0 && isSpace(line[0]) {
			line = line[1:]
		}
		if len(line) == 0 {
			return dst, spans, true
		}
		from := len(dst)
		var n int
		var ok bool
		dst, n, ok = inlineArg(dst, line)
		if !ok {
			return dst, spans, false
		}
		line = line[n:]
		spans = append(spans, span{from, len(dst)})
	}
}

// inlineArg appends the first argument of line, decoded, and returns how much of line it took.
func inlineArg(dst, line []byte) ([]byte, int, bool) {
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0:
			switch c {
			case ' ', '\n', '\r', '\t':
				return dst, i, true
			case '"', '\'':
				quote = c
			default:
				dst = append(dst, c)
			}
		case c == quote:
			i++
			return dst, i, i == len(line) || isSpace(line[i])
		case c != '\\' || i+1 == len(line):
			dst = append(dst, c)
		case quote == '\'':
			if line[i+1] == '\'' {
				i++
			}
			dst = append(dst, line[i])
		default:
			if hex, ok := hexEscape(line[i+1:]); ok {
				dst = append(dst, hex)
				i += 3
				continue
			}
			i++
			dst = append(dst, unescape(line[i]))
		}
	}
	return dst, len(line), quote == 0
}

func hexEscape(b []byte) (byte, bool) {
	if len(b) < 3 || b[0] != 'x' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[1:3]), 16, 8)
	return byte(n), err == nil
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
