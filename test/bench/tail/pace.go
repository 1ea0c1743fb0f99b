package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pace is a load that comes at a steady rate, whatever the server does: what it doesn't answer in time piles up, and each command's latency
// counts from the moment at which it was to be sent. One thread sends and receives for all connections.
type pace struct {
	fds     []int
	rate    float64 // commands a second
	writes  float64 // share of them that are SETs, the rest are GETs
	keys    int     // that are read
	begins  string  // what the keys that are written begin with, four bytes
	written int     // how many these are
	value   []byte
}

// taken is what a pace saw, in the order of the replies.
type taken struct {
	gets, sets []time.Duration
	late       []time.Duration // how long after its moment a command was sent: this side's own share of the latency
}

// appendKey names keys as redis-benchmark does.
func appendKey(b []byte, begins string, n int) []byte {
	b = append(append(b, "$16\r\n"...), begins...)
	digits := len(b)
	b = append(b, "000000000000\r\n"...)
	for i := digits + 11; n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

func appendGet(b []byte, n int) []byte {
	return appendKey(append(b, "*2\r\n$3\r\nGET\r\n"...), "key:", n)
}

func appendSet(b []byte, begins string, n int, value []byte) []byte {
	b = appendKey(append(b, "*3\r\n$3\r\nSET\r\n"...), begins, n)
	b = strconv.AppendInt(append(b, '$'), int64(len(value)), 10)
	return append(append(append(b, "\r\n"...), value...), "\r\n"...)
}

// asked is a command under way.
type asked struct {
	due time.Duration
	set bool
}

// line is a connection.
type line struct {
	fd    int
	asked []asked
	out   []byte // what the kernel didn't take yet
	in    []byte // the beginning of a reply
}

// run goes on for a while, or until stop is true.
func (p *pace) run(length time.Duration, stop *atomic.Bool) (t taken, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return t, fmt.Errorf("epoll: %w", err)
	}
	defer unix.Close(poll)
	lines := make([]line, len(p.fds))
	for i, fd := range p.fds {
		lines[i].fd = fd
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return t, fmt.Errorf("epoll: %w", err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	expected := int(p.rate * min(length, time.Minute).Seconds())
	t = taken{gets: make([]time.Duration, 0, expected), sets: make([]time.Duration, 0, expected), late: make([]time.Duration, 0, expected)}
	var (
		events [64]unix.EpollEvent
		buf    = make([]byte, 64<<10)
		gap    = time.Duration(float64(time.Second) / p.rate)
		begun  = time.Now()
		next   time.Duration // when the next command is to be sent
		open   int           // commands without a reply
	)
	for n := 0; ; {
		now := time.Since(begun)
		over := now > length || stop.Load()
		if over && open == 0 {
			return t, nil
		}
		if over && now > next+time.Minute {
			return t, errors.New("no reply within a minute")
		}
		for !over && next <= now {
			l := &lines[n%len(lines)]
			n++
			a := asked{due: next, set: random.Float64() < p.writes}
			if a.set {
				l.out = appendSet(l.out, p.begins, random.IntN(p.written), p.value)
			} else {
				l.out = appendGet(l.out, random.IntN(p.keys))
			}
			l.asked = append(l.asked, a)
			open++
			if err := l.send(); err != nil {
				return t, err
			}
			t.late = append(t.late, now-next)
			next += gap
			now = time.Since(begun)
		}
		wait := max(next-now, 0)
		if over {
			wait = time.Millisecond
		}
		ready, err := epollWait(poll, events[:], wait)
		if err != nil {
			return t, err
		}
		for _, e := range events[:ready] {
			l := &lines[e.Fd]
			if err := l.send(); err != nil {
				return t, err
			}
			k, err := l.receive(buf, begun, &t)
			if err != nil {
				return t, err
			}
			open -= k
		}
	}
}

// epollWait is epoll_pwait2: its time-out is as short as this load is fast.
func epollWait(fd int, events []unix.EpollEvent, wait time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(wait))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(fd), pointer(&events[0]), uintptr(len(events)), pointer(&ts), 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, fmt.Errorf("epoll_pwait2: %w", errno)
	}
	if errno != 0 {
		return 0, nil
	}
	return int(n), nil
}

// send gives the kernel what it takes.
func (l *line) send() error {
	for len(l.out) > 0 {
		n, err := unix.Write(l.fd, l.out)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		l.out = l.out[:copy(l.out, l.out[n:])]
	}
	return nil
}

// receive takes the replies that are there and tells how many.
func (l *line) receive(buf []byte, begun time.Time, t *taken) (replies int, err error) {
	n, err := unix.Read(l.fd, buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	if n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	now := time.Since(begun)
	l.in = append(l.in, buf[:n]...)
	in := l.in
	for {
		size, err := replySize(in)
		if err != nil {
			return replies, err
		}
		if size == 0 {
			break
		}
		in = in[size:]
		a := l.asked[0]
		l.asked = l.asked[:copy(l.asked, l.asked[1:])]
		if a.set {
			t.sets = append(t.sets, now-a.due)
		} else {
			t.gets = append(t.gets, now-a.due)
		}
		replies++
	}
	l.in = l.in[:copy(l.in, in)]
	return replies, nil
}

// replySize is the length of the reply at the beginning of b, 0 if it isn't whole.
func replySize(b []byte) (int, error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return 0, nil
	}
	switch b[0] {
	case '+', ':':
		return i + 1, nil
	case '$':
		n, err := strconv.Atoi(string(b[1 : i-1]))
		if err != nil {
			return 0, fmt.Errorf("reply %.40q: %w", b, err)
		}
		if n < 0 {
			return i + 1, nil
		}
		if size := i + 1 + n + 2; len(b) >= size {
			return size, nil
		}
		return 0, nil
	}
	return 0, fmt.Errorf("reply %.80q", b)
}

// share is the value below which a share of all lies.
func share(all []time.Duration, part float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}
