package api

import (
	"respmesh/netconf"
)

func orgOf(t *netconf.Topology, o netconf.Org) Org {
	return Org{
		Name:      o.Name,
		Prefix:    o.Prefix.String(),
		Resolver:  o.Resolver().String(),
		Databases: len(t.DatabasesOf(o.Name)),
		Peers:     len(t.PeersOf(o.Name)),
	}
}

func listOrgs(c *call) (any, error) {
	l := Orgs{Orgs: []Org{}}
	for _, o := range c.topo.Orgs {
		if c.who.sees(o.Name) {
			l.Orgs = append(l.Orgs, orgOf(c.topo, o))
		}
	}
	return l, nil
}

// org finds the org of the path.
func (c *call) org() (netconf.Org, error) {
	name := c.PathValue("org")
	o, ok := c.topo.Org(name)
	if !ok {
		return o, failf(CodeNotFound, "org %q isn't there; respmesh orgs list shows what is", clip(name))
	}
	return o, nil
}

func getOrg(c *call) (any, error) {
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	return orgOf(c.topo, o), nil
}

func createOrg(c *call) (any, error) {
	var in OrgRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	var o netconf.Org
	_, err := c.update(func(d *netconf.Draft) (err error) {
		if err := roomForOrg(d); err != nil {
			return err
		}
		o, err = d.AddOrg(in.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return orgOf(c.topo, o), nil
}

func deleteOrg(c *call) (any, error) {
	o, err := c.org()
	if err != nil {
		return nil, err
	}
	_, err = c.update(func(d *netconf.Draft) error { return d.RemoveOrg(o.Name) })
	return nil, err
}
