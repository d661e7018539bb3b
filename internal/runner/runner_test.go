package runner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const delimiter = "_GitHubActionsFileCommandDelimeter_"

// check compares an error's words and class; "" is success.
func check(t *testing.T, err error, want string, class fault.Class) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("error is\n%s\nwant\n%s", got, want)
	}
	if err != nil && fault.ClassOf(err) != class {
		t.Errorf("status is %d, want %d", fault.ClassOf(err), class)
	}
}

// A step is a runner with its files.
type step struct {
	*runner.Runner
	dir    string
	vars   map[string]string
	stdout bytes.Buffer
}

func newStep(t testing.TB, vars map[string]string) *step {
	t.Helper()
	s := &step{dir: t.TempDir(), vars: map[string]string{"GITHUB_ACTIONS": "true"}}
	for _, name := range []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.vars["GITHUB_"+name] = path
	}
	for name, v := range vars {
		s.vars[name] = v
	}
	client := web.NewClient(web.NewTransport())
	client.Timeout = 500 * time.Millisecond // of a try
	s.Runner = runner.New(runner.Env{Getenv: func(name string) string { return s.vars[name] }, Stdout: &s.stdout, HTTP: client})
	return s
}

func (s *step) file(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// parse reads a file of outputs or variables as the runner does
// (actions/runner, FileCommandManager.cs, EnvFileKeyValuePairs): it is the
// second implementation that checks what we write.
func parse(text string) (map[string]string, error) {
	pairs := map[string]string{}
	next := func() (line string, ok bool) {
		if text == "" {
			return "", false
		}
		line, text, _ = strings.Cut(text, "\n")
		return line, true
	}
	for {
		line, ok := next()
		if !ok {
			return pairs, nil
		}
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			if equals == 0 {
				return nil, fmt.Errorf("invalid format %q: name must not be empty", line)
			}
			pairs[line[:equals]] = line[equals+1:]
		case heredoc >= 0:
			name, end := line[:heredoc], line[heredoc+2:]
			if name == "" || end == "" {
				return nil, fmt.Errorf("invalid format %q: name and delimiter must not be empty", line)
			}
			var value []string
			for {
				line, ok := next()
				if !ok {
					return nil, fmt.Errorf("matching delimiter %q not found", end)
				}
				if line == end {
					break
				}
				value = append(value, line)
			}
			pairs[name] = strings.Join(value, "\n")
		default:
			return nil, fmt.Errorf("invalid format %q", line)
		}
	}
}

func TestIDToken(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	s := newStep(t, issuer.RunnerEnv())
	token, err := s.IDToken(context.Background(), "sts.amazonaws.com")
	check(t, err, "", 0)
	if issued := issuer.Issued(); len(issued) != 1 || token.Reveal() != issued[0] {
		t.Errorf("got another token than the issuer's")
	}
	if s.stdout.Len() != 0 {
		t.Errorf("printed %q", s.stdout.String())
	}
}

// TestIDTokenRequest: the audience is escaped and replaces none of the runner's own parameters.
func TestIDTokenRequest(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Authorization")
		fmt.Fprint(w, `{"count":1,"value":"a.b.c"}`)
	}))
	t.Cleanup(server.Close)
	s := newStep(t, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": server.URL + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"})
	_, err := s.IDToken(context.Background(), "https://iam.googleapis.com/x&audience=evil")
	check(t, err, "", 0)
	want := "GET /token?api-version=2.0&audience=https%3A%2F%2Fiam.googleapis.com%2Fx%26audience%3Devil Bearer hunter2"
	if request := <-got; request != want {
		t.Errorf("request is\n%s\nwant\n%s", request, want)
	}
}

