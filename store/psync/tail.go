package psync

import (
	"fmt"
	"strings"

	"respmesh/resp/frame"
)

// historyOption is a REPLCONF between copies of this package:
//
//	REPLCONF respmesh-history <replid>  →  +OK <offset> <term>
//
// tells how far the primary knows the replica's history (-1: not at all), and
// under which term it is the primary. Servers answer that they don't know it.
const historyOption = "respmesh-history"

func (p *Primary) appendHistory(dst []byte, replid string) []byte {
	upTo, term := p.opt.Log.knownTo(replid)
	return frame.AppendSimple(dst, fmt.Sprintf("OK %d %d", upTo, term))
}

// takeHistory reads the answer.
func (l *link) takeHistory(line string) {
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != "+OK" {
		return
	}
	known, ok1 := frame.ParseInt([]byte(words[1]))
	term, ok2 := frame.ParseInt([]byte(words[2]))
	if ok1 && ok2 {
		l.known, l.term = known, term
	}
}

// countTail notes what is here and not at the primary, before it is given up.
func (l *link) countTail() {
	if l.known < 0 || !l.goOn {
		return
	}
	bytes, commands := l.r.opt.Log.tailAfter(l.known)
	if bytes == 0 {
		return
	}
	l.r.discarded.Add(bytes)
	at := l.r.opt.Log.Standing()
	l.r.opt.Logger.Warn("this copy has writes that its primary never got; they are given up", "replid", at.Replid,
		"after", l.known, "bytes", bytes, "commands", commands)
}
