package embedded

func xinfoHelp(x *call) {
	x.help(
		"XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
		"CONSUMERS <key> <groupname>",
		"    Show consumers of <groupname>.",
		"GROUPS <key>",
		"    Show the stream consumer groups.",
		"STREAM <key> [FULL [COUNT <count>]",
		"    Show information about the stream.",
		"HELP",
		"    Prints this help.",
	)
}

// infoStream looks up the stream that XINFO is about; ok=false has replied the error.
func (x *call) infoStream() (s *streamValue, ok bool) {
	s, ok = x.readStream(x.args[2])
	if ok && s == nil {
		x.err(errNoSuchKey)
		return nil, false
	}
	return s, ok
}

// field replies the name of a field of XINFO's maps.
func (x *call) field(name string) { x.bulkString(name) }

func xinfoStream(x *call) {
	s, ok := x.infoStream()
	if !ok {
		return
	}
	full, count := len(x.args) > 3, int64(10)
	if full {
		if n := len(x.args); n != 4 && n != 6 || !is(x.args[3], "FULL") || n == 6 && !is(x.args[4], "COUNT") {
			x.badSubcommand()
			return
		}
		if len(x.args) == 6 {
			if count, ok = x.argInt(x.args[5]); !ok {
				return
			}
			if count < 0 {
				count = 10
			}
		}
	}
	if full {
		x.mapHeader(9)
	} else {
		x.mapHeader(10)
	}
	x.field("length")
	x.int(int64(s.length))
	x.field("radix-tree-keys")
	x.int(int64(len(s.chunks)))
	x.field("radix-tree-nodes")
	x.int(int64(s.treeNodes()))
	x.field("last-generated-id")
	x.streamID(s.last)
	x.field("max-deleted-entry-id")
	x.streamID(s.maxDeleted)
	x.field("entries-added")
	x.int(int64(s.added))
	x.field("recorded-first-entry-id")
	x.streamID(s.first)
	if full {
		x.field("entries")
		x.streamRange(s, streamID{}, streamMax, count, false)
		x.field("groups")
		x.array(len(s.groups))
		for _, g := range s.groups {
			x.groupInFull(s, g, int(count))
		}
		return
	}
	x.field("groups")
	x.int(int64(len(s.groups)))
	for _, end := range []string{"first-entry", "last-entry"} {
		x.field(end)
		found := false
		s.walk(streamID{}, streamMax, end == "last-entry", false, func(e *streamEntry) bool {
			found = true
			x.streamEntry(e)
			return false
		})
		if !found {
			x.null()
		}
	}
}

func (x *call) groupPosition(s *streamValue, g *streamGroup) {
	x.field("last-delivered-id")
	x.streamID(g.last)
	x.field("entries-read")
	if g.read != readUnknown {
		x.int(g.read)
	} else {
		x.null()
	}
	x.field("lag")
	if n, ok := s.lag(g); ok {
		x.int(n)
	} else {
		x.null()
	}
}

func (x *call) groupInFull(s *streamValue, g *streamGroup, count int) {
	x.mapHeader(7)
	x.field("name")
	x.bulkString(g.name)
	x.groupPosition(s, g)
	x.pendingInFull(&g.pel, count, true)
	x.field("consumers")
	x.array(len(g.consumers))
	for _, c := range g.consumers {
		x.mapHeader(4)
		x.field("name")
		x.bulkString(c.name)
		x.field("seen-time")
		x.int(c.seen)
		x.pendingInFull(&c.pel, count, false)
	}
}

func (x *call) pendingInFull(p *pendingList, count int, withName bool) {
	x.field("pel-count")
	x.int(int64(p.n))
	x.field("pending")
	n := p.n
	if count > 0 {
		n = min(n, count)
	}
	x.array(n)
	p.each(func(id streamID, nk *nack) bool {
		if n == 0 {
			return false
		}
		n--
		if withName {
			x.array(4)
		} else {
			x.array(3)
		}
		x.streamID(id)
		if withName {
			x.bulkString(nk.consumer.name)
		}
		x.int(nk.delivered)
		x.int(nk.count)
		return true
	})
}

func xinfoGroups(x *call) {
	s, ok := x.infoStream()
	if !ok {
		return
	}
	x.array(len(s.groups))
	for _, g := range s.groups {
		x.mapHeader(6)
		x.field("name")
		x.bulkString(g.name)
		x.field("consumers")
		x.int(int64(len(g.consumers)))
		x.field("pending")
		x.int(int64(g.pel.n))
		x.groupPosition(s, g)
	}
}

func xinfoConsumers(x *call) {
	s, ok := x.infoStream()
	if !ok {
		return
	}
	g := s.group(x.args[3])
	if g == nil {
		x.errf("NOGROUP No such consumer group '%s' for key name '%s'", cText(x.args[3]), cText(x.args[2]))
		return
	}
	x.array(len(g.consumers))
	for _, c := range g.consumers {
		x.mapHeader(3)
		x.field("name")
		x.bulkString(c.name)
		x.field("pending")
		x.int(int64(c.pel.n))
		x.field("idle")
		x.int(max(x.now-c.seen, 0))
	}
}
