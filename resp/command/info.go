package command

import (
	"iter"

	"respmesh/resp/frame"
)

// AppendCommandReply appends the element of COMMAND INFO for s, of protocol version proto (2 or 3).
func AppendCommandReply(dst []byte, s *Spec, proto int) []byte {
	dst = frame.AppendArray(dst, 10)
	dst = frame.AppendBulkString(dst, s.Name)
	dst = frame.AppendInt(dst, int64(s.Arity))
	dst = appendNames(dst, s.Flags.Names(), "", proto)
	dst = frame.AppendInt(dst, int64(s.FirstKey))
	dst = frame.AppendInt(dst, int64(s.LastKey))
	dst = frame.AppendInt(dst, int64(s.KeyStep))
	dst = appendNames(dst, s.Categories.Names(), "@", proto)
	dst = frame.AppendSet(dst, len(s.Tips), proto)
	for _, tip := range s.Tips {
		dst = frame.AppendBulkString(dst, tip)
	}
	dst = frame.AppendSet(dst, len(s.KeySpecs), proto)
	for i := range s.KeySpecs {
		dst = appendKeySpec(dst, &s.KeySpecs[i], proto)
	}
	if s.subs > 0 {
		dst = frame.AppendArray(dst, s.subs)
	} else {
		dst = frame.AppendSet(dst, 0, proto) // thus the server tells them apart
	}
	for sub := range s.Subcommands() {
		dst = AppendCommandReply(dst, sub, proto)
	}
	return dst
}

func appendNames(dst []byte, names iter.Seq[string], prefix string, proto int) []byte {
	n := 0
	for range names {
		n++
	}
	dst = frame.AppendSet(dst, n, proto)
	for name := range names {
		dst = append(append(append(dst, '+'), prefix...), name...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

func appendKeySpec(dst []byte, k *KeySpec, proto int) []byte {
	if k.Notes == "" {
		dst = frame.AppendMap(dst, 3, proto)
	} else {
		dst = frame.AppendMap(dst, 4, proto)
		dst = frame.AppendBulkString(dst, "notes")
		dst = frame.AppendBulkString(dst, k.Notes)
	}
	dst = frame.AppendBulkString(dst, "flags")
	dst = appendNames(dst, k.Flags.Names(), "", proto)

	dst = frame.AppendBulkString(dst, "begin_search")
	switch k.Begin {
	case BeginIndex:
		dst = appendTyped(dst, "index", 1, proto)
		dst = appendNumber(dst, "index", k.Index)
	case BeginKeyword:
		dst = appendTyped(dst, "keyword", 2, proto)
		dst = frame.AppendBulkString(dst, "keyword")
		dst = frame.AppendBulkString(dst, k.Keyword)
		dst = appendNumber(dst, "startfrom", k.Index)
	default:
		dst = appendTyped(dst, "unknown", 0, proto)
	}

	dst = frame.AppendBulkString(dst, "find_keys")
	switch k.Find {
	case FindRange:
		dst = appendTyped(dst, "range", 3, proto)
		dst = appendNumber(dst, "lastkey", k.LastKey)
		dst = appendNumber(dst, "keystep", k.Step)
		dst = appendNumber(dst, "limit", k.Limit)
	case FindKeyNum:
		dst = appendTyped(dst, "keynum", 3, proto)
		dst = appendNumber(dst, "keynumidx", k.KeyNumIdx)
		dst = appendNumber(dst, "firstkey", k.FirstKey)
		dst = appendNumber(dst, "keystep", k.Step)
	default:
		dst = appendTyped(dst, "unknown", 0, proto)
	}
	return dst
}

// appendTyped appends what begin_search and find_keys have in common: the type, and the header of the spec.
func appendTyped(dst []byte, kind string, fields, proto int) []byte {
	dst = frame.AppendMap(dst, 2, proto)
	dst = frame.AppendBulkString(dst, "type")
	dst = frame.AppendBulkString(dst, kind)
	dst = frame.AppendBulkString(dst, "spec")
	return frame.AppendMap(dst, fields, proto)
}

func appendNumber(dst []byte, name string, n int) []byte {
	return frame.AppendInt(frame.AppendBulkString(dst, name), int64(n))
}
