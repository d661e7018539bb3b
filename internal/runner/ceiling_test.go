package runner_test

import (
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func TestCeiling(t *testing.T) {
	t.Parallel()
	token := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
	}
	at := time.Unix(1790021600, 0)
	for _, tt := range []struct {
		name, token string
		end         time.Time // zero for unknown
	}{
		{"whole seconds", token(`{"exp":1790021600,"scp":"Actions.GenerateIdToken:1:2"}`), at},
		{"with a fraction", token(`{"exp":1790021600.75}`), at},
		{"none", "", time.Time{}},
		{"opaque", "request-token", time.Time{}},
		{"two parts", "e30.e30", time.Time{}},
		{"encrypted", "e30.e30.e30.e30.e30", time.Time{}},
		{"not base64", "e30.*.c2ln", time.Time{}},
		{"not JSON", token(`exp`), time.Time{}},
		{"no exp", token(`{}`), time.Time{}},
		{"a string", token(`{"exp":"1790021600"}`), time.Time{}},
		{"negative", token(`{"exp":-1}`), time.Time{}},
		{"beyond all calendars", token(`{"exp":1e300}`), time.Time{}},
	} {
		r := runner.New(runner.Env{Stdout: io.Discard, HTTP: web.NewClient(web.NewTransport()), Getenv: func(name string) string {
			if strings.HasSuffix(name, "REQUEST_TOKEN") {
				return tt.token
			}
			return ""
		}})
		if end, ok := r.Ceiling(); !end.Equal(tt.end) || ok != !tt.end.IsZero() {
			t.Errorf("%s: the ceiling is %v, %t, want %v", tt.name, end, ok, tt.end)
		}
	}
}
