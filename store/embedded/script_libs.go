package embedded

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The libraries that Redis adds to Lua: bit (http://bitop.luajit.org), struct (http://www.inf.puc-rio.br/~roberto/struct) and
// cmsgpack 0.4.0.

// --- bit ---

func bitArg(L *lua.LState, n int) uint32 {
	return uint32(math.Float64bits(checkNumber(L, n) + 6755399441055744))
}

func (r *luaRuntime) openBit(g *lua.LTable) {
	fns := map[string]lua.LGFunction{}
	push := func(L *lua.LState, v uint32) int {
		L.Push(lua.LNumber(int32(v)))
		return 1
	}
	for name, op := range map[string]func(a uint32) uint32{
		"tobit": func(a uint32) uint32 { return a }, "bnot": func(a uint32) uint32 { return ^a }, "bswap": bits.ReverseBytes32,
	} {
		fns[name] = func(L *lua.LState) int { return push(L, op(bitArg(L, 1))) }
	}
	for name, op := range map[string]func(a, b uint32) uint32{
		"band": func(a, b uint32) uint32 { return a & b }, "bor": func(a, b uint32) uint32 { return a | b },
		"bxor": func(a, b uint32) uint32 { return a ^ b },
	} {
		fns[name] = func(L *lua.LState) int {
			v := bitArg(L, 1)
			for i := 2; i <= L.GetTop(); i++ {
				v = op(v, bitArg(L, i))
			}
			return push(L, v)
		}
	}
	for name, op := range map[string]func(a uint32, n int) uint32{
		"lshift": func(a uint32, n int) uint32 { return a << n }, "rshift": func(a uint32, n int) uint32 { return a >> n },
		"arshift": func(a uint32, n int) uint32 { return uint32(int32(a) >> n) },
		"rol":     bits.RotateLeft32, "ror": func(a uint32, n int) uint32 { return bits.RotateLeft32(a, -n) },
	} {
		fns[name] = func(L *lua.LState) int {
			a := bitArg(L, 1)
			return push(L, op(a, int(bitArg(L, 2)&31)))
		}
	}
	fns["tohex"] = func(L *lua.LState) int {
		v, n, format := bitArg(L, 1), int32(8), "%08x"
		if L.GetTop() > 1 {
			n = int32(bitArg(L, 2))
		}
		if n < 0 {
			n, format = -n, "%08X"
		}
		if n > 8 || n < 0 {
			n = 8
		}
		L.Push(lua.LString(fmt.Sprintf(format, v)[8-n:]))
		return 1
	}
	r.library(g, "bit", fns, nil)
}

// --- struct ---

type structFormat struct {
	L     *lua.LState
	fmt   string
	big   bool
	align int
}

func (f *structFormat) number(d int) int {
	if f.fmt == "" || !isDigit(f.fmt[0]) {
		return d
	}
	n := 0
	for f.fmt != "" && isDigit(f.fmt[0]) {
		if n = n*10 + int(f.fmt[0]-'0'); n > math.MaxInt32 {
			raise(f.L, "integral size overflow")
		}
		f.fmt = f.fmt[1:]
	}
	return n
}

// next takes one option and its size.
func (f *structFormat) next() (opt byte, size int) {
	opt, f.fmt = f.fmt[0], f.fmt[1:]
	switch opt {
	case 'b', 'B', 'x':
		size = 1
	case 'h', 'H':
		size = 2
	case 'l', 'L', 'T', 'd':
		size = 8
	case 'f':
		size = 4
	case 'c':
		size = f.number(1)
	case 'i', 'I':
		if size = f.number(4); size > 32 {
			raise(f.L, "integral size %d is larger than limit of %d", size, 32)
		}
	}
	return opt, size
}

func (f *structFormat) padding(at int, opt byte, size int) int {
	if size == 0 || opt == 'c' {
		return 0
	}
	size = min(size, f.align)
	return (size - at&(size-1)) & (size - 1)
}

func (f *structFormat) control(opt byte) {
	switch opt {
	case ' ':
	case '>':
		f.big = true
	case '<':
		f.big = false
	case '!':
		a := f.number(8)
		if a <= 0 || a&(a-1) != 0 {
			raise(f.L, "alignment %d is not a power of 2", a)
		}
		f.align = a
	default:
		argError(f.L, 1, fmt.Sprintf("invalid format option '%c'", opt))
	}
}

func (f *structFormat) order(b []byte) []byte {
	if f.big {
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
	return b
}

func (r *luaRuntime) openStruct(g *lua.LTable) {
	r.library(g, "struct", map[string]lua.LGFunction{"pack": r.structPack, "unpack": structUnpack, "size": structSize}, nil)
}

func (r *luaRuntime) structPack(L *lua.LState) int {
	f := &structFormat{L: L, fmt: checkString(L, 1), align: 1}
	L.Push(lua.LNil) // as there, for messages
	var out []byte
	total, arg := 0, 2
	for f.fmt != "" {
		opt, size := f.next()
		pad := f.padding(total, opt, size)
		total += pad
		out = append(out, make([]byte, pad)...)
		switch opt {
		case 'b', 'B', 'h', 'H', 'l', 'L', 'T', 'i', 'I':
			n := checkNumber(L, arg)
			arg++
			v := uint64(toInt(n))
			if n >= 1<<63 && n < 1<<64 {
				v = uint64(n)
			}
			b := make([]byte, max(size, 8))
			binary.LittleEndian.PutUint64(b, v)
			out = append(out, f.order(b[:size])...)
		case 'x':
			out = append(out, 0)
		case 'f':
			b := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(checkNumber(L, arg))))
			arg++
			out = append(out, f.order(b)...)
		case 'd':
			b := binary.LittleEndian.AppendUint64(nil, math.Float64bits(checkNumber(L, arg)))
			arg++
			out = append(out, f.order(b)...)
		case 'c', 's':
			s := checkString(L, arg)
			arg++
			if size == 0 {
				size = len(s)
			}
			if len(s) < size {
				argError(L, arg, "string too short")
			}
			out = append(out, s[:size]...)
			if opt == 's' {
				out = append(out, 0)
				size++
			}
		default:
			f.control(opt)
		}
		total += size
		r.bound(L, total)
	}
	L.Push(lua.LString(out))
	return 1
}

