package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A jsonRewriter passes a JSON object on as it comes, with the strings of some
// of its own keys rewritten. It does not look into other values, since results
// are large. Anything but a JSON object is passed on unchanged.
type jsonRewriter struct {
	src     io.ReadCloser
	keys    []string
	rewrite func(key, value string) (string, error)

	in  []byte
	out []byte // rewritten, of which
	off int    // are read already
	err error  // behind out; io.EOF at the end

	depth   int    // of objects and arrays
	object  bool   // the outermost is an object
	value   bool   // in it, behind a colon
	key     string // the key before that, "" where it is none of keys
	quoted  bool   // in a string
	escaped bool   // in it, behind a backslash
	holding bool   // it is held:
	held    []byte // a key of the outermost object, or a value to rewrite
}

// The longest held strings, in bytes as sent. A longer key cannot be one of ours,
// even with escapes; a longer value is an error.
const (
	maxKey   = 6 * 32
	maxValue = 16 << 10
)

func newJSONRewriter(src io.ReadCloser, keys []string, rewrite func(key, value string) (string, error)) *jsonRewriter {
	return &jsonRewriter{src: src, keys: keys, rewrite: rewrite, in: make([]byte, 16<<10)}
}

// ahead reads n bytes or more, or to the end. It returns the size of the
// whole, or -1 where there is more to come.
func (j *jsonRewriter) ahead(n int) (size int64, err error) {
	for len(j.out) < n && j.err == nil {
		j.fill()
	}
	switch {
	case errors.Is(j.err, io.EOF):
		return int64(len(j.out)), nil
	case j.err != nil:
		return 0, j.err
	}
	return -1, nil
}

func (j *jsonRewriter) Read(p []byte) (int, error) {
	for j.off == len(j.out) {
		if j.err != nil {
			return 0, j.err
		}
		j.out, j.off = j.out[:0], 0
		j.fill()
	}
	n := copy(p, j.out[j.off:])
	j.off += n
	return n, nil
}

func (j *jsonRewriter) Close() error { return j.src.Close() }

func (j *jsonRewriter) fill() {
	n, err := j.src.Read(j.in)
	if j.err = j.scan(j.in[:n]); j.err != nil {
		return
	}
	if err == io.EOF {
		j.out = append(j.out, j.held...) // half a string is useless, but it is what was sent
		j.held = j.held[:0]
	}
	j.err = err
}

// scan appends to out what becomes of in.
func (j *jsonRewriter) scan(in []byte) error {
	for i := 0; i < len(in); {
		if j.quoted {
			n := j.inString(in[i:])
			if err := j.take(in[i : i+n]); err != nil {
				return err
			}
			i += n
			continue
		}
		n := j.outside(in[i:])
		j.out = append(j.out, in[i:i+n]...)
		i += n
		if j.quoted && j.holding {
			j.out, j.held = j.out[:len(j.out)-1], append(j.held[:0], '"')
		}
	}
	return nil
}

// inString returns how much of in belongs to the string that it begins in,
// with the closing quote, and notes its end.
func (j *jsonRewriter) inString(in []byte) int {
	quote := -1 // the next one at i or behind
	for i := 0; i < len(in); {
		if j.escaped {
			j.escaped = false
			i++
			continue
		}
		if quote < i {
			quote = len(in)
			if n := bytes.IndexByte(in[i:], '"'); n >= 0 {
				quote = i + n
			}
		}
		if n := bytes.IndexByte(in[i:quote], '\\'); n >= 0 {
			j.escaped = true
			i += n + 1
			continue
		}
		if quote < len(in) {
			j.quoted = false
			return quote + 1
		}
		break
	}
	return len(in)
}

// take passes on what inString found, or holds it until the string is complete.
func (j *jsonRewriter) take(in []byte) error {
	if !j.holding {
		j.out = append(j.out, in...)
		return nil
	}
	j.held = append(j.held, in...)
	switch {
	case j.value && len(j.held) > maxValue:
		return fmt.Errorf("%s of the reply is longer than %d bytes", j.key, maxValue)
	case j.quoted && !j.value && len(j.held) > maxKey:
		j.out, j.held, j.holding = append(j.out, j.held...), j.held[:0], false
		return nil
	case j.quoted:
		return nil
	}
	held := j.held
	j.held, j.holding = j.held[:0], false
	var text string
	err := json.Unmarshal(held, &text)
	if !j.value {
		if err == nil && slices.Contains(j.keys, text) {
			j.key = text
		}
		j.out = append(j.out, held...)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s of the reply is not a JSON string", j.key)
	}
	if text, err = j.rewrite(j.key, text); err != nil {
		return err
	}
	rewritten, err := json.Marshal(text)
	j.out = append(j.out, rewritten...)
	return err
}

// outside returns how much of in lies outside of strings, with the opening
// quote of the next, and notes what it says of the object.
func (j *jsonRewriter) outside(in []byte) int {
	for i, c := range in {
		switch c {
		case '"':
			own := j.depth == 1 && j.object
			j.quoted, j.holding = true, own && (!j.value || j.key != "")
			return i + 1
		case '{', '[':
			if j.depth == 0 {
				j.object, j.value, j.key = c == '{', false, ""
			}
			j.depth++
		case '}', ']':
			j.depth = max(j.depth-1, 0)
		case ':':
			j.value = j.value || j.depth == 1
		case ',':
			if j.depth == 1 {
				j.value, j.key = false, ""
			}
		}
	}
	return len(in)
}
