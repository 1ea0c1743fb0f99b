package psync

import (
	"fmt"
	"strings"

	"respmesh/resp/frame"
)

// historyOption is a REPLCONF between copies of this package:
//
//	REPLCONF respmesh-history <replid>  →  +OK <offset> <term> <now>
//
// tells how far the primary knows the replica's history (-1: not at all), under
// which term it is the primary, and how far it is. A replica has the term once it
// is as far: from then on it can take the primary's place. Servers answer that they
// don't know it.
const historyOption = "respmesh-history"

func (p *Primary) appendHistory(dst []byte, replid string) []byte {
	upTo, now := p.opt.Log.knownTo(replid)
	return frame.AppendSimple(dst, fmt.Sprintf("OK %d %d %d", upTo, now.Term, now.Offset))
}

// takeHistory reads the answer.
func (l *link) takeHistory(line string) {
	words := strings.Fields(line)
	if len(words) != 4 || words[0] != "+OK" {
		return
	}
	known, ok1 := frame.ParseInt([]byte(words[1]))
	term, ok2 := frame.ParseInt([]byte(words[2]))
	goal, ok3 := frame.ParseInt([]byte(words[3]))
	if ok1 && ok2 && ok3 {
		l.known, l.term, l.goal = known, term, goal
	}
}

// takeTerm gives the log the primary's term, once all that the primary had when it told its term is here.
func (l *link) takeTerm() {
	at := l.r.opt.Log.Standing()
	if l.behind = at.Offset < l.goal; !l.behind && at.Term != l.term {
		l.r.opt.Log.SetTerm(l.term)
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
