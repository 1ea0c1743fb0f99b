package rdb

// preallocate bounds the capacity that a collection starts with: an element
// takes at least one byte of input, but its slice header takes 24.
const preallocate = 1024

// value reads the value of a key of the given type; nil for an empty collection.
func (in *input) value(typ byte) (Value, error) {
	switch typ {
	case typeString:
		b, err := in.string()
		return String(b), err
	case typeList, typeSet:
		elems, err := in.strings()
		return collection(typ == typeList, elems, err)
	case typeHash:
		return in.hash()
	case typeZSet, typeZSet2:
		return in.zset(typ == typeZSet2)
	case typeListQuicklist:
		return in.quicklist(false)
	case typeListQuicklist2:
		return in.quicklist(true)
	case typeSetIntset, typeSetListpack, typeListZiplist, typeHashZiplist,
		typeHashListpack, typeHashZipmap, typeZSetZiplist, typeZSetListpack:
		blob, err := in.string()
		if err != nil {
			return nil, err
		}
		return compact(typ, blob)
	case typeModulePre, typeModule2:
		return nil, unsupported("value type %d (module)", typ)
	case typeStream1, typeStream2, typeStream3:
		return in.stream(typ)
	}
	if typ > typeStream3 && typ < opSlotInfo {
		return nil, unsupported("value type %d", typ)
	}
	return nil, corrupt("value type %d", typ)
}

// collection makes a list or set of elems, nil if there are none.
func collection(list bool, elems [][]byte, err error) (Value, error) {
	switch {
	case err != nil || len(elems) == 0:
		return nil, err
	case list:
		return List(elems), nil
	}
	return Set(elems), nil
}

func (in *input) strings() ([][]byte, error) {
	n, err := in.length()
	if err != nil {
		return nil, err
	}
	out := make([][]byte, 0, min(n, preallocate))
	for ; n > 0; n-- {
		b, err := in.string()
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (in *input) hash() (Value, error) {
	n, err := in.length()
	if err != nil || n == 0 {
		return nil, err
	}
	out := make(Hash, 0, min(n, preallocate))
	for ; n > 0; n-- {
		name, err := in.string()
		if err != nil {
			return nil, err
		}
		val, err := in.string()
		if err != nil {
			return nil, err
		}
		out = append(out, Field{name, val})
	}
	return out, nil
}

func (in *input) zset(binary bool) (Value, error) {
	n, err := in.length()
	if err != nil || n == 0 {
		return nil, err
	}
	out := make(ZSet, 0, min(n, preallocate))
	for ; n > 0; n-- {
		name, err := in.string()
		if err != nil {
			return nil, err
		}
		score := in.textDouble
		if binary {
			score = in.double
		}
		s, err := score()
		if err != nil {
			return nil, err
		}
		out = append(out, Member{name, s})
	}
	return out, nil
}

// quicklist reads a list of nodes: ziplists, or (version 2) each either a
// listpack or one plain element.
func (in *input) quicklist(v2 bool) (Value, error) {
	const plain, packed = 1, 2
	n, err := in.length()
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for ; n > 0; n-- {
		container := uint64(packed)
		if v2 {
			if container, err = in.length(); err != nil {
				return nil, err
			}
		}
		blob, err := in.string()
		if err != nil {
			return nil, err
		}
		switch {
		case container == plain:
			out = append(out, blob)
		case container != packed:
			return nil, corrupt("quicklist container %d", container)
		case v2:
			out, err = listpack(out, blob)
		default:
			out, err = ziplist(out, blob)
		}
		if err != nil {
			return nil, err
		}
	}
	return collection(true, out, nil)
}

// compact decodes the value types that are one string.
func compact(typ byte, blob []byte) (Value, error) {
	var elems [][]byte
	var err error
	switch typ {
	case typeSetIntset:
		elems, err = intset(blob)
	case typeHashZipmap:
		elems, err = zipmap(blob)
	case typeListZiplist, typeHashZiplist, typeZSetZiplist:
		elems, err = ziplist(nil, blob)
	default:
		elems, err = listpack(nil, blob)
	}
	if err != nil || len(elems) == 0 {
		return nil, err
	}
	switch typ {
	case typeListZiplist:
		return List(elems), nil
	case typeSetIntset, typeSetListpack:
		return Set(elems), nil
	}
	if len(elems)%2 != 0 {
		return nil, corrupt("value type %d with an odd number of elements", typ)
	}
	if typ == typeZSetZiplist || typ == typeZSetListpack {
		out := make(ZSet, 0, len(elems)/2)
		for i := 0; i < len(elems); i += 2 {
			s, err := parseScore(elems[i+1])
			if err != nil {
				return nil, err
			}
			out = append(out, Member{elems[i], s})
		}
		return out, nil
	}
	out := make(Hash, 0, len(elems)/2)
	for i := 0; i < len(elems); i += 2 {
		out = append(out, Field{elems[i], elems[i+1]})
	}
	return out, nil
}
