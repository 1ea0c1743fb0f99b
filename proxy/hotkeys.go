package proxy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"respmesh/resp/command"
	"respmesh/resp/frame"
)

// hotkeys finds the keys that are used most, in bounded memory, without MONITOR: the space-saving sketch (Metwally et al.,
// 2005) of each sampleEvery-th command's first key. A new key takes the place and the count of the least used one, so that
// a count is never too low, and a key with more than 1/hotKeep of all uses is always there. Counts halve each minute.
type hotkeys struct {
	mu     sync.Mutex
	at     map[string]int // in all
	all    []hotKey
	halved time.Time
}

type hotKey struct {
	name  string
	count int64
}

const (
	hotKeep     = 256
	hotShown    = 16
	hotName     = 256 // longer names are cut
	sampleEvery = 16
)

func (h *hotkeys) use(key []byte, now time.Time) {
	key = key[:min(len(key), hotName)]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at, h.halved = make(map[string]int, hotKeep), now
	}
	h.fadeLocked(now)
	if i, ok := h.at[string(key)]; ok {
		h.all[i].count++
		return
	}
	if len(h.all) < hotKeep {
		h.at[string(key)] = len(h.all)
		h.all = append(h.all, hotKey{string(key), 1})
		return
	}
	least := 0
	for i := range h.all {
		if h.all[i].count < h.all[least].count {
			least = i
		}
	}
	k := &h.all[least]
	delete(h.at, k.name)
	k.name, k.count = string(key), k.count+1
	h.at[k.name] = least
}

func (h *hotkeys) fadeLocked(now time.Time) {
	if len(h.all) == 0 {
		h.halved = now
	}
	faded := false
	for ; now.Sub(h.halved) >= time.Minute && len(h.all) > 0; h.halved = h.halved.Add(time.Minute) {
		for i := range h.all {
			h.all[i].count /= 2
		}
		h.all = slices.DeleteFunc(h.all, func(k hotKey) bool { return k.count == 0 })
		faded = true
	}
	if faded {
		clear(h.at)
		for i := range h.all {
			h.at[h.all[i].name] = i
		}
	}
}

// top returns the most used keys, the first first, with an estimate of the commands of the last minutes.
func (h *hotkeys) top(n int, now time.Time) []hotKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fadeLocked(now)
	all := slices.Clone(h.all)
	for i := range all {
		all[i].count *= sampleEvery
	}
	slices.SortFunc(all, func(a, b hotKey) int {
		return cmp.Or(cmp.Compare(b.count, a.count), strings.Compare(a.name, b.name))
	})
	return all[:min(n, len(all))]
}

// sample counts the key of every so many of the session's commands.
func (s *session) sample(w *work, req *command.Request) {
	if s.nth++; s.nth%sampleEvery != 0 || req.Spec == nil || len(req.KeySpecs) == 0 || !req.ArityOK(len(req.Args)) {
		return
	}
	if w.keys, _ = req.AppendKeys(w.keys[:0], req.Args); len(w.keys) > 0 {
		s.g.hot.use(req.Args[w.keys[0].Index], time.Now())
	}
}

// respmesh answers the gateway's own command.
func respmesh(s *session, w *work, args [][]byte) {
	switch {
	case len(args) >= 3 && command.EqualFold(args[1], "explain"):
		explain(s, w, args)
	case len(args) >= 2 && len(args) <= 3 && command.EqualFold(args[1], "hotkeys"):
		n := int64(hotShown)
		if len(args) == 3 {
			var ok bool
			if n, ok = frame.ParseInt(args[2]); !ok || n < 1 {
				w.error("ERR value is not an integer or out of range")
				return
			}
		}
		if !s.user.free {
			w.error("NOPERM this user may not see all keys")
			return
		}
		top := s.g.hot.top(int(min(n, hotKeep)), time.Now())
		w.out = frame.AppendArray(w.out, len(top))
		for _, k := range top {
			w.out = frame.AppendInt(frame.AppendBulkString(frame.AppendArray(w.out, 2), k.name), k.count)
		}
	default:
		w.error("ERR expected RESPMESH EXPLAIN command args… or RESPMESH HOTKEYS [count]")
	}
}

// bigValue tells of a value that is so long that all suffer from it: at most once per second.
func (g *Gateway) bigValue(args [][]byte, spec *command.Spec, size int, direction string) {
	g.meters.bigValues.Inc()
	now := time.Now().UnixNano()
	last := g.bigTold.Load()
	if now-last < int64(time.Second) || !g.bigTold.CompareAndSwap(last, now) {
		return
	}
	key, name := "", "?"
	if spec != nil {
		name = spec.Name
		if keys, _ := spec.AppendKeys(nil, args); len(keys) > 0 {
			key = printableName(args[keys[0].Index])
		}
	}
	g.log.Warn("big value", "command", name, "key", key, "bytes", size, "direction", direction)
}