// TestBadTokenReplies is the table of bad replies for the runner's endpoint.
func TestBadTokenReplies(t *testing.T) {
	t.Parallel()
	body := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); fmt.Fprint(w, text) }
	}
	const many = 0
	tests := []struct {
		name  string
		reply http.HandlerFunc
		tries int32 // 1, or as many as there is time for
		class fault.Class
		err   string
	}{
		{"401", body(401, "hunter2"), many, fault.NoIdentity, "status is 401: refused by the runner"},
		{"403", body(403, "hunter2"), many, fault.NoIdentity, "status is 403: refused by the runner"},
		{"404", body(404, "hunter2"), 1, fault.Unreachable, "status is 404, want 200"},
		{"429", body(429, "hunter2"), many, fault.Unreachable, "status is 429, want 200"},
		{"500", body(500, "hunter2"), many, fault.Unreachable, "status is 500, want 200"},
		{"503 with JSON", body(503, `{"value":"hunter2"}`), many, fault.Unreachable, "status is 503, want 200"},
		{"204", body(204, ""), 1, fault.Unreachable, "status is 204, want 200"},
		{"nothing", body(200, ""), many, fault.Unreachable, "the reply is not JSON"},
		{"html", body(200, "<html>hunter2"), many, fault.Unreachable, "the reply is not JSON"},
		{"two documents", body(200, `{"value":"hunter2"}{}`), many, fault.Unreachable, "the reply is not JSON"},
		{"no value", body(200, `{}`), many, fault.Unreachable, "the reply contains no token"},
		{"empty value", body(200, `{"value":""}`), many, fault.Unreachable, "the reply contains no token"},
		{"null", body(200, `null`), many, fault.Unreachable, "the reply contains no token"},
		{"value a number", body(200, `{"value":7}`), many, fault.Unreachable, "the reply contains no token"},
		{"a list", body(200, `["hunter2"]`), many, fault.Unreachable, "the reply contains no token"},
		{"token with a line break", body(200, `{"value":"hunter2\n::set-output name=x::y"}`), many, fault.Unreachable, "the token in the reply is malformed"},
		{"token with a space", body(200, `{"value":" hunter2"}`), many, fault.Unreachable, "the token in the reply is malformed"},
		{"long token", body(200, `{"value":"`+strings.Repeat("hunter2", 10_000)+`"}`), many, fault.Unreachable, "the token in the reply is larger than 64000 bytes"},
		{"64 MiB", func(w http.ResponseWriter, _ *http.Request) {
			chunk := bytes.Repeat([]byte("hunter2 "), 1<<17)
			for range 64 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, 1, fault.Unreachable, "reply is larger than 1048576 bytes"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/?hunter2", http.StatusTemporaryRedirect)
		}, 1, fault.Unreachable, `redirected to host "evil.example", redirects are not followed`},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"value":"hunter2`)
		}, many, fault.Unreachable, "the server closed the connection"},
		{"hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, many, fault.Unreachable, "no reply in time"},
		{"hang in the reply", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"value":"hunter2`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, many, fault.Unreachable, "no reply in time"},
	}
	var all sync.WaitGroup // not t.Parallel: most of the time is waiting between tries
	for _, tt := range tests {
		all.Go(func() {
			var tries atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tries.Add(1); tt.reply(w, r) }))
			defer server.Close()
			defer server.CloseClientConnections()
			s := newStep(t, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": server.URL + "/?a=b", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"})
			ctx, _ := web.WithBudget(context.Background(), 5*time.Second) // a try takes up to ten
			token, err := s.IDToken(ctx, "aud")
			if want := "request ID token: " + tt.err; err == nil || err.Error() != want || fault.ClassOf(err) != tt.class || fault.Hint(err) == "" {
				t.Errorf("%s: error is %v (status %d, hint %q), want %q (status %d)", tt.name, err, fault.ClassOf(err), fault.Hint(err), want, tt.class)
			}
			if !token.IsZero() {
				t.Errorf("%s: a token came with an error", tt.name)
			}
			if got := tries.Load(); tt.tries == many && got < 2 || tt.tries != many && got != tt.tries {
				t.Errorf("%s: tried %d times, want %d (%d: as many as there is time for)", tt.name, got, tt.tries, many)
			}
		})
	}
	all.Wait()
}

