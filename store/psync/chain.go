package psync

import "io"

// chainReader reads pieces one after the other.
type chainReader struct{ pieces [][]byte }

func (r *chainReader) Read(p []byte) (int, error) {
	for len(r.pieces) > 0 {
		if n := copy(p, r.pieces[0]); n > 0 {
			r.pieces[0] = r.pieces[0][n:]
			return n, nil
		}
		r.pieces = r.pieces[1:]
	}
	return 0, io.EOF
}
