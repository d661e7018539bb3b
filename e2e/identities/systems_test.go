//go:build e2e && linux && amd64

package identities

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// token returns an ID token of the run for an audience.
func (m *machine) token(audience string) string { return m.issuer.Sign(audience, nil) }

// serve starts a service of the machine on loopback.
func (m *machine) serve(handler http.HandlerFunc) (address string) {
	host, port := setup.Serve(m.t, handler)
	return fmt.Sprintf("http://%s:%d", host, port)
}

// onSocket starts a service of the machine on a Unix socket: POST /v1/tokens/oidc with an audience. wrap makes the
// reply of the token.
func (m *machine) onSocket(wrap func(token string) string) (path string) {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "api") // a socket's path is short
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "api")
	l, err := net.Listen("unix", path)
	if err != nil {
		m.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/tokens/oidc", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Audience string `json:"aud"`
		}
		if json.NewDecoder(r.Body).Decode(&body) != nil || body.Audience == "" {
			http.Error(w, "want an audience", http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, wrap(m.token(body.Audience)))
	})
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: mux}
	go func() { _ = server.Serve(l) }()
	m.t.Cleanup(func() { server.Close() })
	return path
}

// likeGitHub is a job of GitHub Actions, and of what speaks its protocol.
func likeGitHub(m *machine) []string {
	env := []string{"CI=true", "GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push", "GITHUB_WORKSPACE=" + m.workspace}
	for name, value := range m.issuer.RunnerEnv() {
		env = append(env, name+"="+value)
	}
	return env
}

func forgejo(m *machine) []string { return append(likeGitHub(m), "FORGEJO_ACTIONS=true") }

// gitlab is a job by the page's file: its token, and the variables that each job has.
func gitlab(m *machine) []string {
	m.t.Helper()
	file := decode[map[string]struct {
		IDTokens map[string]struct {
			Audience string `yaml:"aud"`
		} `yaml:"id_tokens"`
	}](m.t, readPage(m.t, m.row.page).block(m.t, "id_tokens:"))
	env := []string{"CI=true", "GITLAB_CI=true", "CI_PROJECT_DIR=" + m.workspace, "CI_PIPELINE_SOURCE=push"}
	for name, token := range file["dbt"].IDTokens {
		env = append(env, name+"="+m.token(token.Audience))
	}
	return env
}

// circleCI is a job whose program circleci hands out tokens; the variables have the organisation's audience.
func circleCI(m *machine) []string {
	return []string{"CI=true", "CIRCLECI=true", "CIRCLE_WORKING_DIRECTORY=" + m.workspace,
		"CIRCLE_OIDC_TOKEN_V2=" + m.token("5c10c8f4"), standinTokens + "=" + m.tokens()}
}

// standinTokens is the variable by which the stand-ins of programs find the machine's issuer.
const standinTokens = "OIDC_STANDIN_TOKENS"

// tokens serves tokens to the stand-ins of programs.
func (m *machine) tokens() (address string) {
	return m.serve(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, m.token(r.FormValue("audience"))) })
}

// programs are the stand-ins of systems' own programs, by name: what they take, and print.
var programs = map[string]func(args []string) (audience string, err error){
	"circleci": func(args []string) (audience string, err error) {
		if len(args) != 5 || !slices.Equal(args[:4], []string{"run", "oidc", "get", "--claims"}) {
			return "", fmt.Errorf("usage: circleci run oidc get --claims CLAIMS, got %q", args)
		}
		var claims struct {
			Audience string `json:"aud"`
		}
		err = json.Unmarshal([]byte(args[4]), &claims)
		return claims.Audience, err
	},
	"oz": func(args []string) (audience string, err error) {
		want := []string{"federate", "issue-token", "--run-id"}
		if len(args) != 6 || !slices.Equal(args[:3], want) || args[4] != "--audience" {
			return "", fmt.Errorf("usage: oz federate issue-token --run-id RUN --audience AUDIENCE, got %q", args)
		}
		return args[5], nil
	},
}

