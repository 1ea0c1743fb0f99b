package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// A Reader decodes an RDB file key by key. It holds one key at a time, and
// allocates for what it has read, never for what a length field promises.
type Reader struct {
	in      input
	version int
	begun   bool
	db      int
	aux     []Aux
	funcs   [][]byte
	err     error // what every further Next returns
}

// NewReader decodes from src, which it reads in blocks of its own: see Buffered.
func NewReader(src io.Reader) *Reader {
	return &Reader{in: input{src: src, buf: make([]byte, readBuffer)}}
}

// Next returns the next key, in the order of the file. At the end, once the
// checksum has been found right, the error is io.EOF; an input that stops before
// its end gives io.ErrUnexpectedEOF; one that can't be decoded a *FormatError.
// Keys without a value, which old servers wrote by mistake, are passed over, as
// Redis does.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	e, err := r.next()
	if err != nil {
		if err != io.EOF {
			err = r.explain(err)
		}
		r.err = err
		return Entry{}, err
	}
	return e, nil
}

// Version is the file's version; known after the first Next.
func (r *Reader) Version() int { return r.version }

// Aux returns the value of an auxiliary field that has been read so far. A
// writer puts them before the first key.
func (r *Reader) Aux(key string) (string, bool) {
	for _, a := range r.aux {
		if a.Key == key {
			return a.Value, true
		}
	}
	return "", false
}

// Functions returns the code of the function libraries read so far.
func (r *Reader) Functions() [][]byte { return r.funcs }

// Offset is how many bytes of the file have been decoded.
func (r *Reader) Offset() int64 { return r.in.offset() }

// Buffered returns what has been read from the source beyond the end of the
// file, once Next has returned io.EOF: an append-only file may follow there.
func (r *Reader) Buffered() []byte { return r.in.buf[r.in.r:r.in.w] }

func (r *Reader) explain(err error) error {
	var bad badInput
	switch {
	case errors.As(err, &bad):
		return &FormatError{Offset: r.in.offset(), Msg: bad.msg, Kind: bad.kind}
	case err == io.ErrUnexpectedEOF:
		return fmt.Errorf("rdb: input ends at byte %d: %w", r.in.offset(), err)
	}
	return fmt.Errorf("rdb: reading at byte %d: %w", r.in.offset(), err)
}

// badInput is a FormatError before the offset is known.
type badInput struct {
	kind error
	msg  string
}

func (b badInput) Error() string { return b.msg }

func corrupt(format string, args ...any) error {
	return badInput{ErrCorrupt, fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return badInput{ErrUnsupported, fmt.Sprintf(format, args...)}
}

func (r *Reader) header() error {
	h, err := r.in.take(9)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(h, []byte("REDIS")) {
		return corrupt("no REDIS magic")
	}
	v, err := strconv.ParseUint(string(h[5:]), 10, 16)
	if err != nil || v < 1 {
		return corrupt("version %q", h[5:])
	}
	if v > MaxVersion {
		return unsupported("version %d is newer than %d", v, MaxVersion)
	}
	r.version, r.begun = int(v), true
	return nil
}

// maxDB bounds database numbers: redis.conf allows no more than an int.
const maxDB = math.MaxInt32

// maxHeader bounds what is kept of auxiliary fields and libraries, by count.
const maxHeader = 1024

func (r *Reader) next() (Entry, error) {
	if !r.begun {
		if err := r.header(); err != nil {
			return Entry{}, err
		}
	}
	var expireAt int64
	for {
		op, err := r.in.byte()
		if err != nil {
			return Entry{}, err
		}
		switch op {
		case opEOF:
			if r.version >= 5 {
				if err := r.in.checksum(); err != nil {
					return Entry{}, err
				}
			}
			return Entry{}, io.EOF
		case opSelectDB:
			n, err := r.in.length()
			if err != nil {
				return Entry{}, err
			}
			if n > maxDB {
				return Entry{}, corrupt("database number %d", n)
			}
			r.db = int(n)
		case opResizeDB: // keys, and keys with an expiry: a hint that a damaged file may set to anything
			for range 2 {
				if _, err := r.in.length(); err != nil {
					return Entry{}, err
				}
			}
		case opExpireMS, opExpireSec:
			if expireAt, err = r.in.expiry(op); err != nil {
				return Entry{}, err
			}
		case opFreq:
			if _, err := r.in.byte(); err != nil {
				return Entry{}, err
			}
		case opIdle:
			if _, err := r.in.length(); err != nil {
				return Entry{}, err
			}
		case opSlotInfo: // Valkey 8 in cluster mode: slot, keys, expires
			for range 3 {
				if _, err := r.in.length(); err != nil {
					return Entry{}, err
				}
			}
		case opAux:
			if err := r.auxField(); err != nil {
				return Entry{}, err
			}
		case opFunction2:
			code, err := r.in.string()
			if err != nil {
				return Entry{}, err
			}
			if len(r.funcs) < maxHeader {
				r.funcs = append(r.funcs, code)
			}
		case opFunction1, opModuleAux:
			return Entry{}, unsupported("opcode %d (%s)", op, opcodeName(op))
		default:
			key, err := r.in.string()
			if err != nil {
				return Entry{}, err
			}
			v, err := r.in.value(op)
			if err != nil {
				return Entry{}, err
			}
			if v == nil {
				expireAt = 0
				continue
			}
			return Entry{DB: r.db, Key: key, ExpireAt: expireAt, Value: v}, nil
		}
	}
}

func opcodeName(op byte) string {
	if op == opModuleAux {
		return "module data"
	}
	return "functions of a release candidate"
}

func (r *Reader) auxField() error {
	k, err := r.in.string()
	if err != nil {
		return err
	}
	v, err := r.in.string()
	if err != nil {
		return err
	}
	if len(r.aux) < maxHeader {
		r.aux = append(r.aux, Aux{string(k), string(v)})
	}
	return nil
}
