package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"respmesh/proxy"
)

// TraceOptions say where traces of commands go, by OTLP over HTTP.
type TraceOptions struct {
	Endpoint string  // URL of a collector; empty: there are no traces
	Ratio    float64 // of the commands, 0 to 1
}

func (o *TraceOptions) check() error {
	if o.Ratio < 0 || o.Ratio > 1 {
		return Usagef("--trace-ratio: %g isn't between 0 and 1", o.Ratio)
	}
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Usagef("--trace-endpoint: %q isn't the URL of a collector, such as http://localhost:4318", o.Endpoint)
	}
	return nil
}

// tracer sends what gateways tell it to a collector. What that doesn't take in time is dropped: nobody waits for it.
type tracer struct {
	ratio    float64
	provider *sdktrace.TracerProvider
	spans    trace.Tracer
}

// logged has failures of the exporter in the node's log, once for several.
type logged struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	told time.Time // of the one goroutine that exports
}

const traceTellEvery = time.Minute

func (l *logged) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := l.SpanExporter.ExportSpans(ctx, spans)
	if now := time.Now(); err != nil && now.Sub(l.told) > traceTellEvery {
		l.told = now
		l.log.Warn("traces are lost: the collector doesn't take them", "spans", len(spans), "err", err)
	}
	return nil
}

// openTracer makes the tracer of a node; nil: no traces are wanted.
func openTracer(ctx context.Context, opt TraceOptions, o *Options) (*tracer, error) {
	if opt.Endpoint == "" {
		return nil, nil
	}
	where := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(opt.Endpoint)}
	if u, err := url.Parse(opt.Endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		where = append(where, otlptracehttp.WithURLPath("/v1/traces"))
	}
	exporter, err := otlptracehttp.New(ctx, where...)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	t := &tracer{ratio: opt.Ratio, provider: sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&logged{SpanExporter: exporter, log: o.Log}),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // who is told of has been chosen
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "respmesh"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Name), attribute.String("respmesh.region", o.Region)))),
	}
	t.spans = t.provider.Tracer("respmesh/proxy")
	return t, nil
}

// Sample implements proxy.Tracer.
func (t *tracer) Sample() bool { return rand.Float64() < t.ratio }

// Trace implements proxy.Tracer.
func (t *tracer) Trace(x proxy.Span) {
	name := strings.ToUpper(strings.ReplaceAll(x.Command, "|", " "))
	if name == "" {
		name = "unknown command"
	}
	attributes := []attribute.KeyValue{
		attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", name), attribute.Int("db.namespace", x.Index),
		attribute.String("respmesh.database", x.Database), attribute.String("respmesh.class", x.Class),
		attribute.String("respmesh.route", x.Route), attribute.String("respmesh.node", x.Node), attribute.String("respmesh.node.region", x.Region),
	}
	if x.Commands > 1 {
		attributes = append(attributes, attribute.Int("db.operation.batch.size", x.Commands))
	}
	_, span := t.spans.Start(context.Background(), name, trace.WithTimestamp(x.Start), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attributes...))
	if x.Error != "" {
		span.SetStatus(codes.Error, x.Error)
	}
	span.End(trace.WithTimestamp(x.End))
}

// close sends what is left, for as long as a collector that answers needs.
func (t *tracer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return t.provider.Shutdown(ctx)
}