func structUnpack(L *lua.LState) int {
	f := &structFormat{L: L, fmt: checkString(L, 1), align: 1}
	data := checkString(L, 2)
	pos := optInt(L, 3, 1)
	if pos <= 0 {
		argError(L, 3, "offset must be 1 or greater")
	}
	pos--
	var out []lua.LValue
	need := func(size int) {
		if size > len(data) || pos > len(data)-size {
			argError(L, 2, "data string too short")
		}
	}
	for f.fmt != "" {
		opt, size := f.next()
		pos += f.padding(pos, opt, size)
		need(size)
		if len(out) >= maxUnpack {
			raise(L, "stack overflow (too many results)")
		}
		switch opt {
		case 'b', 'B', 'h', 'H', 'l', 'L', 'T', 'i', 'I':
			b := f.order([]byte(data[pos : pos+size]))
			var v uint64
			for i := len(b) - 1; i >= 0; i-- {
				v = v<<8 | uint64(b[i])
			}
			if opt < 'a' {
				out = append(out, lua.LNumber(v))
				break
			}
			if shift := 64 - 8*size; shift > 0 {
				v = uint64(int64(v<<shift) >> shift)
			}
			out = append(out, lua.LNumber(int64(v)))
		case 'f':
			out = append(out, lua.LNumber(math.Float32frombits(binary.LittleEndian.Uint32(f.order([]byte(data[pos:pos+4]))))))
		case 'd':
			out = append(out, lua.LNumber(math.Float64frombits(binary.LittleEndian.Uint64(f.order([]byte(data[pos:pos+8]))))))
		case 'c':
			if size == 0 {
				n, ok := lua.LNumber(0), len(out) > 0
				if ok {
					n, ok = out[len(out)-1].(lua.LNumber)
				}
				if !ok {
					raise(L, "format 'c0' needs a previous size")
				}
				if size = toInt(float64(n)); size < 0 {
					size = len(data) + 1
				}
				out = out[:len(out)-1]
				need(size)
			}
			out = append(out, lua.LString(data[pos:pos+size]))
		case 's':
			i := strings.IndexByte(data[pos:], 0)
			if i < 0 {
				raise(L, "unfinished string in data")
			}
			out = append(out, lua.LString(data[pos:pos+i]))
			size = i + 1
		case 'x':
		default:
			f.control(opt)
		}
		pos += size
	}
	for _, v := range out {
		L.Push(v)
	}
	L.Push(lua.LNumber(pos + 1))
	return len(out) + 1
}

func structSize(L *lua.LState) int {
	f := &structFormat{L: L, fmt: checkString(L, 1), align: 1}
	pos := 0
	for f.fmt != "" {
		opt, size := f.next()
		pos += f.padding(pos, opt, size)
		switch {
		case opt == 's':
			argError(L, 1, "option 's' has no fixed size")
		case opt == 'c' && size == 0:
			argError(L, 1, "option 'c0' has no fixed size")
		case !isAlpha(opt) && !isDigit(opt):
			f.control(opt)
		}
		pos += size
	}
	L.Push(lua.LNumber(pos))
	return 1
}