// TestIDTokenAfterFailures: a very early request is refused, then one is lost, then it works.
func TestIDTokenAfterFailures(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch tries.Add(1) {
		case 1:
			http.Error(w, "the job is not in progress", http.StatusForbidden)
		case 2: // nothing
		default:
			fmt.Fprint(w, `{"value":"a.b.c"}`)
		}
	}))
	t.Cleanup(server.Close)
	s := newStep(t, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": server.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"})
	token, err := s.IDToken(context.Background(), "aud")
	check(t, err, "", 0)
	if token.Reveal() != "a.b.c" {
		t.Error("got another token than the server's")
	}
}

// TestIDTokenEndsWithTheContext: a signal cancels the try that hangs.
func TestIDTokenEndsWithTheContext(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 9)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- struct{}{}; <-r.Context().Done() }))
	t.Cleanup(server.Close)
	s := newStep(t, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": server.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	_, err := s.IDToken(ctx, "aud")
	check(t, err, "request ID token: context canceled", fault.Unreachable)
	if len(asked) != 0 {
		t.Error("tried again after the signal")
	}
}

func TestNoIdentity(t *testing.T) {
	t.Parallel()
	event := func(text string) string {
		path := filepath.Join(t.TempDir(), "event.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fork, same := event(`{"pull_request":{"head":{"repo":{"full_name":"mallory/analytics"}}}}`), event(`{"pull_request":{"head":{"repo":{"full_name":"acme/analytics"}}}}`)
	deleted := event(`{"pull_request":{"head":{"repo":null}}}`)
	const (
		permission = `add "permissions: id-token: write" to the job (and, for a reusable workflow, to the job that calls it)`
		noURL      = "request ID token: the job has no permission to request one (ACTIONS_ID_TOKEN_REQUEST_URL is not set)"
		fromFork   = `request ID token: this pull request (branch "x\n::set-output name=a::b") comes from a fork, and GitHub gives forks no ID token`
		forkHint   = "this is by design: skip the job for forks with `if: github.event.pull_request.head.repo.full_name == github.repository`, or parse and lint there with `profile-only: true`; do not switch to pull_request_target, which would run the fork's code with this repository's rights"
	)
	pull := func(name, path string) map[string]string {
		return map[string]string{"GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": path, "GITHUB_REPOSITORY": "acme/analytics", "GITHUB_HEAD_REF": "x\n::set-output name=a::b"}
	}
	ask := func(url, token string) map[string]string {
		return map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": token}
	}
	tests := []struct {
		name      string
		vars      map[string]string
		err, hint string
	}{
		{"no permission", nil, noURL, permission},
		{"no request token", ask("https://x", ""), "request ID token: the job has no permission to request one (ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set)", permission},
		{"fork", pull("pull_request", fork), fromFork, forkHint},
		{"review of a fork", pull("pull_request_review", fork), fromFork, forkHint},
		{"deleted fork", pull("pull_request", deleted), fromFork, forkHint},
		{"own pull request", pull("pull_request", same), noURL, permission},
		{"pull_request_target", pull("pull_request_target", fork), noURL, permission},
		{"event file missing", pull("pull_request", "/does/not/exist"), noURL, permission},
		{"event file broken", pull("pull_request", event("{")), noURL, permission},
		{"not in Actions", map[string]string{"GITHUB_ACTIONS": ""}, "request ID token: not a step of GitHub Actions, and no other source of ID tokens is available",
			"run it as a step of a workflow whose job has `permissions: id-token: write`"},
		{"plain http", ask("http://actions.example/x?a=b", "hunter2"), `request ID token: ACTIONS_ID_TOKEN_REQUEST_URL: scheme is "http", want https (http is for loopback only)`, ""},
		{"not a URL", ask("https://x/\x7f?hunter2", "hunter2"), "request ID token: ACTIONS_ID_TOKEN_REQUEST_URL: not a URL", ""},
		{"query not a URL", ask("https://x/?hunter2\n", "hunter2"), "request ID token: ACTIONS_ID_TOKEN_REQUEST_URL: not a URL", ""},
		{"user in the URL", ask("https://a:hunter2@x/", "hunter2"), "request ID token: ACTIONS_ID_TOKEN_REQUEST_URL: contains a user", ""},
		{"request token of two lines", ask("https://x", "hunter2\r\nX: y"), "request ID token: ACTIONS_ID_TOKEN_REQUEST_TOKEN contains characters that an HTTP header cannot carry", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := newStep(t, tt.vars).IDToken(context.Background(), "aud")
			check(t, err, tt.err, fault.NoIdentity)
			if hint := fault.Hint(err); hint != tt.hint {
				t.Errorf("hint is\n%s\nwant\n%s", hint, tt.hint)
			}
		})
	}
}

// TestFiles: each verb reaches its file, and what the runner reads there is what was set.
func TestFiles(t *testing.T) {
	t.Parallel()
	s := newStep(t, map[string]string{"INPUT_PROJECT-DIR": "  x\n", "STATE_folder": "/tmp/x"})
	token := secret.New("hunter2 100%")
	for _, err := range []error{
		s.Mask(token), s.Mask(token), s.Mask(secret.Value{}),
		s.SetOutput("decision", "allowed"), s.SetOutput("empty", ""), s.SetOutput("odd", "a<<b=c "+delimiter),
		s.SetSecretOutput("token", token),
		s.SetEnv("DBT_PROFILES_DIR", "/tmp/x"), s.SetSecretEnv("DBT_ENV_SECRET_OIDC_TOKEN", token),
		s.SaveState("folder", "/tmp/x"), s.AddPath("/opt/oidc dbt"), s.Summary("# a\n\nb"), s.Writable(),
	} {
		check(t, err, "", 0)
	}
	want := "decision<<D\nallowed\nD\nempty<<D\n\nD\nodd<<D\na<<b=c _\nD\ntoken<<D\nhunter2 100%\nD\n"
	want = strings.ReplaceAll(strings.ReplaceAll(want, "D\n", delimiter+"\n"), " _\n", " "+delimiter+"\n")
	if got := s.file(t, "OUTPUT"); got != want {
		t.Errorf("outputs are\n%s\nwant\n%s", got, want)
	}
	outputs, err := parse(s.file(t, "OUTPUT"))
	if err != nil || len(outputs) != 4 || outputs["odd"] != "a<<b=c "+delimiter || outputs["token"] != "hunter2 100%" {
		t.Errorf("the runner reads %q, %v", outputs, err)
	}
	if vars, err := parse(s.file(t, "ENV")); err != nil || vars["DBT_PROFILES_DIR"] != "/tmp/x" || vars["DBT_ENV_SECRET_OIDC_TOKEN"] != "hunter2 100%" || len(vars) != 2 {
		t.Errorf("the runner reads %q, %v", vars, err)
	}
	if state, err := parse(s.file(t, "STATE")); err != nil || state["folder"] != "/tmp/x" || len(state) != 1 {
		t.Errorf("the runner reads %q, %v", state, err)
	}
	for name, want := range map[string]string{"PATH": "/opt/oidc dbt\n", "STEP_SUMMARY": "# a\n\nb\n"} {
		if got := s.file(t, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got, want := s.stdout.String(), "::add-mask::hunter2 100%25\n"; got != want {
		t.Errorf("printed %q, want the mask once: %q", got, want)
	}
	if s.Input("project-dir") != "x" || s.Input("absent") != "" || s.State("folder") != "/tmp/x" {
		t.Error("inputs or state are not read")
	}
}

// TestRefusedBeforeAnyWrite: what would be read back as something else is not written at all.
func TestRefusedBeforeAnyWrite(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"a\nb=c": "contains a line break or NUL", "a\r": "contains a line break or NUL", "\x00": "contains a line break or NUL",
		"x\n" + delimiter + "\nevil<<E\ny\nE": "contains a line break or NUL",
		delimiter:                             "equals the delimiter that ends a value",
		"\xff":                                "is not valid UTF-8",
	}
	s := newStep(t, nil)
	for value, why := range values {
		check(t, s.SetOutput("name", value), "write output name: "+why, fault.Internal)
		check(t, s.SetEnv("NAME", value), "write variable NAME: "+why, fault.Internal)
		check(t, s.SaveState("name", value), "write state name: "+why, fault.Internal)
		check(t, s.AddPath(value), "write path: "+why, fault.Internal)
		check(t, s.Mask(secret.New(value)), "write mask: "+why, fault.Internal)
		check(t, s.SetSecretOutput("name", secret.New(value)), "write output name: has not been masked", fault.Internal)
	}
	for _, name := range []string{"", "a=b", "a<<b", "a\nb", "a b", "1a", "ä", "a\x00"} {
		check(t, s.SetOutput(name, "v"), fmt.Sprintf("write %q: not a name", "output "+name), fault.Internal)
		check(t, s.SetEnv(name, "v"), fmt.Sprintf("write %q: not a name", "variable "+name), fault.Internal)
	}
	check(t, s.SetSecretEnv("NAME", secret.New("never masked")), "write variable NAME: has not been masked", fault.Internal)
	check(t, s.SetSecretOutput("name", secret.Value{}), "write output name: has not been masked", fault.Internal)
	check(t, s.Summary("a\x00b"), "write summary: contains a NUL", fault.Internal)
	for _, name := range []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"} {
		if got := s.file(t, name); got != "" {
			t.Errorf("%s holds %q, want nothing", name, got)
		}
	}
	if s.stdout.Len() != 0 {
		t.Errorf("printed %q", s.stdout.String())
	}
}

// TestLibraryPanicsAreErrors: where go-githubactions panics, an error is returned.
func TestLibraryPanicsAreErrors(t *testing.T) {
	t.Parallel()
	s := newStep(t, nil)
	folder := filepath.Join(s.dir, "no", "such", "folder")
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STATE", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"} {
		s.vars[name] = folder
	}
	want := fmt.Sprintf("write to the runner: unable to write command to the environment file: open %s: no such file or directory", folder)
	for _, err := range []error{s.SetOutput("a", "b"), s.SetEnv("a", "b"), s.SaveState("a", "b"), s.AddPath("a"), s.Summary("a")} {
		check(t, err, want, fault.Internal)
	}
	closed := runner.New(runner.Env{Getenv: func(string) string { return "" }, Stdout: brokenPipe{}, HTTP: http.DefaultClient})
	for _, err := range []error{closed.Mask(secret.New("hunter2")), closed.Warning("x"), closed.Error("x")} {
		check(t, err, "write to the runner: failed to issue command: broken pipe", fault.Internal)
	}
	check(t, closed.Info("x"), "write to the runner: failed to write info command: broken pipe", fault.Internal)
	check(t, closed.SetSecretOutput("token", secret.New("hunter2")), "write output token: has not been masked", fault.Internal) // the mask was not printed
	check(t, closed.Summary("x"), "", 0)                                                                                        // no file for it: an old server
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWritable(t *testing.T) {
	t.Parallel()
	s := newStep(t, nil)
	s.vars["GITHUB_OUTPUT"] = ""
	check(t, s.Writable(), "write to the runner: GITHUB_OUTPUT is not set", fault.Internal)
	missing := filepath.Join(s.dir, "missing")
	s.vars["GITHUB_OUTPUT"] = missing
	check(t, s.Writable(), fmt.Sprintf("write to the runner: GITHUB_OUTPUT: open %s: no such file or directory", missing), fault.Internal)
	s.vars["GITHUB_OUTPUT"] = s.dir
	check(t, s.Writable(), fmt.Sprintf("write to the runner: GITHUB_OUTPUT: open %s: is a directory, want a regular file", s.dir), fault.Internal)
}

// TestErrorPlaces: each place in the workspace gets one annotation, up to
// GitHub's limit; the whole text is printed once.
func TestErrorPlaces(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	inside := func(path string) string { return filepath.Join(workspace, filepath.FromSlash(path)) }
	many := make([]fault.Place, 12)
	for i := range many {
		many[i] = fault.Place{File: "p.yml", Line: i + 1, Column: 1, Text: "x"}
	}
	var shown strings.Builder
	for i := range 10 {
		fmt.Fprintf(&shown, "::error col=1,file=p.yml,line=%d::x\n", i+1)
	}
	for _, tt := range []struct {
		name   string
		places []fault.Place
		want   string
	}{
		{"none", nil, "::error::a%0Ab\n"},
		{"relative", []fault.Place{{File: ".github/oidc-dbt.yml", Line: 3, Column: 7, Text: "x"}}, "a\nb\n::error col=7,file=.github/oidc-dbt.yml,line=3::x\n"},
		{"absolute", []fault.Place{{File: inside("dbt/profiles.yml"), Line: 3, Column: 7, Text: "x"}}, "a\nb\n::error col=7,file=dbt/profiles.yml,line=3::x\n"},
		{"no column", []fault.Place{{File: "p.yml", Line: 3, Text: "x"}}, "a\nb\n::error col=1,file=p.yml,line=3::x\n"},
		{"the file as a whole", []fault.Place{{File: "p.yml", Text: "x"}}, "a\nb\n::error file=p.yml::x\n"},
		{"text of lines", []fault.Place{{File: "p.yml", Line: 1, Column: 1, Text: "100%\r\n::error::y"}}, "a\nb\n::error col=1,file=p.yml,line=1::100%25\uFFFD%0A:\u200b:error::y\n"},
		{"a file named like a command", []fault.Place{{File: "a,line=9::50%\nb", Line: 1, Column: 1, Text: "x"}}, "a\nb\n::error col=1,file=a%2Cline=9%3A%3A50%25%0Ab,line=1::x\n"},
		{"elsewhere", []fault.Place{{File: filepath.Dir(workspace), Line: 1, Column: 1, Text: "x"}, {File: "../p.yml", Line: 1, Column: 1, Text: "x"}, {Line: 1, Text: "x"}}, "::error::a%0Ab\n"},
		{"one of them elsewhere", []fault.Place{{File: "../p.yml", Line: 1, Column: 1, Text: "x"}, {File: "p.yml", Line: 1, Column: 1, Text: "y"}}, "a\nb\n::error col=1,file=p.yml,line=1::y\n"},
		{"many", many, "a\nb\n" + shown.String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStep(t, nil)
			s.vars["GITHUB_WORKSPACE"] = workspace
			check(t, s.Error("a\nb", tt.places...), "", 0)
			if got := s.stdout.String(); got != tt.want {
				t.Errorf("printed %q, want %q", got, tt.want)
			}
		})
	}
	s := newStep(t, nil)
	s.vars["GITHUB_WORKSPACE"] = ""
	check(t, s.Error("a", fault.Place{File: "p.yml", Line: 1, Text: "x"}), "", 0)
	if got := s.stdout.String(); got != "::error::a\n" {
		t.Errorf("without a workspace it printed %q", got)
	}
}

