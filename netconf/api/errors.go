package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"respmesh/netconf"
)

// Code names a kind of failure; the HTTP status follows from it.
type Code string

// Codes.
const (
	CodeInvalid          Code = "invalid"            // 400: the request is wrong
	CodeUnauthorized     Code = "unauthorized"       // 401: no token, or one that isn't good
	CodeForbidden        Code = "forbidden"          // 403: the token may not do this
	CodeNotFound         Code = "not_found"          // 404
	CodeMethodNotAllowed Code = "method_not_allowed" // 405
	CodeExists           Code = "exists"             // 409: the name, key or address is taken
	CodeConflict         Code = "conflict"           // 409: contradicts what there is
	CodeRevision         Code = "revision_mismatch"  // 412: somebody else was faster
	CodeTooLarge         Code = "too_large"          // 413
	CodeMediaType        Code = "unsupported_type"   // 415: the body isn't JSON
	CodeTooMany          Code = "too_many_requests"  // 429
	CodeInternal         Code = "internal"           // 500
	CodeUnavailable      Code = "unavailable"        // 503: the control plane or a node is away
	codeUnknown          Code = "unknown"            // the client's, for answers that aren't this API's
)

// Error is a failure as the API tells it: the message is a sentence for people that says what to do next.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Status  int    `json:"-"` // HTTP
}

// errorBody is how an Error is sent.
type errorBody struct {
	Error *Error `json:"error"`
}

func (e *Error) Error() string { return e.Message }

// Is lets callers ask for netconf's kinds: errors.Is(err, netconf.ErrNotFound).
func (e *Error) Is(target error) bool {
	switch target {
	case netconf.ErrInvalid:
		return e.Code == CodeInvalid
	case netconf.ErrExists:
		return e.Code == CodeExists
	case netconf.ErrNotFound:
		return e.Code == CodeNotFound
	case netconf.ErrConflict:
		return e.Code == CodeConflict
	case netconf.ErrUnavailable:
		return e.Code == CodeUnavailable
	}
	return false
}

func (c Code) status() int {
	switch c {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeExists, CodeConflict:
		return http.StatusConflict
	case CodeRevision:
		return http.StatusPreconditionFailed
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeMediaType:
		return http.StatusUnsupportedMediaType
	case CodeTooMany:
		return http.StatusTooManyRequests
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// failf makes an Error.
func failf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: code.status()}
}

// asError maps any failure to what is told. Those of a kind that nobody foresaw are told apart by ok: their text may
// hold what isn't for the caller, so it goes to the log.
func asError(err error) (told *Error, ok bool) {
	if e, is := errors.AsType[*Error](err); is {
		return e, true
	}
	for _, kind := range []struct {
		is   error
		code Code
	}{
		{netconf.ErrInvalid, CodeInvalid},
		{netconf.ErrExists, CodeExists},
		{netconf.ErrNotFound, CodeNotFound},
		{netconf.ErrConflict, CodeConflict},
	} {
		if errors.Is(err, kind.is) {
			return failf(kind.code, "%s", err), true
		}
	}
	switch {
	case errors.Is(err, netconf.ErrUnavailable):
		return failf(CodeUnavailable, "%s; nodes serve on from what they know; try again when it is back", err), true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return failf(CodeUnavailable, "no answer in time; look whether the change was made before you try again"), true
	}
	return failf(CodeInternal, "something went wrong inside; the node's log says what"), false
}

// clip bounds what is repeated of a wrong input.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strings.ToValidUTF8(s, "?") // also where a character was cut
}
