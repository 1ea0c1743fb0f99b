// Package frame scans and writes the units of RESP, the Redis serialization protocol, versions 2 and 3:
// https://redis.io/docs/latest/develop/reference/protocol-spec/, and inline commands as redis-server 7.0
// reads them (networking.c, sds.c).
//
// A Reader finds where a frame ends and where its arguments are; it decodes nothing and copies nothing. What it
// returns aliases its buffer and is valid until the next Fill, so that a whole pipelined batch can be taken from one
// read and passed on. Scanning resumes where the last byte was missing: a frame that arrives in a thousand pieces is
// looked at once. Lengths are checked against Limits before anything is allocated for them, and the buffer grows with
// the bytes that came, never with the length that was announced.
//
// The reader is stricter than redis-server in one thing: CR and LF must both be there wherever they belong, because
// raw frames are passed on to other readers, and two readers must never disagree on where a frame ends.
//
// The Append functions write frames to a byte slice in the manner of strconv.
package frame

// Kind is the first byte of a frame.
type Kind byte

// The kinds of RESP2 are Simple, Error, Int, Bulk and Array; RESP3 added the others.
const (
	Simple    Kind = '+'
	Error     Kind = '-'
	Int       Kind = ':'
	Bulk      Kind = '$'
	Array     Kind = '*'
	Map       Kind = '%'
	Set       Kind = '~'
	Push      Kind = '>'
	Attribute Kind = '|'
	Null      Kind = '_'
	Bool      Kind = '#'
	Double    Kind = ','
	BigNumber Kind = '('
	Verbatim  Kind = '='
	BulkError Kind = '!'
)

// A ProtocolError says that the bytes received are not RESP, or are more than the limits allow. The connection cannot
// be read further: its reader answers with the same error from then on.
type ProtocolError struct {
	Reason string // in Redis's own words, such as "invalid bulk length"
}

func (e *ProtocolError) Error() string { return "Protocol error: " + e.Reason }

// AppendReply appends the error reply with which Redis takes leave of such a client.
func (e *ProtocolError) AppendReply(dst []byte) []byte {
	return AppendError(dst, "ERR "+e.Error())
}

const (
	preAuthArgs = 10
	preAuthBulk = 16 << 10
	maxInline   = 64 << 10
	maxBulk     = 512 << 20
	maxArgs     = 1 << 20
)

// Limits bound what a reader accepts. A zero field means its value in DefaultLimits.
type Limits struct {
	Inline int // length of an inline command, or of a line in a reply
	Bulk   int // length of one argument or bulk reply; a whole frame may be twice as long, or 1 MiB if that is more
	Args   int // number of arguments of a command
	// Request is the length of a whole command beyond which it is read past and reported by Command.Excess; zero: no
	// such limit.
	Request int
}

// DefaultLimits and PreAuthLimits are redis-server's limits for clients that are, or are not yet, authenticated.
// Exceeding the latter is reported as such ("unauthenticated bulk length").
var (
	DefaultLimits = Limits{Inline: maxInline, Bulk: maxBulk, Args: maxArgs}
	PreAuthLimits = Limits{Inline: maxInline, Bulk: preAuthBulk, Args: preAuthArgs}
)

func (l Limits) withDefaults() Limits {
	if l.Inline <= 0 {
		l.Inline = maxInline
	}
	if l.Bulk <= 0 {
		l.Bulk = maxBulk
	}
	if l.Args <= 0 {
		l.Args = maxArgs
	}
	return l
}

// frame is the greatest length of a whole frame; with the defaults it is client-query-buffer-limit's default of 1 GiB.
func (l Limits) frame() int { return max(2*l.Bulk, 1<<20) }

func (l Limits) argsError(n int64) *ProtocolError {
	if l.Args == preAuthArgs && n <= maxArgs {
		return &ProtocolError{"unauthenticated multibulk length"}
	}
	return &ProtocolError{"invalid multibulk length"}
}

func (l Limits) bulkError(n int64) *ProtocolError {
	if l.Bulk == preAuthBulk && n <= maxBulk {
		return &ProtocolError{"unauthenticated bulk length"}
	}
	return &ProtocolError{"invalid bulk length"}
}
