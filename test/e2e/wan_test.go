package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"respmesh/test/dev"
)

func TestReadsAtAReplicaAreServedLocally(t *testing.T) {
	p := world(t)
	nrt := p.Region("nrt")
	requests := 20000
	if dev.Race {
		requests = 4000
	}
	connect(t, nrt).want("OK", "SET", "key:__rand_int__", "x")
	before := carried(t, p)
	begin := time.Now()
	rate := benchmark(t, nrt, "-t", "get", "-c", "1", "-n", strconv.Itoa(requests))
	took := time.Since(begin)
	after := carried(t, p)
	remote := 1 / nrt.RoundTrip().Seconds()
	t.Logf("%.0f reads/s on one connection; a round trip each would allow %.1f", rate, remote)
	if rate < 100*remote {
		t.Errorf("%.0f reads/s at nrt are less than 100 times what a round trip each would allow (%.1f)", rate, remote)
	}
	grown := uint64(0)
	for pair, n := range after {
		if strings.Contains(pair, "nrt") {
			grown += n - before[pair]
		}
	}
	t.Logf("%d bytes between nrt and the others in %v", grown, took)
	if limit := uint64(requests)*10 + uint64(took.Seconds()*20000); grown > limit {
		t.Errorf("%d reads at nrt moved %d bytes between regions", requests, grown)
	}
}

// benchmark runs redis-benchmark and returns the requests per second.
func benchmark(t *testing.T, r dev.Region, args ...string) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, "redis-benchmark"), append([]string{"-h", r.Host(), "-p", r.Port(), "--csv"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("redis-benchmark: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], ",")
	if len(fields) < 2 {
		t.Fatalf("redis-benchmark prints %q", out)
	}
	rate, err := strconv.ParseFloat(strings.Trim(fields[1], `"`), 64)
	if err != nil {
		t.Fatalf("redis-benchmark prints %q", out)
	}
	return rate
}

func TestForwardedWritesGrowThePeersCounters(t *testing.T) {
	p := world(t)
	const size = 256 << 10
	relayBefore, peersBefore := carried(t, p), peerBytes(t, p)
	value := make([]byte, size) // not compressible, or nearly
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	connect(t, p.Region("nrt")).want("OK", "SET", key(t, "k"), string(value))
	eventually(t, slower(5*time.Second), func() error {
		relay, peers := carried(t, p), peerBytes(t, p)
		for _, pair := range []string{"nrt mad", "mad ams", "mad nrt"} { // the write, and its way to the replicas
			if n := relay[pair] - relayBefore[pair]; n < size {
				return fmt.Errorf("the relay carried %d bytes %s for a write of %d", n, pair, size)
			}
			if n := peers[pair] - peersBefore[pair]; n < size {
				return fmt.Errorf("WireGuard counts %d bytes %s for a write of %d", n, pair, size)
			}
		}
		return nil
	})
}

// peerBytes reads what each node's WireGuard device has sent to each other, by "from to".
func peerBytes(t *testing.T, p *dev.Process) map[string]uint64 {
	t.Helper()
	body, err := p.Get(context.Background(), "/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Peers []struct {
			From, To string
			Sent     uint64 `json:"sent_bytes"`
		}
	}
	if err := json.Unmarshal(body, &status); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	out := map[string]uint64{}
	for _, peer := range status.Peers {
		from, _, _ := strings.Cut(peer.From, "-")
		to, _, _ := strings.Cut(peer.To, "-")
		out[from+" "+to] = peer.Sent
	}
	return out
}

// While values travel between regions, everything on the loopback device is captured. The values are seen on the client's
// own TCP connection and nowhere else, and what goes to the nodes' UDP ports is WireGuard.
func TestBetweenRegionsEverythingIsWireGuard(t *testing.T) {
	p := world(t)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		t.Skipf("NOT TESTED: capturing packets takes root: %v", err)
	}
	defer unix.Close(fd)
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})

	marker := fmt.Sprintf("<marker %d>", rand.Uint64())
	c := connect(t, p.Region("nrt"))
	for i := range 20 {
		c.want("OK", "SET", key(t, strconv.Itoa(i)), strings.Repeat(marker, 20))
	}
	eventuallyGet(t, p.Region("ams"), 5*time.Second, key(t, "19"), strconv.Quote(strings.Repeat(marker, 20)))

	// A datagram of the test's own ends the capture.
	end, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	if _, err := end.WriteTo([]byte("end of "+marker[1:]), end.LocalAddr()); err != nil {
		t.Fatal(err)
	}

	clientPorts := map[uint16]bool{}
	wireguard := map[uint16]bool{}
	for _, r := range p.Regions {
		clientPorts[port(t, r.RESP)] = true
		wireguard[port(t, r.WireGuard)] = true
	}
	var datagrams, seen int
	buf := make([]byte, 70000)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == syscall.EINTR {
			continue
		} else if err != nil {
			t.Fatalf("the capture's end didn't come: %v", err)
		}
		proto, src, dst, payload, ok := transport(buf[:n])
		if !ok {
			continue
		}
		if string(payload) == "end of "+marker[1:] {
			break
		}
		if bytes.Contains(payload, []byte(marker)) {
			if seen++; proto != unix.IPPROTO_TCP || !clientPorts[src] && !clientPorts[dst] {
				t.Fatalf("a value goes over IP protocol %d from port %d to %d in the clear", proto, src, dst)
			}
		}
		if proto == unix.IPPROTO_UDP && (wireguard[src] || wireguard[dst]) {
			datagrams++
			if len(payload) < 32 || payload[0] < 1 || payload[0] > 4 || payload[1] != 0 || payload[2] != 0 || payload[3] != 0 {
				t.Fatalf("a datagram from port %d to %d isn't WireGuard: % x", src, dst, payload[:min(len(payload), 32)])
			}
		}
	}
	t.Logf("%d datagrams, the value seen in %d packets of clients", datagrams, seen)
	if datagrams == 0 || seen == 0 {
		t.Error("nothing was captured")
	}
}

func htons(n uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)) }

func port(t *testing.T, addr string) uint16 {
	t.Helper()
	_, s, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// transport takes an Ethernet frame apart.
func transport(frame []byte) (proto int, src, dst uint16, payload []byte, ok bool) {
	if len(frame) < 14 {
		return
	}
	ip := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(ip) < 20 {
			return
		}
		proto, payload = int(ip[9]), ip[min(len(ip), int(ip[0]&15)*4):]
	case unix.ETH_P_IPV6:
		if len(ip) < 40 {
			return
		}
		proto, payload = int(ip[6]), ip[40:]
	default:
		return
	}
	header := 8
	if proto == unix.IPPROTO_TCP {
		if len(payload) < 20 {
			return
		}
		header = int(payload[12]>>4) * 4
	} else if proto != unix.IPPROTO_UDP {
		return
	}
	if len(payload) < header {
		return
	}
	return proto, binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]), payload[header:], true
}
