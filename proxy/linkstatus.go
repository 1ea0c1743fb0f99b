package proxy

import (
	"time"

	"respmesh/resp/frame"
)

// status is the reply to RESPMESH STATUS.
type status struct {
	role   string
	usable bool
	replid string
	offset int64
	heard  int64 // ms ago; -1: never
	all    int64 // commands charged by all nodes; -1: not known
}

func appendStatus(dst []byte, store Store, charged int64) []byte {
	st := store.State()
	replid, offset := store.Position()
	role, usable, heard := "replica", int64(0), int64(-1)
	if st.Primary {
		role, heard = "primary", 0
	} else if !st.LastHeard.IsZero() {
		heard = max(0, time.Since(st.LastHeard).Milliseconds())
	}
	if st.Usable || st.Primary {
		usable = 1
	}
	n := 5
	if charged >= 0 { // only who asked for it is told
		n++
	}
	dst = frame.AppendBulkString(frame.AppendArray(dst, n), role)
	dst = frame.AppendBulkString(frame.AppendInt(dst, usable), replid)
	dst = frame.AppendInt(frame.AppendInt(dst, offset), heard)
	if charged >= 0 {
		dst = frame.AppendInt(dst, charged)
	}
	return dst
}

func parseStatus(raw []byte) (st status, ok bool) {
	p := frame.Reply{Raw: raw}
	if p.Kind() != frame.Array || p.Len() < 5 { // later versions say more
		return st, false
	}
	st.all = -1
	i := 0
	p.Each(func(v frame.Reply) bool {
		n, _ := v.Int()
		switch i {
		case 0:
			st.role = string(v.Text())
		case 1:
			st.usable = n == 1
		case 2:
			st.replid = string(v.Text())
		case 3:
			st.offset = n
		case 4:
			st.heard = n
		case 5:
			st.all = n
		}
		i++
		return true
	})
	return st, true
}