// --- cmsgpack ---

const maxMsgpackDeep = 16

func (r *luaRuntime) openMsgpack(g *lua.LTable) {
	r.library(g, "cmsgpack", map[string]lua.LGFunction{
		"pack":   r.msgPack,
		"unpack": func(L *lua.LState) int { return r.msgUnpack(L, 0, 0) },
		"unpack_one": func(L *lua.LState) int {
			return r.msgUnpack(L, 1, optInt(L, 2, 0))
		},
		"unpack_limit": func(L *lua.LState) int {
			return r.msgUnpack(L, checkInt(L, 2), optInt(L, 3, 0))
		},
	}, map[string]lua.LValue{
		"_NAME": lua.LString("cmsgpack"), "_VERSION": lua.LString("lua-cmsgpack 0.4.0"),
		"_COPYRIGHT":   lua.LString("Copyright (C) 2012, Salvatore Sanfilippo"),
		"_DESCRIPTION": lua.LString("MessagePack C implementation for Lua"),
	})
}

func (r *luaRuntime) msgPack(L *lua.LState) int {
	n := L.GetTop()
	if n == 0 {
		argError(L, 0, "MessagePack pack needs input.")
	}
	var out []byte
	for i := 1; i <= n; i++ {
		out = r.msgAppend(L, out, L.Get(i), 0)
	}
	L.Push(lua.LString(out))
	return 1
}

