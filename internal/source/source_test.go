package source

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"

// world returns an Env with these variables only.
func world(t *testing.T, vars map[string]string) Env {
	t.Helper()
	getenv := func(name string) string { return vars[name] }
	environ := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}
	return Env{
		Getenv: getenv, Environ: environ, HTTP: web.NewClient(web.ReadNetwork(getenv).Transport()), Now: time.Now, Dir: t.TempDir(),
		Stderr: io.Discard,
	}
}

// got returns a token's text, or the error's with its class.
func got(v secret.Value, err error) string {
	if err != nil {
		return fmt.Sprintf("%s: %v", fault.ClassOf(err), err)
	}
	return v.Reveal()
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestBuildkite: the agent's API is asked as its own program asks it.
func TestBuildkite(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/v3/jobs/job-1/oidc/tokens" || r.Header.Get("Authorization") != "Token agent-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var ask struct {
			Audience string
			Claims   []string
		}
		if json.Unmarshal(body, &ask) != nil || ask.Audience != "acme" || !strings.Contains(string(body), "pipeline_id") {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		fmt.Fprintf(w, `{"token": %q}`, token)
	}))
	defer server.Close()
	vars := map[string]string{
		"BUILDKITE": "true", "BUILDKITE_AGENT_ENDPOINT": server.URL + "/v3", "BUILDKITE_JOB_ID": "job-1", "BUILDKITE_AGENT_ACCESS_TOKEN": "agent-token",
	}
	id := policy.Identity{Name: "ci", Kind: "buildkite"}
	ask := func(vars map[string]string, audience string) string {
		s, err := Choose(world(t, vars), []policy.Identity{id}, Choice{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got(s.Token(t.Context(), audience))
	}
	compare(t, ask(vars, "acme"), token)
	compare(t, ask(vars, "other"), "unreachable: request ID token of Buildkite: status is 422, want 200")
	compare(t, ask(with(vars, "BUILDKITE_AGENT_ACCESS_TOKEN", "stolen"), "acme"), "no_identity: request ID token of Buildkite: status is 401, want 200")
	compare(t, ask(with(vars, "BUILDKITE_JOB_ID", "../job-1"), "acme"), "no_identity: request ID token of Buildkite: status is 401, want 200")
	compare(t, ask(with(vars, "BUILDKITE_AGENT_ACCESS_TOKEN", ""), "acme"), "no_identity: request ID token: BUILDKITE_AGENT_ACCESS_TOKEN is not set")
	compare(t, ask(with(vars, "BUILDKITE_AGENT_ACCESS_TOKEN", "a\nb"), "acme"),
		"no_identity: request ID token: BUILDKITE_AGENT_ACCESS_TOKEN contains characters that an HTTP header cannot carry")
	compare(t, ask(with(vars, "BUILDKITE_AGENT_ENDPOINT", "http://agent.example/v3"), "acme"),
		"no_identity: request ID token: BUILDKITE_AGENT_ENDPOINT: scheme is \"http\", want https (http is for loopback only)")
}

func with(vars map[string]string, name, value string) map[string]string {
	out := map[string]string{}
	for n, v := range vars {
		out[n] = v
	}
	out[name] = value
	return out
}

// TestAzurePipelines: a POST with the job's access token, without a service connection.
func TestAzurePipelines(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Header.Get("X-TFS-FedAuthRedirect") != "Suppress":
			http.Redirect(w, r, "https://login.example/", http.StatusFound)
		case r.Header.Get("Authorization") != "Bearer job-token", r.URL.RawQuery != "api-version=7.1":
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprintf(w, `{"oidcToken": %q}`, token)
		}
	}))
	defer server.Close()
	vars := map[string]string{"TF_BUILD": "True", "SYSTEM_OIDCREQUESTURI": server.URL + "/acme/_apis/oidctoken", "SYSTEM_ACCESSTOKEN": "job-token"}
	id := policy.Identity{Name: "ci", Kind: "azure_pipelines", Audience: "api://AzureADTokenExchange"}
	ask := func(vars map[string]string) string {
		s, err := Choose(world(t, vars), []policy.Identity{id}, Choice{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got(s.Token(t.Context(), "x"))
	}
	compare(t, ask(vars), token)
	compare(t, ask(with(vars, "SYSTEM_ACCESSTOKEN", "")), "no_identity: request ID token: SYSTEM_ACCESSTOKEN is not set")
	compare(t, ask(with(vars, "SYSTEM_ACCESSTOKEN", "other")), "no_identity: request ID token of Azure Pipelines: status is 403, want 200")
	compare(t, ask(with(vars, "SYSTEM_OIDCREQUESTURI", "")), "no_identity: request ID token: SYSTEM_OIDCREQUESTURI is not set")
}

// TestSockets: a token over a Unix socket, as Cursor's and Fly's machines give it.
func TestSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct{ Aud string }
		if r.URL.Path != "/v1/tokens/oidc" || json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Aud != "acme" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"token": %q}`, token)
	})}
	go server.Serve(listener)
	defer server.Close()
	ask := func(vars map[string]string, id policy.Identity, audience string) string {
		s, err := Choose(world(t, vars), []policy.Identity{id}, Choice{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got(s.Token(t.Context(), audience))
	}
	vars := map[string]string{"CURSOR_AGENT_SOCKET": path}
	cursor := policy.Identity{Name: "cursor", Kind: "cursor"}
	compare(t, ask(vars, cursor, "acme"), token)
	compare(t, ask(vars, cursor, "other"), "unreachable: request ID token of the socket "+path+": status is 400, want 200")
	named := policy.Identity{Name: "c", Kind: "workload", Source: policy.Source{UnixSocket: "cursor"}}
	compare(t, ask(vars, named, "acme"), token)
}

// TestGoogle: the metadata server is asked only where the policy names the kind.
func TestGoogle(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Query().Get("audience") != "//iam/acme" || r.URL.Query().Get("format") != "full" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, token)
	}))
	defer server.Close()
	vars := map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(server.URL, "http://")}
	s, err := Choose(world(t, vars), []policy.Identity{{Name: "vm", Kind: "google"}}, Choice{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got(s.Token(t.Context(), "//iam/acme")), token)
	compare(t, got(s.Token(t.Context(), "other")), "no_identity: request ID token of the metadata server: status is 403, want 200")
}

// TestGiven: what the policy says itself, and what goes wrong with it.
func TestGiven(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := func(name, script string) policy.Source {
		return policy.Source{Command: []string{write(name, "#!/bin/sh\n"+script, 0o755), "{audience}"}}
	}
	link := func(name, to string) policy.Source {
		path := filepath.Join(folder, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return policy.Source{File: path}
	}
	outside := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(outside, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	write("good", token+"\n", 0o644)
	for _, tt := range []struct {
		name   string
		source policy.Source
		want   string
	}{
		{"variable", policy.Source{Env: "TOKEN"}, token},
		{"variable that is not set", policy.Source{Env: "NONE"}, "no_identity: request ID token: NONE is not set"},
		{"variable with two tokens", policy.Source{Env: "TWO"}, "no_identity: request ID token: TWO contains more than one token, or is none"},
		{"file", policy.Source{File: filepath.Join(folder, "good")}, token},
		{"link within the folder, as a kubelet makes it", link("link", "good"), token},
		{"link out of the folder", link("out", outside),
			fmt.Sprintf("no_identity: request ID token: read %q: it is a symbolic link that leads out of its folder", filepath.Join(folder, "out"))},
		{"file that others may write", policy.Source{File: write("shared", token, 0o666)},
			fmt.Sprintf("no_identity: request ID token: read %q: other users can write it (mode 0666): chmod go-w", filepath.Join(folder, "shared"))},
		{"file that is empty", policy.Source{File: write("empty", "\n", 0o600)},
			fmt.Sprintf("no_identity: request ID token: file %q is empty", filepath.Join(folder, "empty"))},
		{"file that is large", policy.Source{File: write("large", strings.Repeat("x", maxToken+1), 0o600)},
			fmt.Sprintf("no_identity: request ID token: read %q: is larger than 64 KiB", filepath.Join(folder, "large"))},
		{"no file", policy.Source{File: filepath.Join(folder, "none")},
			fmt.Sprintf("no_identity: request ID token: read %q: no such file or directory", filepath.Join(folder, "none"))},
		{"command", program("prints", `test "$1" = acme && echo `+token), token},
		{"command that prints twice", program("twice", "echo "+token+"; echo "+token+"x"),
			fmt.Sprintf("no_identity: request ID token: the output of %q contains more than one token, or is none", filepath.Join(folder, "twice"))},
		{"command that prints labels and keys, as spire-agent does", program("labels",
			`printf 'token(spiffe://acme.example/dbt):\n\t%s\nbundle(spiffe://acme.example):\n\t{"keys":[{"n":"a-b_c"}]}\n' `+token), token},
		{"command that prints JSON", program("json", `printf '[{"svids":[{"spiffe_id":"spiffe://acme.example/dbt","svid":"%s"}]}]' `+token), token},
		{"command that prints one token twice", program("again", "echo "+token+"; echo "+token), token},
		{"command that prints words", program("words", "echo not signed in"),
			fmt.Sprintf("no_identity: request ID token: the output of %q contains more than one token, or is none", filepath.Join(folder, "words"))},
		{"command that prints nothing", program("silent", ":"),
			fmt.Sprintf("no_identity: request ID token: the output of %q is empty", filepath.Join(folder, "silent"))},
		{"command that prints 64 MiB", program("prints-much", "head -c 67108864 /dev/zero"),
			fmt.Sprintf("no_identity: request ID token: run %q: it prints more than 65536 bytes", filepath.Join(folder, "prints-much"))},
		{"command that fails", program("fails", "echo wrong >&2; exit 3"),
			fmt.Sprintf("no_identity: request ID token: run %q: exit status 3", filepath.Join(folder, "fails"))},
		{"no command", policy.Source{Command: []string{"no-such-program"}},
			`no_identity: request ID token: run "no-such-program": it is not on PATH`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := world(t, map[string]string{"TOKEN": token, "TWO": token + " " + token})
			s, err := Choose(env, []policy.Identity{{Name: "w", Kind: "workload", Source: tt.source}}, Choice{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got(s.Token(t.Context(), "acme")), tt.want)
		})
	}
}

// TestHangingCommand: it ends with the run, and so does what it has started.
func TestHangingCommand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 1000 & sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := Choose(world(t, nil), []policy.Identity{{Name: "w", Kind: "workload", Source: policy.Source{Command: []string{path}}}}, Choice{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(fmt.Errorf("the run was cancelled")) })
	compare(t, got(s.Token(ctx, "acme")), fmt.Sprintf("no_identity: request ID token: run %q: the run was cancelled", path))
}

// TestChoose: one source, never a second after a first.
func TestChoose(t *testing.T) {
	t.Parallel()
	github := policy.Identity{Name: "github", Kind: "github"}
	gitlab := policy.Identity{Name: "gitlab", Kind: "gitlab"}
	cluster := policy.Identity{Name: "cluster", Kind: "kubernetes", Source: policy.Source{File: "/token"}}
	airflow := policy.Identity{Name: "airflow", Kind: "workload", Source: policy.Source{Env: "A"}}
	staff := policy.Identity{Name: "staff", Kind: "people"}
	for _, tt := range []struct {
		name       string
		vars       map[string]string
		identities []policy.Identity
		choice     string
		want       string
	}{
		{"GitHub", map[string]string{"GITHUB_ACTIONS": "true"}, []policy.Identity{github, gitlab}, "", "github"},
		{"GitLab", map[string]string{"GITLAB_CI": "true"}, []policy.Identity{github, gitlab}, "", "gitlab"},
		{"the job's system before a named source", map[string]string{"GITHUB_ACTIONS": "true"}, []policy.Identity{cluster, github}, "", "github"},
		{"a named source", nil, []policy.Identity{github, cluster}, "", "cluster"},
		{"two named sources", nil, []policy.Identity{cluster, airflow}, "",
			`no_identity: request ID token: the identities "cluster" (kind "kubernetes"), "airflow" (kind "workload") could sign in here`},
		{"two, one chosen", nil, []policy.Identity{cluster, airflow}, "airflow=env:B", "airflow"},
		{"chosen before the job's system", map[string]string{"GITHUB_ACTIONS": "true"}, []policy.Identity{github, airflow}, "airflow=file:/t", "airflow"},
		{"chosen and unknown", nil, []policy.Identity{github}, "other=env:A",
			`usage: request ID token: no rule names identity "other"; the rules name "github" (kind "github")`},
		{"a person", nil, []policy.Identity{github, staff}, "", "staff"},
		{"a job of a system that no rule names", map[string]string{"GITLAB_CI": "true"}, []policy.Identity{github}, "",
			`no_identity: request ID token: this is a job of kind "gitlab", and no rule names an identity of that kind; the rules name "github" (kind "github")`},
		{"nowhere", nil, []policy.Identity{gitlab}, "",
			`no_identity: request ID token: no source of ID tokens for the identities that the rules name: "gitlab" (kind "gitlab")`},
		{"a variable that says no", map[string]string{"CIRCLECI": "false"}, []policy.Identity{{Name: "c", Kind: "circleci"}}, "",
			`no_identity: request ID token: no source of ID tokens for the identities that the rules name: "c" (kind "circleci")`},
		{"Forgejo, which has GitHub's variables too", map[string]string{"GITHUB_ACTIONS": "true", "FORGEJO_ACTIONS": "true"},
			[]policy.Identity{github, {Name: "forge", Kind: "forgejo"}}, "", "forge"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var choice Choice
			if tt.choice != "" {
				var err error
				if choice, err = ParseChoice(tt.choice); err != nil {
					t.Fatal(err)
				}
			}
			stored := func(id policy.Identity) Source { return Source{identity: id} }
			s, err := Choose(world(t, tt.vars), tt.identities, choice, stored)
			text := s.Identity().Name
			if err != nil {
				text = fmt.Sprintf("%s: %v", fault.ClassOf(err), err)
			}
			compare(t, text, tt.want)
		})
	}
	for text, want := range map[string]string{
		"a":       `token source "a": want IDENTITY=env:NAME or IDENTITY=file:PATH`,
		"=env:A":  `token source "=env:A": want IDENTITY=env:NAME or IDENTITY=file:PATH`,
		"a=env:":  `token source "a=env:": want env:NAME or file:PATH behind the =`,
		"a=cmd:x": `token source "a=cmd:x": want env:NAME or file:PATH behind the =`,
	} {
		if _, err := ParseChoice(text); err == nil || err.Error() != want {
			t.Errorf("%q: error is %v, want %s", text, err, want)
		}
	}
}

// TestJobs: whose checkout a job of another CI system has.
func TestJobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "dbt")
	for _, tt := range []struct {
		name string
		vars map[string]string
		want Job
	}{
		{"none", nil, Job{}},
		{"GitHub", map[string]string{"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": "/w"}, Job{Kind: "github", Workspace: "/w"}},
		{"GitLab", map[string]string{"CI": "true", "GITLAB_CI": "true", "CI_PROJECT_DIR": "/b", "CI_PIPELINE_SOURCE": "push"}, Job{Kind: "gitlab", Workspace: "/b"}},
		{"GitLab, merge request", map[string]string{"GITLAB_CI": "true", "CI_PROJECT_DIR": "/b", "CI_PIPELINE_SOURCE": "merge_request_event"},
			Job{Kind: "gitlab", Workspace: "/b", Foreign: "the job is for a merge request"}},
		{"CircleCI", map[string]string{"CIRCLECI": "true", "CIRCLE_WORKING_DIRECTORY": "~/project", "HOME": "/root"}, Job{Kind: "circleci", Workspace: "/root/project"}},
		{"CircleCI, fork", map[string]string{"CIRCLECI": "true", "CIRCLE_WORKING_DIRECTORY": "/p", "CIRCLE_PR_USERNAME": "mallory"},
			Job{Kind: "circleci", Workspace: "/p", Foreign: "the job is for a pull request of a fork"}},
		{"Buildkite, fork", map[string]string{"BUILDKITE": "true", "BUILDKITE_BUILD_CHECKOUT_PATH": "/p", "BUILDKITE_REPO": "git@host:acme/a.git",
			"BUILDKITE_PULL_REQUEST_REPO": "git://host/mallory/a.git"}, Job{Kind: "buildkite", Workspace: "/p", Foreign: "the job is for a pull request of git://host/mallory/a.git"}},
		{"Azure Pipelines, fork", map[string]string{"TF_BUILD": "True", "BUILD_SOURCESDIRECTORY": "/s", "SYSTEM_PULLREQUEST_ISFORK": "True"},
			Job{Kind: "azure_pipelines", Workspace: "/s", Foreign: "the job is for a pull request of a fork"}},
		{"an unknown CI", map[string]string{"CI": "1"},
			Job{Kind: "unknown", Workspace: dir, Foreign: "this CI system is not known to oidc-dbt, and the job may be for a fork"}},
	} {
		if got := JobOf(func(name string) string { return tt.vars[name] }, inside); got != tt.want {
			t.Errorf("%s: job is %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
