package embedded

import (
	"fmt"
	"strings"
	"time"
)

// Persistence is what the owner of the append-only file knows. The zero value says that there is none.
type Persistence struct {
	AppendOnly bool
	Fsync      string // Redis's words: always, everysec, no
	Rewriting  bool
	Size, Base int64
	Saving     bool
	LastSave   time.Time // zero: never
	SaveFailed bool      // the latest
	Failure    error     // why writes can't be logged at present
}

func (e *Engine) persistence() Persistence {
	if e.opts.Persistence == nil {
		return Persistence{}
	}
	return e.opts.Persistence()
}

// refusedByLog refuses a write while its effects couldn't be logged, and tells whether it did. As in Redis, PING is refused
// too, so that those who watch over the server notice.
func (c *Conn) refusedByLog(x *call) bool {
	if c.e.opts.LogFailure == nil || c.fromStream || !c.writes(x.spec) && x.spec.Name != "ping" {
		return false
	}
	err := c.e.opts.LogFailure()
	if err != nil {
		c.reject(x, "MISCONF "+err.Error())
	}
	return err != nil
}

func infoPersistence(x *call, b *strings.Builder) {
	p := x.e.persistence()
	enabled, rewriting, status := 0, 0, "ok"
	if p.AppendOnly {
		enabled = 1
	}
	if p.Rewriting {
		rewriting = 1
	}
	if p.Failure != nil {
		status = "err"
	}
	saving, saved, last := 0, "ok", int64(0)
	if p.Saving {
		saving = 1
	}
	if p.SaveFailed {
		saved = "err"
	}
	if !p.LastSave.IsZero() {
		last = p.LastSave.Unix()
	}
	fmt.Fprintf(b, "loading:0\r\nasync_loading:0\r\nrdb_bgsave_in_progress:%d\r\nrdb_last_save_time:%d\r\nrdb_last_bgsave_status:%s\r\n"+
		"aof_enabled:%d\r\naof_rewrite_in_progress:%d\r\naof_last_write_status:%s\r\n",
		saving, last, saved, enabled, rewriting, status)
	if p.AppendOnly {
		fmt.Fprintf(b, "aof_current_size:%d\r\naof_base_size:%d\r\n", p.Size, p.Base)
	}
}
