package main

import (
	"context"
	"math"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"respmesh/test/bench/figures"
)

// The drawings have fewer and shorter runs than the table: what they show is the shape.
const (
	plotRepeats = 3
	plotSeconds = 0.4
)

func plotClients() []int { return []int{1, 10, 50, 200, 1000} }
func plotDepths() []int  { return []int{1, 4, 16, 64} }

// draw measures GET against the number of connections and the depth of pipelines, and draws what came out as SVG in dir.
func (b *bench) draw(ctx context.Context, dir string) error {
	var byClients, byDepth []cell
	for _, n := range plotClients() {
		byClients = append(byClients, cell{"GET", 1, n})
	}
	for _, n := range plotDepths() {
		byDepth = append(byDepth, cell{"GET", n, b.clients})
	}
	// A repeated cell would mix these runs with the table's.
	fresh := *b
	fresh.targets = nil
	for _, t := range b.targets {
		c := *t
		c.runs = map[cell][]result{}
		fresh.targets = append(fresh.targets, &c)
	}
	if err := fresh.measure(ctx, append(byClients, byDepth[1:]...), plotRepeats, plotSeconds); err != nil {
		return err
	}
	clients := func(c cell) int { return c.clients }
	depth := func(c cell) int { return c.depth }
	rate := func(r result) float64 { return r.rate }
	p50 := func(r result) float64 { return r.p50 }
	for _, d := range []struct {
		file, title, x, y string
		cells             []cell
		at                func(cell) int
		value             func(result) float64
	}{
		{"connections-rate.svg", "GET, P=1", "connections", "commands/s", byClients, clients, rate},
		{"connections-p50.svg", "GET, P=1", "connections", "p50, ms", byClients, clients, p50},
		{"pipeline-rate.svg", "GET, " + strconv.Itoa(b.clients) + " connections", "commands in a pipeline", "commands/s", byDepth, depth, rate},
		{"pipeline-p50.svg", "GET, " + strconv.Itoa(b.clients) + " connections", "commands in a pipeline", "p50, ms", byDepth, depth, p50},
	} {
		p := plot.New()
		p.Title.Text, p.X.Label.Text, p.Y.Label.Text = d.title, d.x, d.y
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
		p.Legend.Top, p.Legend.Left = true, true
		var ticks plot.ConstantTicks
		for _, c := range d.cells {
			ticks = append(ticks, plot.Tick{Value: float64(d.at(c)), Label: strconv.Itoa(d.at(c))})
		}
		p.X.Tick.Marker = ticks
		p.Add(plotter.NewGrid())
		var lines []any
		for _, t := range fresh.targets {
			var xy plotter.XYs
			for _, c := range d.cells {
				if v := figures.Median(figures.Of(t.runs[c], d.value)); v > 0 { // below a microsecond redis-benchmark says 0, which has no logarithm
					xy = append(xy, plotter.XY{X: float64(d.at(c)), Y: v})
				}
			}
			if len(xy) > 0 {
				lines = append(lines, t.name, xy)
			}
		}
		if err := plotutil.AddLinePoints(p, lines...); err != nil {
			return err
		}
		p.Y.Max *= math.Sqrt(10) // room for the legend
		if err := p.Save(6*vg.Inch, 4*vg.Inch, filepath.Join(dir, d.file)); err != nil {
			return err
		}
	}
	return nil
}
