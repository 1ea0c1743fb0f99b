package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gvisor.dev/gvisor/pkg/log"
)

// stackLog takes the messages of gVisor, which has one log for the process and
// writes it to standard error: a warning for a connection that ended too early.
type stackLog struct{}

func (stackLog) Emit(_ int, _ log.Level, _ time.Time, format string, args ...any) {
	if slog.Default().Enabled(context.Background(), slog.LevelDebug) {
		slog.Debug("userspace stack", "message", fmt.Sprintf(format, args...))
	}
}

func quietStack() { log.SetTarget(stackLog{}) }