// msgHeader writes a length: the short form below 2^bits, else one of 16 or 32 bits.
func msgHeader(out []byte, n, short int, fix, code8, code16, code32 byte) []byte {
	switch {
	case n < short:
		return append(out, fix|byte(n))
	case n <= 0xff && code8 != 0:
		return append(out, code8, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(out, code16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(out, code32), uint32(n))
}

func (r *luaRuntime) msgAppend(L *lua.LState, out []byte, v lua.LValue, deep int) []byte {
	r.bound(L, len(out))
	switch v := v.(type) {
	case lua.LString:
		return append(msgHeader(out, len(v), 32, 0xa0, 0xd9, 0xda, 0xdb), v...)
	case lua.LBool:
		if v {
			return append(out, 0xc3)
		}
		return append(out, 0xc2)
	case lua.LNumber:
		return msgNumber(out, float64(v))
	case *lua.LTable:
		if deep == maxMsgpackDeep {
			return append(out, 0xc0)
		}
		v = r.backing(v)
		count, most, array := 0, 0.0, true
		for k, _ := v.Next(lua.LNil); k != lua.LNil; k, _ = v.Next(k) {
			n, ok := k.(lua.LNumber)
			if !ok || n <= 0 || float64(n) != math.Trunc(float64(n)) {
				array = false
			}
			count++
			most = max(most, float64(n))
		}
		if array && most == float64(count) {
			out = msgHeader(out, count, 16, 0x90, 0, 0xdc, 0xdd)
			for i := range count {
				out = r.msgAppend(L, out, getIndex(v, i+1), deep+1)
			}
			return out
		}
		out = msgHeader(out, count, 16, 0x80, 0, 0xde, 0xdf)
		for k, e := v.Next(lua.LNil); k != lua.LNil; k, e = v.Next(k) {
			out = r.msgAppend(L, out, k, deep+1)
			out = r.msgAppend(L, out, e, deep+1)
		}
		return out
	}
	return append(out, 0xc0)
}

func msgNumber(out []byte, f float64) []byte {
	if n := int64(toInt(f)); float64(n) == f {
		switch {
		case n >= 0 && n <= 127, n < 0 && n >= -32:
			return append(out, byte(n))
		case n >= 0 && n <= 0xff:
			return append(out, 0xcc, byte(n))
		case n >= 0 && n <= 0xffff:
			return binary.BigEndian.AppendUint16(append(out, 0xcd), uint16(n))
		case n >= 0 && n <= 0xffffffff:
			return binary.BigEndian.AppendUint32(append(out, 0xce), uint32(n))
		case n >= 0:
			return binary.BigEndian.AppendUint64(append(out, 0xcf), uint64(n))
		case n >= -128:
			return append(out, 0xd0, byte(n))
		case n >= -32768:
			return binary.BigEndian.AppendUint16(append(out, 0xd1), uint16(n))
		case n >= math.MinInt32:
			return binary.BigEndian.AppendUint32(append(out, 0xd2), uint32(n))
		}
		return binary.BigEndian.AppendUint64(append(out, 0xd3), uint64(n))
	}
	if s := float32(f); float64(s) == f {
		return binary.BigEndian.AppendUint32(append(out, 0xca), math.Float32bits(s))
	}
	return binary.BigEndian.AppendUint64(append(out, 0xcb), math.Float64bits(f))
}

// msgReader decodes. Once failed, it stays so.
type msgReader struct {
	L    *lua.LState
	data string
	fail string
	deep int
}

const (
	msgMissing = "Missing bytes in input."
	msgBad     = "Bad data format in input."
)

func (m *msgReader) take(n int) string {
	if m.fail != "" || n > len(m.data) {
		if m.fail == "" {
			m.fail = msgMissing
		}
		return ""
	}
	s := m.data[:n]
	m.data = m.data[n:]
	return s
}

func (m *msgReader) uint(size int) uint64 {
	var v uint64
	for _, c := range []byte(m.take(size)) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (m *msgReader) value() lua.LValue {
	head := m.take(1)
	if head == "" {
		return lua.LNil
	}
	c := head[0]
	switch {
	case c < 0x80:
		return lua.LNumber(c)
	case c < 0x90:
		return m.mapping(int(c & 15))
	case c < 0xa0:
		return m.array(int(c & 15))
	case c < 0xc0:
		return lua.LString(m.take(int(c & 31)))
	case c >= 0xe0:
		return lua.LNumber(int8(c))
	}
	switch c {
	case 0xc0:
		return lua.LNil
	case 0xc2, 0xc3:
		return lua.LBool(c == 0xc3)
	case 0xca:
		return lua.LNumber(math.Float32frombits(uint32(m.uint(4))))
	case 0xcb:
		return lua.LNumber(math.Float64frombits(m.uint(8)))
	case 0xcc, 0xcd, 0xce, 0xcf:
		return lua.LNumber(m.uint(1 << (c - 0xcc)))
	case 0xd0:
		return lua.LNumber(int8(m.uint(1)))
	case 0xd1:
		return lua.LNumber(int16(m.uint(2)))
	case 0xd2:
		return lua.LNumber(int32(m.uint(4)))
	case 0xd3:
		return lua.LNumber(int64(m.uint(8)))
	case 0xd9, 0xda, 0xdb:
		return lua.LString(m.take(int(m.uint(1 << (c - 0xd9)))))
	case 0xdc, 0xdd:
		return m.array(int(m.uint(2 << (c - 0xdc))))
	case 0xde, 0xdf:
		return m.mapping(int(m.uint(2 << (c - 0xde))))
	}
	m.fail = msgBad
	return lua.LNil
}

func (m *msgReader) down(what string) {
	if m.deep++; m.deep > 3900 {
		raise(m.L, "stack overflow (in function mp_decode_to_lua_%s)", what)
	}
}

func (m *msgReader) array(n int) lua.LValue {
	m.down("array")
	t := m.L.NewTable()
	for i := 1; i <= n && m.fail == ""; i++ {
		t.RawSetInt(i, m.value())
	}
	m.deep--
	return t
}

func (m *msgReader) mapping(n int) lua.LValue {
	m.down("hash")
	t := m.L.NewTable()
	for i := 0; i < n && m.fail == ""; i++ {
		k := m.value()
		v := m.value()
		if m.fail != "" {
			break
		}
		if f, ok := k.(lua.LNumber); k == lua.LNil || ok && math.IsNaN(float64(f)) {
			raiseBare(m.L, "table index is "+map[bool]string{true: "NaN", false: "nil"}[ok])
		}
		t.RawSet(k, v)
	}
	m.deep--
	return t
}

func (r *luaRuntime) msgUnpack(L *lua.LState, limit, offset int) int {
	all := limit == 0 && offset == 0
	s := checkString(L, 1)
	switch {
	case offset < 0 || limit < 0:
		raise(L, "Invalid request to unpack with offset of %d and limit of %d.", offset, len(s))
	case offset > len(s):
		raise(L, "Start offset %d greater than input length %d.", offset, len(s))
	}
	m := &msgReader{L: L, data: s[offset:]}
	var out []lua.LValue
	for m.data != "" && (all || len(out) < limit) {
		v := m.value()
		if m.fail != "" {
			raise(L, "%s", m.fail)
		}
		if out = append(out, v); len(out) >= maxUnpack {
			raise(L, "stack overflow (in function mp_unpack_full)")
		}
	}
	if !all {
		next := len(s) - len(m.data)
		if m.data == "" {
			next = -1
		}
		L.Push(lua.LNumber(next))
	}
	for _, v := range out {
		L.Push(v)
	}
	if all {
		return len(out)
	}
	return len(out) + 1
}
