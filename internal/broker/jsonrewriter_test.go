package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// marked rewrites as a proxy does, and refuses what says evil.
func marked(_, value string) (string, error) {
	if strings.Contains(value, "evil") {
		return "", errors.New("evil")
	}
	return "rewritten " + value, nil
}

// chunks gives what it has in pieces of the sizes, over and over.
type chunks struct {
	text  []byte
	sizes []byte
	next  int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if len(c.sizes) > 0 {
		n = min(n, int(c.sizes[c.next%len(c.sizes)])+1)
		c.next++
	}
	n = copy(p[:n], c.text)
	c.text = c.text[n:]
	return n, nil
}

// FuzzJSONRewriter: however a reply comes in, a client that decodes it finds
// the strings of the keys rewritten and everything else as it was. Without
// anything to rewrite, not one byte differs.
func FuzzJSONRewriter(f *testing.F) {
	for _, seed := range []string{
		`{"id":"q","nextUri":"https://trino/v1/statement/x","data":[["nextUri","a\"b"],[{"nextUri":"inner"}]],"stats":{"nextUri":"inner"}}`,
		`{"\u006eextUri":"\u0068ttps:\/\/trino","partialCancelUri":null,"nextUri":["x"]}`,
		`{"a":"\\","nextUri":"evil"}`, `{"nextUri":1,"nextUri":true,"nextUri":{"nextUri":"x"}}`, `[{"nextUri":"x"}]`, `"nextUri"`, `{"nextUri`, `{"nextUri":"x`, "",
		` { "nextUri" : "x" , "y":"nextUri" } `, `{"x":"nextUri","nextUri":""}`, `{"":"","nextUri":"\ud800\u0000é"}`, `}{"nextUri":"x"}`,
	} {
		f.Add([]byte(seed), []byte{0})
		f.Add([]byte(seed), []byte{3, 0, 16})
	}
	keys := []string{"nextUri", "partialCancelUri"}
	f.Fuzz(func(t *testing.T, reply, sizes []byte) {
		got, err := io.ReadAll(newJSONRewriter(io.NopCloser(&chunks{text: reply, sizes: sizes}), keys, marked))
		whole, wholeErr := io.ReadAll(newJSONRewriter(io.NopCloser(bytes.NewReader(reply)), keys, marked))
		if !bytes.Equal(got, whole) || (err == nil) != (wholeErr == nil) {
			t.Fatalf("in pieces: %q, %v\nat once: %q, %v", got, err, whole, wholeErr)
		}
		if same, err := io.ReadAll(newJSONRewriter(io.NopCloser(bytes.NewReader(reply)), nil, marked)); err != nil || !bytes.Equal(same, reply) {
			t.Fatalf("without keys: %q, %v", same, err)
		}
		var before map[string]any
		if json.Unmarshal(reply, &before) != nil || before == nil {
			return // no client goes on with it
		}
		for _, key := range keys {
			if uri, ok := before[key].(string); ok {
				if strings.Contains(uri, "evil") && err == nil {
					t.Fatal("a foreign URI went through")
				}
				before[key] = "rewritten " + uri
			}
		}
		if err != nil {
			return
		}
		var after map[string]any
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%v: %q", err, got)
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("got %v, want %v", after, before)
		}
	})
}

// TestJSONRewriterPassesErrorsOn: what was good until then comes first.
func TestJSONRewriterPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	src := io.MultiReader(strings.NewReader(`{"nextUri":"x","a":1`), iotest.ErrReader(broken))
	got, err := io.ReadAll(newJSONRewriter(io.NopCloser(src), []string{"nextUri"}, marked))
	if string(got) != `{"nextUri":"rewritten x","a":1` || !errors.Is(err, broken) {
		t.Errorf("got %q, %v", got, err)
	}
}