func TestMain(m *testing.M) {
	if program, ok := programs[filepath.Base(os.Args[0])]; ok {
		if err := printToken(program, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(setup.Main(m))
}

func printToken(program func([]string) (string, error), args []string) error {
	audience, err := program(args)
	if err != nil {
		return err
	}
	resp, err := http.Get(os.Getenv(standinTokens) + "/?" + url.Values{"audience": {audience}}.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// buildkite is a job whose agent hands out tokens, with ids only where they are asked for.
// (Buildkite Agent API: POST /jobs/JOB/oidc/tokens)
func buildkite(m *machine) []string {
	const access = "agent-access-token-of-the-job"
	address := m.serve(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Audience string
			Claims   []string
		}
		switch {
		case r.Method != http.MethodPost || r.URL.Path != "/v3/jobs/job-9/oidc/tokens":
			http.NotFound(w, r)
		case r.Header.Get("Authorization") != "Token "+access:
			http.Error(w, `{"message":"unauthorized"}`, http.StatusUnauthorized)
		case json.NewDecoder(r.Body).Decode(&body) != nil:
			http.Error(w, `{"message":"bad request"}`, http.StatusBadRequest)
		default:
			without := map[string]any{}
			for _, id := range []string{"organization_id", "pipeline_id", "build_id", "cluster_id", "queue_id"} {
				if !slices.Contains(body.Claims, id) {
					without[id] = nil
				}
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": m.issuer.Sign(body.Audience, without)})
		}
	})
	return []string{"CI=true", "BUILDKITE=true", "BUILDKITE_BUILD_CHECKOUT_PATH=" + m.workspace,
		"BUILDKITE_REPO=git@github.com:acme/analytics.git", "BUILDKITE_AGENT_ENDPOINT=" + address + "/v3",
		"BUILDKITE_JOB_ID=job-9", "BUILDKITE_AGENT_ACCESS_TOKEN=" + access}
}

// azurePipelines is a step that maps the job's access token. (Azure DevOps REST API 7.1: Oidctoken, Create)
func azurePipelines(m *machine) []string {
	const access = "access-token-of-the-job"
	address := m.serve(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Header.Get("Authorization") != "Bearer "+access:
			http.Redirect(w, r, "https://spsprodeus.vssps.visualstudio.com/_signin", http.StatusFound)
		case r.URL.Query().Get("api-version") != "7.1" || r.URL.Query().Has("serviceConnectionId"):
			w.WriteHeader(http.StatusBadRequest)
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"oidcToken": m.token("api://AzureADTokenExchange")})
		}
	})
	return []string{"TF_BUILD=True", "BUILD_SOURCESDIRECTORY=" + m.workspace, "SYSTEM_ACCESSTOKEN=" + access,
		"SYSTEM_OIDCREQUESTURI=" + address + "/acme/_apis/distributedtask/hubs/build/plans/p/jobs/j/oidctoken"}
}

// bitbucket is a step by the page's file, with one token for its audiences.
func bitbucket(m *machine) []string {
	type step struct {
		OIDC struct{ Audiences []string }
	}
	file := decode[struct {
		Pipelines struct {
			Branches map[string][]struct{ Step step }
		}
	}](m.t, readPage(m.t, m.row.page).block(m.t, "pipelines:"))
	audiences := file.Pipelines.Branches["main"][0].Step.OIDC.Audiences
	if len(audiences) != 1 {
		m.t.Fatalf("the step's audiences are %q, want one", audiences)
	}
	return []string{"CI=true", "BITBUCKET_BUILD_NUMBER=12", "BITBUCKET_CLONE_DIR=" + m.workspace,
		"BITBUCKET_STEP_OIDC_TOKEN=" + m.token(audiences[0])}
}

// kubernetes is a pod with a projected token, which the kubelet replaces as it does: by a symbolic link to another
// folder.
func kubernetes(m *machine) []string {
	m.t.Helper()
	folder := filepath.Join(m.home, "token")
	m.places["/run/secrets/oidc-dbt"] = folder // also reached by /var/run
	rewrite := func(count int) error {
		data := filepath.Join(folder, fmt.Sprintf("..%d", count))
		fresh := filepath.Join(folder, "..data_tmp")
		token := m.issuer.Sign("", map[string]any{"aud": []string{m.audience}})
		for _, err := range []error{
			os.MkdirAll(data, 0o755), os.WriteFile(filepath.Join(data, "token"), []byte(token), 0o644),
			os.Symlink(filepath.Base(data), fresh), os.Rename(fresh, filepath.Join(folder, "..data")),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}
	_ = os.RemoveAll(folder)
	if err := rewrite(0); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("..data", "token"), filepath.Join(folder, "token")); err != nil {
		m.t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	m.after = append(m.after, func() { close(done); <-ended })
	go func() {
		defer close(ended)
		for count := 1; ; count++ {
			select {
			case <-done:
				return
			case <-time.After(500 * time.Millisecond):
				if err := rewrite(count); err != nil {
					m.t.Error(err)
				}
			}
		}
	}()
	return []string{"KUBERNETES_SERVICE_HOST=10.96.0.1"}
}

// container is a task of ECS, whose role's keys come from the container's endpoint.
func container(m *machine) []string {
	const bearer = "authorization-of-the-container"
	keys := m.roleKeys()
	address := m.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != bearer {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"AccessKeyId": keys.AccessKeyID,
			"SecretAccessKey": keys.SecretAccessKey, "Token": keys.SessionToken})
	})
	return []string{"AWS_REGION=eu-central-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + address + "/v1/credentials",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN=" + bearer}
}