// TestLogIsNeverACommand: no line of external text, at any level, is a workflow command.
func TestLogIsNeverACommand(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"plain: a::b", "plain: a::b"},
		{"::set-output name=x::y", ":\u200b:set-output name=x::y"},
		{"a\n  \t::add-mask::x", "a\n  \t:\u200b:add-mask::x"},
		{"\u00a0::stop-commands::x", "\u00a0:\u200b:stop-commands::x"}, // .NET's TrimStart takes these away, too
		{"\u3000\u2003::error::x", "\u3000\u2003:\u200b:error::x"},
		{"\u200b\ufeff::error::x", "\u200b\ufeff:\u200b:error::x"},
		{"a\r::error::x", "a\uFFFD::error::x"},
		{"\v::error::x", "\uFFFD::error::x"},
		{"a ##[add-mask]x", "a ##\u200b[add-mask]x"},
		{"###[[group]", "###\u200b[[group]"},
		{"\x1b[2J\u009b2J\x00\x7f", "\uFFFD[2J\uFFFD2J\uFFFD\uFFFD"},
		{"main\u202eniam", "main\uFFFDniam"},
		{"a\u2028::error::x", "a\uFFFD::error::x"},
		{"\xff", "\uFFFD"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := runner.Printable(tt.text); got != tt.want {
			t.Errorf("%q is printed as %q, want %q", tt.text, got, tt.want)
		}
		if got := runner.OneLine(tt.text); strings.Contains(got, "\n") {
			t.Errorf("%q is %q on one line", tt.text, got)
		}
		s := newStep(t, nil)
		check(t, s.Info(tt.text), "", 0)
		if got := s.stdout.String(); got != tt.want+"\n" {
			t.Errorf("%q is printed as %q, want %q", tt.text, got, tt.want)
		}
	}
	s := newStep(t, nil)
	check(t, s.Warning("a %s\n::set-output name=x::y"), "", 0)
	check(t, s.Error("##[add-mask]x"), "", 0)
	workspace := t.TempDir()
	placed := newStep(t, map[string]string{"GITHUB_WORKSPACE": workspace})
	check(t, placed.Warning("x", fault.Place{File: filepath.Join(t.TempDir(), "a.yml"), Line: 3}), "", 0)
	check(t, placed.Warning("y", fault.Place{File: "/elsewhere", Line: 1}, fault.Place{File: filepath.Join(workspace, "b.yml"), Line: 3, Column: 5}, fault.Place{File: "c.yml", Line: 4}), "", 0)
	if got, want := placed.stdout.String(), "::warning::x\n::warning col=5,file=b.yml,line=3::y\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if got, want := s.stdout.String(), "::warning::a %25s%0A:\u200b:set-output name=x::y\n::error::##\u200b[add-mask]x\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// FuzzFiles: for any names and values, the runner reads back exactly the pairs
