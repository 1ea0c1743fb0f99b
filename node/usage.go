package node

import "fmt"

// UsageError says that what was asked for is wrong in itself, so that trying again won't help: an unknown
// region, a taken port. The command exits with status 2 on it.
type UsageError struct{ msg string }

func (e *UsageError) Error() string { return e.msg }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error {
	return &UsageError{msg: fmt.Sprintf(format, args...)}
}