// roleKeys returns the keys of a role in a new account of AWS.
func (m *machine) roleKeys() standin.Session {
	m.t.Helper()
	issuer := setup.Issuer(m.t)
	m.account = setup.STS(m.t, issuer)
	resp, err := http.PostForm(m.account.URL(), url.Values{
		"Version": {"2011-06-15"}, "Action": {"AssumeRoleWithWebIdentity"}, "RoleArn": {setup.Role},
		"RoleSessionName": {"task"}, "WebIdentityToken": {issuer.Sign("sts.amazonaws.com", nil)},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	resp.Body.Close()
	sessions := m.account.Sessions()
	if len(sessions) != 1 {
		m.t.Fatalf("%d sessions, status %s", len(sessions), resp.Status)
	}
	return sessions[0]
}

// webIdentityTokens is STS in its region: GetWebIdentityToken for those who sign the request.
func webIdentityTokens(m *machine) http.Handler {
	refuse := func(w http.ResponseWriter, status int, code, message string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, message)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		if _, err := m.account.AuthenticateIn(r, body, "sts", "eu-central-1"); err != nil {
			refuse(w, http.StatusForbidden, "SignatureDoesNotMatch", err.Error())
			return
		}
		form, err := url.ParseQuery(string(body))
		audience := form.Get("Audience.member.1")
		action := form.Get("Action") == "GetWebIdentityToken"
		if err != nil || !action || form.Get("SigningAlgorithm") != "RS256" || audience == "" {
			refuse(w, http.StatusBadRequest, "ValidationError", "want an algorithm and an audience")
			return
		}
		fmt.Fprintf(w, `<GetWebIdentityTokenResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`+
			`<GetWebIdentityTokenResult><WebIdentityToken>%s</WebIdentityToken><Expiration>%s</Expiration>`+
			`</GetWebIdentityTokenResult></GetWebIdentityTokenResponse>`,
			m.token(audience), time.Now().Add(5*time.Minute).UTC().Format(time.RFC3339))
	})
}

// metadataServer is a machine of Google Cloud.
func metadataServer(m *machine) []string {
	address := m.serve(func(w http.ResponseWriter, r *http.Request) {
		const path = "/computeMetadata/v1/instance/service-accounts/default/identity"
		if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Path != path {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, m.token(r.URL.Query().Get("audience")))
	})
	return []string{"GCE_METADATA_HOST=" + strings.TrimPrefix(address, "http://")}
}

// inVariable is a job whose token is in the variable that the policy names.
func inVariable(name, prefix string) func(m *machine) []string {
	return func(m *machine) []string { return []string{name + "=" + prefix + m.token(m.audience)} }
}

// inFile is a job whose token is in a file at this path of its folder.
func inFile(place, name string) func(m *machine) []string {
	return func(m *machine) []string {
		folder := filepath.Join(m.home, "given")
		m.places[place] = folder
		setup.Write(m.t, folder, name, m.token(m.audience))
		return nil
	}
}

// flySocket is a Fly Machine.
func flySocket(m *machine) []string {
	m.places["/.fly"] = filepath.Dir(m.onSocket(func(token string) string { return token }))
	return nil
}

// cursorSocket is a machine of a Cursor Cloud Agent.
func cursorSocket(m *machine) []string {
	return []string{"CURSOR_AGENT_SOCKET=" + m.onSocket(func(token string) string {
		return fmt.Sprintf(`{"token": %q}`, token)
	})}
}

func warp(m *machine) []string { return []string{standinTokens + "=" + m.tokens(), "OZ_RUN_ID=run-9"} }

// company starts a company's identity provider.
func company(m *machine) (issuer string) {
	m.t.Helper()
	people, err := standin.StartPeople(standin.PeopleConfig{ClientID: "dbt-cli", Approves: true})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(people.Close)
	m.people = people
	return people.URL()
}

// signedIn is a person who has read the policy, and signs in with a code.
func signedIn(m *machine) []string {
	m.t.Helper()
	claims := maps.Clone(m.now)
	delete(claims, "iss")
	m.people.SetClaims(claims)
	for _, args := range [][]string{{"approve", "--yes"}, {"login", "--device", "--token-store", "file"}} {
		cmd := exec.CommandContext(m.t.Context(), setup.Binary(m.t), args...)
		cmd.Dir, cmd.Env = m.workspace, setup.AtTerminal(m.env)
		if out, err := cmd.CombinedOutput(); err != nil {
			m.t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return nil
}