// that were accepted without an error.
func FuzzFiles(f *testing.F) {
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		s := newStep(t, nil)
		want := map[string]string{}
		for _, p := range [][2]string{{name1, value1}, {name2, value2}} {
			if s.SetOutput(p[0], p[1]) == nil {
				want[p[0]] = p[1]
			}
			if s.Mask(secret.New(p[1])) == nil && s.SetSecretEnv(p[0], secret.New(p[1])) == nil && s.SaveState(p[0], p[1]) != nil {
				t.Errorf("%q is a variable, but no state", p)
			}
		}
		got, err := parse(s.file(t, "OUTPUT"))
		if err != nil || len(got) != len(want) {
			t.Fatalf("the runner reads %q, %v, want %q", got, err, want)
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("output %q is read as %q, want %q", name, got[name], value)
			}
		}
		for _, file := range []string{"ENV", "STATE"} {
			if _, err := parse(s.file(t, file)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		for line := range strings.Lines(s.stdout.String()) {
			if !strings.HasPrefix(line, "::add-mask::") {
				t.Errorf("printed %q", line)
			}
		}
	})
}

// FuzzPrintable: no line of what is printed is a command.
func FuzzPrintable(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		printed := runner.Printable(text)
		if strings.Contains(printed, "##[") || strings.Contains(strings.ToLower(printed), "##vso[") {
			t.Errorf("%q is printed as %q", text, printed)
		}
		for line := range strings.FieldsFuncSeq(printed, func(c rune) bool { return strings.ContainsRune("\r\n\v\f\u0085\u2028\u2029", c) }) {
			if strings.HasPrefix(strings.TrimSpace(line), "::") {
				t.Errorf("%q is printed as %q", text, printed)
			}
		}
		if again := runner.Printable(printed); again != printed {
			t.Errorf("%q is printed as %q, and that as %q", text, printed, again)
		}
	})
}
