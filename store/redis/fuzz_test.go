package redis

import (
	"bytes"
	"net"
	"testing"
	"time"

	"respmesh/resp/frame"
)

// Whatever a server sends, each call gets its own replies or an error, and the pump ends with the connection.
func FuzzPump(f *testing.F) {
	f.Add([]byte("+OK\r\n:1\r\n$1\r\nv\r\n*3\r\n$6\r\nmaster\r\n:5\r\n*0\r\n+OK\r\n"), uint8(3))
	f.Add([]byte(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n+OK\r\n"), uint8(1))
	f.Add([]byte(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), uint8(0))
	f.Add([]byte("|1\r\n+a\r\n:1\r\n-ERR x\r\n*-1\r\n$-1\r\n%1\r\n+a\r\n_\r\n"), uint8(7))
	f.Add([]byte("+unasked\r\n*1000000000\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, sent []byte, mix uint8) {
		here, there := net.Pipe()
		moved := make(chan int64, 1024)
		p := preparePipe(here, frame.NewReader(here), func(n int64) {
			select {
			case moved <- n:
			default:
			}
		}, nil)
		p.lent = mix&8 != 0
		p.start()
		push := func(raw []byte) {
			if len(raw) == 0 {
				t.Error("an empty push")
			}
		}
		p.onPush.Store(&push)
		var calls []*call
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			b := make([]byte, 4096)
			for {
				if _, err := there.Read(b); err != nil {
					return
				}
			}
		}()
		reqs := requests([]string{"GET", "k"}, []string{"INCR", "n"})
		for i := range int(mix % 5) {
			c := newCall()
			c.need, c.changes, c.confirms = 1+i%2, mix&8 != 0, mix&16 != 0
			if _, err := p.send(c, reqs[:c.need]); err == nil {
				calls = append(calls, c)
			}
		}
		if mix&32 != 0 && len(calls) > 0 && calls[0].leave() {
			calls = calls[1:]
		}
		there.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = there.Write(sent)
		there.Close()
		<-asked
		for _, c := range calls {
			if !p.readFor(c) {
				<-c.done
			}
			got := 0
			eachFrame(c.dst, func(frame.Reply) { got++ })
			if c.err == nil && got != c.need && !c.confirms || c.got > c.need {
				t.Errorf("%d replies of %d: %q", got, c.need, c.dst)
			}
			if c.err == nil && !bytes.Contains(sent, c.dst) && len(c.dst) > 0 && c.need == 1 {
				t.Errorf("%q wasn't sent", c.dst)
			}
		}
		<-p.done
	})
}
