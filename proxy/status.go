package proxy

// Status is a snapshot for the console.
func (g *Gateway) Status() GatewayStatus {
	v := g.view.Load()
	d := route(classRead, 0, false, sessionView{}, v)
	topology, _ := g.opt.Source.Current()
	st := GatewayStatus{
		Node: g.opt.Node, Region: g.opt.Region, Revision: v.revision, Primary: v.primary, PrimaryRegion: v.primaryRegion,
		PrimaryReachable: v.primaryReachable, PrimaryRTT: v.primaryRTT, ReadsFrom: d.node, Reason: d.reason,
		HasStore: v.hasStore, Pending: int(g.ryw.count.Load()), Commands: g.meters.total.Load(),
	}
	if v.hasStore {
		st.Store = v.store.State()
		st.Replid, st.Offset = v.store.Position()
	}
	g.mu.Lock()
	st.Sessions = len(g.sessions)
	g.mu.Unlock()
	g.linkMu.Lock()
	for l := range g.open {
		if l.pinned {
			st.Pinned++
		} else {
			st.Links++
		}
	}
	g.linkMu.Unlock()
	for _, m := range topology.Members {
		n := NodeStatus{Node: m.Node, Region: m.Region, Primary: m.Node == topology.Primary, Replica: m.Replica}
		if m.Node == g.opt.Node {
			n.Reachable, n.Usable, n.Offset = true, v.localUsable, st.Offset
		} else {
			n.RTT, n.Reachable = g.opt.Mesh.RTT(m.Node)
			if r := g.remote(m.Node); r != nil {
				n.Usable = r.usable.Load() && n.Reachable
				_, n.Offset = r.at.get()
			}
		}
		st.Nodes = append(st.Nodes, n)
	}
	return st
}
