package trust

import (
	"bytes"
	"encoding/json"
	"strings"
)

// readable returns an exported file as its reader takes it. What two readers may
// take for two things is refused here: another encoding, and an object with a
// name twice, of which one reader sees the first and another one the last.
func readable(f File) (File, error) {
	f.Text = bytes.TrimPrefix(f.Text, []byte("\xef\xbb\xbf"))
	switch {
	case bytes.HasPrefix(f.Text, []byte("\xff\xfe")), bytes.HasPrefix(f.Text, []byte("\xfe\xff")):
		return f, usage("%s: the file is UTF-16, as PowerShell's > writes it: want UTF-8, which `| Out-File -Encoding utf8` writes",
			f.Name)
	case len(bytes.TrimSpace(f.Text)) == 0:
		return f, usage("%s: the file is empty: did the command that exports it fail?", f.Name)
	}
	if name := doubled(f.Text); name != "" {
		return f, usage("%s: an object has %q twice, also in another case: remove one", f.Name, name)
	}
	return f, nil
}

// An object is one that is being read: its names, in small letters, and whether
// a name comes next.
type object struct {
	names map[string]bool // nil for a list
	name  bool
}

// doubled returns a name that an object of a JSON text has twice, "" for none,
// and for a text that is not JSON.
func doubled(text []byte) string {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var open []*object
	for {
		token, err := dec.Token()
		if err != nil {
			return ""
		}
		var top *object
		if len(open) > 0 {
			top = open[len(open)-1]
		}
		if name, ok := token.(string); ok && top != nil && top.names != nil && top.name {
			top.name = false
			folded := strings.ToLower(name)
			if top.names[folded] {
				return name
			}
			top.names[folded] = true
			continue
		}
		if top != nil && token != json.Delim('}') && token != json.Delim(']') {
			top.name = true
		}
		switch token {
		case json.Delim('{'):
			open = append(open, &object{names: map[string]bool{}, name: true})
		case json.Delim('['):
			open = append(open, &object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}
