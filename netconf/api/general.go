package api

import (
	_ "embed"

	"respmesh/netconf"
)

//go:embed openapi.json
var openAPI []byte

func getOpenAPI(*call) (any, error) { return openAPI, nil }

func getVersion(c *call) (any, error) {
	return Version{Version: c.s.opt.Version, API: "v1", Node: c.s.opt.Node}, nil
}

func getPlans(*call) (any, error) {
	var l Plans
	for _, p := range netconf.Plans() {
		l.Plans = append(l.Plans, Plan{
			Code: p.Code, MaxData: p.MaxData, MaxRequest: p.MaxRequest, CommandsPerDay: p.CommandsPerDay,
			Price: p.Price, Description: p.Description,
		})
	}
	return l, nil
}

func getRegions(c *call) (any, error) {
	var l Regions
	for _, r := range netconf.Regions() {
		l.Regions = append(l.Regions, Region{Code: r.Code, City: r.City, Lat: r.Lat, Lon: r.Lon, Nodes: len(c.topo.NodesIn(r.Code))})
	}
	return l, nil
}
