package embedded

import (
	"strconv"
	"strings"
)

// Keyspace events (https://redis.io/docs/latest/develop/use/keyspace-notifications/), as 7.0.15 sends them: what a command
// did to a key, published to those who subscribe to the key's or the event's channel. Commands say x.notify where
// Redis says it, so that events come in its order.

// events is a set of what is published: the two kinds of channel, and classes of events.
type events uint32

const (
	eventKeyspace events = 1 << iota // K: __keyspace@<db>__:<key>
	eventKeyevent                    // E: __keyevent@<db>__:<event>
	eventGeneric                     // g
	eventString                      // $
	eventList                        // l
	eventSet                         // s
	eventHash                        // h
	eventZSet                        // z
	eventExpired                     // x
	eventEvicted                     // e
	eventStream                      // t
	eventMiss                        // m
	eventModule                      // d: nothing here makes them
	eventNew                         // n
	eventAll      = eventGeneric | eventString | eventList | eventSet | eventHash | eventZSet | eventExpired | eventEvicted | eventStream | eventModule
)

// eventLetters are in the order in which CONFIG GET shows them; 7.0.15 leaves n out.
const eventLetters = "g$lshzxetdKEm"

func eventOf(letter byte) events {
	switch letter {
	case 'A':
		return eventAll
	case 'K':
		return eventKeyspace
	case 'E':
		return eventKeyevent
	case 'g':
		return eventGeneric
	case '$':
		return eventString
	case 'l':
		return eventList
	case 's':
		return eventSet
	case 'h':
		return eventHash
	case 'z':
		return eventZSet
	case 'x':
		return eventExpired
	case 'e':
		return eventEvicted
	case 't':
		return eventStream
	case 'm':
		return eventMiss
	case 'd':
		return eventModule
	case 'n':
		return eventNew
	}
	return 0
}

func parseEvents(s string) (set events, ok bool) {
	for i := range len(s) {
		ev := eventOf(s[i])
		if ev == 0 {
			return 0, false
		}
		set |= ev
	}
	return set, true
}

func (v events) String() string {
	var b strings.Builder
	rest := eventLetters
	if v&eventAll == eventAll {
		b.WriteByte('A')
		rest = rest[strings.IndexByte(rest, 'K'):]
	}
	for i := range len(rest) {
		if v&eventOf(rest[i]) != 0 {
			b.WriteByte(rest[i])
		}
	}
	return b.String()
}

// class is that of a type's events.
func (k kind) class() events {
	switch k {
	case kindString:
		return eventString
	case kindList:
		return eventList
	case kindSet:
		return eventSet
	case kindHash:
		return eventHash
	case kindZSet:
		return eventZSet
	case kindStream:
		return eventStream
	}
	return eventGeneric
}

// setEvents chooses what is published. Misses are found by reading commands, which can't publish while they share the lock.
func (e *Engine) setEvents(set events) {
	before, after := e.events&eventMiss != 0, set&eventMiss != 0
	e.events = set
	switch {
	case after && !before:
		e.alone.Add(1)
	case before && !after:
		e.alone.Add(-1)
	}
}

// notify publishes an event of a key in the call's database.
func (x *call) notify(class events, event string, key []byte) {
	if x.e.events&class != 0 {
		x.publishEvent(x.dbIndex, event, key)
	}
}

// changed is notify for a key whose value has the object's type.
func (x *call) changed(o *object, event string, key []byte) { x.notify(o.kind.class(), event, key) }

func (x *call) publishEvent(db int, event string, key []byte) {
	if x.e.events&eventKeyspace != 0 {
		x.publish(append(eventChannel("__keyspace@", db), key...), []byte(event))
	}
	if x.e.events&eventKeyevent != 0 {
		x.publish(append(eventChannel("__keyevent@", db), event...), key)
	}
}

func eventChannel(prefix string, db int) []byte {
	return append(strconv.AppendInt([]byte(prefix), int64(db), 10), "__:"...)
}

// notify publishes an event that no command made.
func (e *Engine) notify(class events, db int, event string, key []byte) {
	if e.events&class != 0 {
		(&call{e: e}).publishEvent(db, event, key)
	}
}
