package node

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// collected is what a collector in this process was given.
type collected struct {
	mu    sync.Mutex
	raw   bytes.Buffer
	spans []map[string]string
}

func texts(list []*common.KeyValue, into map[string]string) {
	for _, a := range list {
		into[a.GetKey()] = a.GetValue().GetStringValue()
	}
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var req otlp.ExportTraceServiceRequest
	if r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, from := range req.GetResourceSpans() {
		for _, scope := range from.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				x := map[string]string{"name": span.GetName(), "status": span.GetStatus().GetMessage()}
				texts(from.GetResource().GetAttributes(), x)
				texts(span.GetAttributes(), x)
				if span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
					x["status"] = "ends before it starts"
				}
				c.spans = append(c.spans, x)
			}
		}
	}
}

// has says whether there is a span with these attributes.
func (c *collected) has(want map[string]string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.spans, func(x map[string]string) bool {
		for k, v := range want {
			if x[k] != v {
				return false
			}
		}
		return true
	})
}

func TestTraces(t *testing.T) {
	c := &collected{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	o := options(t)
	o.Trace = TraceOptions{Endpoint: srv.URL, Ratio: 1}
	d := startDev(t, o)
	if got := do(t, d, 1, "SET", "secretkey", "secretvalue"); got != "OK" {
		t.Fatal(got)
	}
	if got := do(t, d, 1, "GET", "secretkey"); got != "secretvalue" {
		t.Fatal(got)
	}
	do(t, d, 1, "INCR", "secretkey")
	closeDev(t, d)
	for _, want := range []map[string]string{
		{"name": "SET", "respmesh.route": "primary", "respmesh.node": "mad-1", "respmesh.node.region": "mad", "respmesh.class": "write", "status": "",
			"service.name": "respmesh", "service.instance.id": "ams-1", "respmesh.region": "ams", "respmesh.database": "personal/demo", "db.system.name": "redis"},
		{"name": "GET", "respmesh.route": "local", "respmesh.node": "ams-1", "respmesh.class": "read", "status": ""},
		{"name": "INCR", "respmesh.route": "primary", "status": "ERR"},
	} {
		if !c.has(want) {
			t.Errorf("no span %v among %v", want, c.spans)
		}
	}
	if bytes.Contains(c.raw.Bytes(), []byte("secret")) {
		t.Error("a key or a value was sent to the collector")
	}
}
