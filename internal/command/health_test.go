package command_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealth is what a probe says of each reply. TestServe asks a real one.
func TestHealth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		reply  http.HandlerFunc // nil where nothing listens
		args   []string
		status int
		says   string // $PORT is the server's
	}{
		{"a credential", say(200, `{"status":"ok","expires_at":"2999-11-28T12:00:00Z"}`), nil, 0, "the credential is valid until 2999-11-28T12:00:00Z\n"},
		{"an old one", say(200, `{"status":"ok","expires_at":"2026-01-28T12:00:00Z"}`), nil, 1, "oidc-dbt: there is no valid credential: it expired at 2026-01-28T12:00:00Z\n"},
		{"another server's ok", say(200, `{"status":"ok"}`), nil, 1, "oidc-dbt: ask 127.0.0.1:$PORT for its health: it is not the health port of `oidc-dbt serve`\n"},
		{"none", say(503, `{"status":"failing","reason":"STS replied with status 503"}`), nil, 1, "oidc-dbt: there is no valid credential: STS replied with status 503\n"},
		{"another server", say(200, `<html>`), nil, 1, "oidc-dbt: ask 127.0.0.1:$PORT for its health: it is not the health port of `oidc-dbt serve`\n"},
		{"another server's yes", say(200, `{"status":"UP"}`), nil, 1, "oidc-dbt: ask 127.0.0.1:$PORT for its health: it is not the health port of `oidc-dbt serve`\n"},
		{"another server's no", say(503, `{}`), nil, 1, "oidc-dbt: ask 127.0.0.1:$PORT for its health: it is not the health port of `oidc-dbt serve`\n"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
		}, nil, 1,
			"oidc-dbt: ask 127.0.0.1:$PORT for its health: redirected to host \"elsewhere.example\", redirects are not followed\n" +
				"hint: start `oidc-dbt serve --health-port $PORT` first, in the same pod or on the same machine\n"},
		{"nothing listens", nil, nil, 1, "oidc-dbt: ask 127.0.0.1:$PORT for its health: dial tcp 127.0.0.1:$PORT: connect: connection refused\n" +
			"hint: start `oidc-dbt serve --health-port $PORT` first, in the same pod or on the same machine\n"},
		{"no port", nil, []string{"--port", "0"}, 2, "oidc-dbt: flag --port: got 0, want 1 to 65535\n"},
		{"a port too far", nil, []string{"--port", "65536"}, 2, "oidc-dbt: flag --port: got 65536, want 1 to 65535\n"},
		{"an argument", nil, []string{"now"}, 2, "oidc-dbt: unexpected argument \"now\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			port := port(t)
			if tt.reply != nil {
				server := httptest.NewServer(tt.reply)
				t.Cleanup(server.Close)
				port = server.URL[strings.LastIndex(server.URL, ":")+1:]
			}
			args := tt.args
			if args == nil {
				args = []string{"--port", port}
			}
			status, said := newStep(t).run(append([]string{"health"}, args...)...)
			if want := strings.ReplaceAll(tt.says, "$PORT", port); status != tt.status || said != want {
				t.Errorf("status is %d, want %d; it says %s want %s", status, tt.status, said, want)
			}
		})
	}
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}
