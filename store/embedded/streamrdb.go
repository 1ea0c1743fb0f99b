package embedded

import "respmesh/store/rdb"

// toRDB is the stream as a snapshot has it. Its nodes are the stream's own.
func (s *streamValue) toRDB() *rdb.Stream {
	out := &rdb.Stream{
		Nodes: make([]rdb.StreamNode, len(s.chunks)), Length: s.length, Last: s.last.rdb(),
		First: s.first.rdb(), MaxDeleted: s.maxDeleted.rdb(), Added: s.added,
	}
	for i, c := range s.chunks {
		out.Nodes[i] = rdb.StreamNode{Master: c.master.rdb(), Pack: c.pack}
	}
	for _, g := range s.groups {
		to := rdb.StreamGroup{Name: bytesOf(g.name), Last: g.last.rdb(), Read: g.read, Pending: make([]rdb.StreamPending, 0, g.pel.n)}
		g.pel.each(func(id streamID, n *nack) bool {
			to.Pending = append(to.Pending, rdb.StreamPending{ID: id.rdb(), Delivered: n.delivered, Count: uint64(n.count)})
			return true
		})
		for _, c := range g.consumers {
			member := rdb.StreamConsumer{Name: bytesOf(c.name), Seen: c.seen, Pending: make([]rdb.StreamID, 0, c.pel.n)}
			c.pel.each(func(id streamID, _ *nack) bool {
				member.Pending = append(member.Pending, id.rdb())
				return true
			})
			to.Consumers = append(to.Consumers, member)
		}
		out.Groups = append(out.Groups, to)
	}
	return out
}

// streamFromRDB builds a stream; the nodes become the engine's.
func streamFromRDB(in *rdb.Stream) *streamValue {
	s := newStream()
	s.length, s.last = in.Length, streamIDOf(in.Last)
	for _, n := range in.Nodes {
		s.chunks = append(s.chunks, streamChunk{master: streamIDOf(n.Master), pack: n.Pack})
		s.bytes += cap(n.Pack)
	}
	s.first, s.maxDeleted, s.added = streamIDOf(in.First), streamIDOf(in.MaxDeleted), in.Added
	if in.Legacy {
		s.added = s.length
		s.settleFirst()
	}
	for _, from := range in.Groups {
		g := s.addGroup(from.Name, streamIDOf(from.Last), from.Read)
		if g == nil {
			continue // twice
		}
		if in.Legacy {
			g.read = s.readUpTo(g.last)
		}
		for _, p := range from.Pending {
			g.pel.insert(streamIDOf(p.ID), &nack{delivered: p.Delivered, count: int64(p.Count)})
			s.pending++
		}
		for _, m := range from.Consumers {
			c, _ := s.addConsumer(g, m.Name, m.Seen)
			for _, id := range m.Pending {
				g.pel.find(streamIDOf(id)).give(streamIDOf(id), c)
			}
		}
	}
	return s
}

func streamIDOf(id rdb.StreamID) streamID { return streamID{id.MS, id.Seq} }

func (id streamID) rdb() rdb.StreamID { return rdb.StreamID{MS: id.ms, Seq: id.seq} }
