package redis

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"respmesh/resp/frame"
)

const slotCount = 16384

// slotOf is the slot of a key: CRC16 (XMODEM) of it, or of what is between its first braces.
func slotOf(key []byte) uint16 {
	if i := bytes.IndexByte(key, '{'); i >= 0 {
		if n := bytes.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	var crc uint16
	for _, b := range key {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slotCount
}

// shard is a primary with its replicas, by address. Immutable.
type shard struct {
	primary  string
	replicas []string
}

// slotMap says which shard has a slot. Immutable.
type slotMap struct {
	shards []*shard // in the order of their first slots
	slots  [slotCount]*shard
}

// withMoved is the map after a server said that one slot is elsewhere.
func (m *slotMap) withMoved(slot uint16, addr string) *slotMap {
	next := &slotMap{shards: m.shards, slots: m.slots}
	for _, s := range m.shards {
		if s.primary == addr {
			next.slots[slot] = s
			return next
		}
	}
	s := &shard{primary: addr}
	next.shards = append(slices.Clip(m.shards), s)
	next.slots[slot] = s
	return next
}

// parseSlots reads CLUSTER SLOTS; from is the host that was asked, for nodes that don't know their own name.
func parseSlots(f frame.Reply, from string) (*slotMap, error) {
	if f.Kind() != frame.Array {
		return nil, fmt.Errorf("it answers CLUSTER SLOTS with %.80q", f.Raw)
	}
	m := &slotMap{}
	byPrimary := make(map[string]*shard)
	good := true
	f.Each(func(r frame.Reply) bool {
		var lo, hi int64 = -1, -1
		var addrs []string
		i := 0
		r.Each(func(e frame.Reply) bool {
			switch i {
			case 0:
				lo, _ = e.Int()
			case 1:
				hi, _ = e.Int()
			default:
				if a := nodeAddr(e, from); a != "" {
					addrs = append(addrs, a)
				}
			}
			i++
			return true
		})
		if lo < 0 || hi >= slotCount || lo > hi || len(addrs) == 0 {
			good = false
			return false
		}
		s := byPrimary[addrs[0]]
		if s == nil {
			s = &shard{primary: addrs[0], replicas: addrs[1:]}
			byPrimary[s.primary] = s
			m.shards = append(m.shards, s)
		}
		for n := lo; n <= hi; n++ {
			m.slots[n] = s
		}
		return true
	})
	if !good {
		return nil, errors.New("its CLUSTER SLOTS can't be understood")
	}
	if len(m.shards) == 0 {
		return nil, errors.New("the cluster has no slots assigned")
	}
	slices.SortFunc(m.shards, func(a, b *shard) int { return m.first(a) - m.first(b) })
	return m, nil
}

func (m *slotMap) first(s *shard) int { return slices.Index(m.slots[:], s) }

func nodeAddr(e frame.Reply, from string) string {
	var host string
	var port int64
	i := 0
	e.Each(func(v frame.Reply) bool {
		switch i {
		case 0:
			host = string(v.Text())
		case 1:
			port, _ = v.Int()
		}
		i++
		return i < 2
	})
	switch host {
	case "":
		host = from
	case "?":
		return ""
	}
	if port <= 0 || port > 65535 {
		return ""
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

// redirection reads -MOVED and -ASK.
func redirection(raw []byte) (kind string, slot uint16, addr string, ok bool) {
	if len(raw) < 4 || raw[0] != '-' || raw[1] != 'M' && raw[1] != 'A' {
		return "", 0, "", false
	}
	words := bytes.Fields(raw[1:])
	if len(words) != 3 || string(words[0]) != "MOVED" && string(words[0]) != "ASK" {
		return "", 0, "", false
	}
	n, err := strconv.ParseUint(string(words[1]), 10, 16)
	return string(words[0]), uint16(n), string(words[2]), err == nil && n < slotCount
}
