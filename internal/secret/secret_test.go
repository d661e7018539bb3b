package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log"
	"log/slog"
	"strings"
	"testing"
	texttemplate "text/template"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

const plain = "hunter2-the-secret-itself"

// noVerb hides the wrong verb from linters: it is what the test is about.
func noVerb() string { return "x" }

// spellings are the forms in which a secret could leak.
var spellings = []string{
	plain, hex.EncodeToString([]byte(plain)), strings.ToUpper(hex.EncodeToString([]byte(plain))),
	base64.StdEncoding.EncodeToString([]byte(plain)), base64.RawURLEncoding.EncodeToString([]byte(plain)),
	fmt.Sprint([]byte(plain)), fmt.Sprintf("%#v", []byte(plain)), fmt.Sprintf("% x", plain),
}

func hidden(t *testing.T, how, text string) {
	t.Helper()
	for _, s := range spellings {
		if strings.Contains(text, s) {
			t.Errorf("%s shows the secret: %s", how, text)
		}
	}
}

// wrappings are the ways in which a secret gets into a value that is printed.
func wrappings() map[string]any {
	v := secret.New(plain)
	type exported struct{ V secret.Value }
	type unexported struct{ v secret.Value }
	type embedded struct{ secret.Value }
	type deep struct {
		p *unexported
		l []unexported
		m map[string]unexported
		i any
	}
	return map[string]any{
		"value": v, "pointer": &v, "exported field": exported{v}, "unexported field": unexported{v}, "pointer to unexported": &unexported{v},
		"embedded": embedded{v}, "slice": []secret.Value{v}, "array": [1]secret.Value{v}, "map": map[string]secret.Value{"a": v}, "map key": map[secret.Value]int{v: 1},
		"interface": []any{v}, "deep": deep{&unexported{v}, []unexported{{v}}, map[string]unexported{"a": {v}}, v}, "error": fmt.Errorf("wrapped: %w", errors.New(fmt.Sprint(v))),
	}
}

func TestNoVerbShowsIt(t *testing.T) {
	t.Parallel()
	for name, w := range wrappings() {
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "10", ".3", "+#"} {
			for verb := '!'; verb <= '~'; verb++ {
				if verb == '%' || strings.ContainsRune("0123456789.*[+-# ", verb) {
					continue
				}
				format := "%" + flags + string(verb)
				hidden(t, name+" by "+format, fmt.Sprintf(format, w))
			}
		}
		hidden(t, name+" by Sprint", fmt.Sprint(w))
		hidden(t, name+" by Sprintln", fmt.Sprintln("a", w))
		hidden(t, name+" by a missing verb", fmt.Sprintf(noVerb(), w))
		hidden(t, name+" by Appendf", string(fmt.Appendf(nil, "%v", w)))
		hidden(t, name+" by Errorf", fmt.Errorf("x: %v", w).Error())
	}
	if got := fmt.Sprintf("%s %d %x %q %v %+v %#v %T", secret.New(plain), secret.New(plain), secret.New(plain), secret.New(plain), secret.New(plain), secret.New(plain), secret.New(plain), secret.New(plain)); got != strings.Repeat("[secret] ", 7)+"secret.Value" {
		t.Errorf("printed as %q", got)
	}
	if v := secret.New(plain); v.String() != "[secret]" || v.GoString() != "[secret]" {
		t.Errorf("strings are %q, %q", v.String(), v.GoString())
	}
}

func TestNoEncoderShowsIt(t *testing.T) {
	t.Parallel()
	encoders := map[string]func(any) (string, error){
		"json":   func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"indent": func(v any) (string, error) { b, err := json.MarshalIndent(v, "", " "); return string(b), err },
		"yaml":   func(v any) (string, error) { b, err := yaml.Marshal(v); return string(b), err },
		"xml":    func(v any) (string, error) { b, err := xml.Marshal(v); return string(b), err },
		"gob": func(v any) (string, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.String(), err
		},
		"template": func(v any) (string, error) {
			var b bytes.Buffer
			err := texttemplate.Must(texttemplate.New("").Parse("{{.}} {{printf \"%v %s %x\" . . .}} {{js .}} {{html .}}")).Execute(&b, v)
			return b.String(), err
		},
		"html": func(v any) (string, error) {
			var b bytes.Buffer
			err := template.Must(template.New("").Parse("<p title=\"{{.}}\">{{.}}</p><script>x = {{.}}</script>")).Execute(&b, v)
			return b.String(), err
		},
	}
	for encoder, encode := range encoders {
		for name, w := range wrappings() {
			text, err := func() (text string, err error) {
				defer func() {
					if p := recover(); p != nil {
						err = fmt.Errorf("panic: %v", p) // yaml does, on what it cannot encode
					}
				}()
				return encode(w)
			}()
			hidden(t, name+" by "+encoder, text)
			if err != nil {
				hidden(t, name+" by "+encoder+"'s error", err.Error())
			}
		}
	}
	text, err := json.Marshal(map[string]any{"a": secret.New(plain), "b": map[secret.Value]int{secret.New(plain): 1}})
	if want := `{"a":"[secret]","b":{"[secret]":1}}`; err != nil || string(text) != want {
		t.Errorf("JSON is %s, %v, want %s", text, err, want)
	}
}

func TestNoLoggerShowsIt(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	old := log.New(&out, "", 0)
	loggers := []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))}
	for name, w := range wrappings() {
		out.Reset()
		old.Print(w)
		old.Printf("%v %+v %s", w, w, w)
		for _, l := range loggers {
			l.Info("x", "key", w)
			l.With("key", w).WithGroup("g").Error("x", slog.Any("a", w), slog.Group("b", "c", w))
		}
		hidden(t, name+" by a logger", out.String())
	}
	if got := secret.New(plain).LogValue().String(); got != "[secret]" {
		t.Errorf("logged as %q", got)
	}
}

func TestPanicsDoNotShowIt(t *testing.T) {
	t.Parallel()
	defer func() { hidden(t, "panic", fmt.Sprint(recover())) }()
	panic(fmt.Errorf("x: %v", wrappings()))
}

func TestValue(t *testing.T) {
	t.Parallel()
	v := secret.New(plain)
	if v.Reveal() != plain || v.IsZero() {
		t.Error("the secret is not in it")
	}
	if got, want := secret.New("abc").SHA256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; got != want {
		t.Errorf("SHA-256 is %q, want %q (FIPS 180-4)", got, want)
	}
	for _, zero := range []secret.Value{{}, secret.New("")} {
		if !zero.IsZero() || zero.Reveal() != "" || zero.SHA256() != "" || fmt.Sprint(zero) != "[secret]" {
			t.Error("the zero Value holds something, or can be told by its print")
		}
	}
}
