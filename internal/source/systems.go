package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A request is how a system is asked for a token over HTTP.
type request struct {
	what    string // what is asked, as errors name it
	method  string
	address string
	header  http.Header
	body    any    // encoded as JSON; nil for none
	field   string // of the JSON reply that holds the token; "" where the reply is the token
	refused string // the hint for a status of 401 or 403
}

// ask sends a request until it has a reply that lasts. Errors do not hold the reply.
func ask(ctx context.Context, client *http.Client, r request) (secret.Value, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return secret.Value{}, fault.New(fault.Internal, fmt.Errorf("request ID token: %w", err), "")
		}
	}
	text, err := web.Retry(ctx, func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, r.method, r.address, bytes.NewReader(body))
		if err != nil {
			return "", errors.New("not a URL")
		}
		req.Header = r.header.Clone()
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", web.Failed(err)
		}
		defer resp.Body.Close()
		return reply(resp, r.field)
	})
	if err == nil {
		return tokenOf(text, "the reply of "+r.what)
	}
	var status statusError
	if errors.As(err, &status) && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token of %s: %w", r.what, err), r.refused)
	}
	return secret.Value{}, fault.New(fault.Unreachable, fmt.Errorf("request ID token of %s: %w", r.what, err), web.Hint(err))
}

// reply returns the token in a reply.
func reply(resp *http.Response, field string) (string, error) {
	if resp.StatusCode/100 != 2 {
		err := statusError(resp.StatusCode)
		if web.Transient(resp.StatusCode) {
			return "", web.Temporary(err)
		}
		return "", err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); errors.As(err, new(*http.MaxBytesError)) {
		return "", fmt.Errorf("the reply is larger than %d bytes", maxToken)
	} else if err != nil {
		return "", web.Failed(err)
	}
	if body.Len() == 0 {
		return "", web.Temporary(errors.New("the reply is empty"))
	}
	if field == "" {
		return body.String(), nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body.Bytes(), &fields); err != nil {
		return "", errors.New("the reply is not a JSON object")
	}
	var token string
	if json.Unmarshal(fields[field], &token) != nil || token == "" {
		return "", errors.New("the reply contains no token")
	}
	return token, nil
}

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status is %d, want 200", int(e)) }

// fromCircleCI asks the job's own program: the variables that CircleCI sets
// have the organisation as their audience. (CircleCI: OpenID Connect tokens with custom claims)
func fromCircleCI(ctx context.Context, env Env, audience string) (secret.Value, error) {
	const hint = "or take the variable that CircleCI sets: `source: {env: CIRCLE_OIDC_TOKEN_V2}`, with `audience:` the organisation's id"
	if _, err := exec.LookPath("circleci"); err != nil {
		return secret.Value{}, fault.New(fault.NoIdentity,
			errors.New("request ID token: the program circleci, which every job has, is not on PATH"), hint)
	}
	claims, err := json.Marshal(map[string]string{"aud": audience})
	if err != nil {
		return secret.Value{}, err
	}
	return command(ctx, env, []string{"circleci", "run", "oidc", "get", "--claims", string(claims)}, "")
}

// buildkiteClaims are those that a token has only if they are asked for:
// without them no rule could match by an id.
var buildkiteClaims = []string{"organization_id", "pipeline_id", "build_id", "cluster_id", "queue_id"}

// fromBuildkite asks the agent's API, as `buildkite-agent oidc request-token` does.
func fromBuildkite(ctx context.Context, env Env, audience string) (secret.Value, error) {
	endpoint, job, token := env.Getenv("BUILDKITE_AGENT_ENDPOINT"), env.Getenv("BUILDKITE_JOB_ID"), env.Getenv("BUILDKITE_AGENT_ACCESS_TOKEN")
	for name, value := range map[string]string{
		"BUILDKITE_AGENT_ENDPOINT": endpoint, "BUILDKITE_JOB_ID": job, "BUILDKITE_AGENT_ACCESS_TOKEN": token,
	} {
		if value == "" {
			return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %s is not set", name),
				"run it as a command of a Buildkite job; in a container pass these variables on (`propagate-environment: true`)")
		}
	}
	base, err := checkedURL("BUILDKITE_AGENT_ENDPOINT", endpoint)
	if err != nil {
		return secret.Value{}, err
	}
	if !headerText(token) {
		return secret.Value{}, badHeader("BUILDKITE_AGENT_ACCESS_TOKEN")
	}
	return ask(ctx, env.HTTP, request{
		what: "Buildkite", method: http.MethodPost, address: base + "/jobs/" + url.PathEscape(job) + "/oidc/tokens",
		header: http.Header{"Authorization": {"Token " + token}, "Accept": {"application/json"}}, field: "token",
		body:    map[string]any{"audience": audience, "claims": buildkiteClaims},
		refused: "the job has ended, or its access token is not the agent's",
	})
}

// fromAzurePipelines asks for the pipeline's own token; no service connection is involved.
// (Azure DevOps REST API 7.1: Oidctoken, Create)
func fromAzurePipelines(ctx context.Context, env Env, _ string) (secret.Value, error) {
	address, token := env.Getenv("SYSTEM_OIDCREQUESTURI"), env.Getenv("SYSTEM_ACCESSTOKEN")
	switch {
	case address == "":
		return secret.Value{}, fault.New(fault.NoIdentity, errors.New("request ID token: SYSTEM_OIDCREQUESTURI is not set"),
			"run it as a step of an Azure Pipelines job, on an agent of version 3.220 or later")
	case token == "":
		return secret.Value{}, fault.New(fault.NoIdentity, errors.New("request ID token: SYSTEM_ACCESSTOKEN is not set"),
			"add it to the step: `env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}`")
	case !headerText(token):
		return secret.Value{}, badHeader("SYSTEM_ACCESSTOKEN")
	}
	base, err := checkedURL("SYSTEM_OIDCREQUESTURI", address)
	if err != nil {
		return secret.Value{}, err
	}
	return ask(ctx, env.HTTP, request{
		what: "Azure Pipelines", method: http.MethodPost, address: base + "?api-version=7.1", field: "oidcToken", body: struct{}{},
		header: http.Header{"Authorization": {"Bearer " + token}, "Accept": {"application/json"},
			"X-TFS-FedAuthRedirect": {"Suppress"}}, // else a refusal is a redirect to a page for signing in
		refused: "the job's access token is not accepted: see the pipeline's settings for `Limit job authorization scope`",
	})
}

// fromClaudeCode takes the token of a session in a self-hosted environment, which has a prefix.
func fromClaudeCode(_ context.Context, env Env, _ string) (secret.Value, error) {
	const name = "CLAUDE_CODE_SESSION_ACCESS_TOKEN"
	text := env.Getenv(name)
	if text == "" {
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %s is not set", name),
			"only sessions in self-hosted environments have it")
	}
	return tokenOf(strings.TrimPrefix(text, "sk-ant-cc-"), name)
}

// fromCursor asks the machine of a Cursor Cloud Agent.
func fromCursor(ctx context.Context, env Env, audience string) (secret.Value, error) {
	return overSocket(ctx, env, "cursor", audience)
}

// A socket is how a machine's own service hands out tokens.
type socket struct {
	variable, path string // the variable that names the socket, "" for none, and its usual place
	field          string // of the reply that holds the token; "" where the reply is the token
}

var sockets = map[string]socket{
	"cursor": {"CURSOR_AGENT_SOCKET", "/run/cursor/api.sock", "token"},
	"fly":    {"", "/.fly/api", ""},
}

// overSocket asks for a token over a Unix socket, with HTTP.
func overSocket(ctx context.Context, env Env, name, audience string) (secret.Value, error) {
	return sockets[name].ask(ctx, env, audience)
}

func (s socket) ask(ctx context.Context, env Env, audience string) (secret.Value, error) {
	path := s.path
	if s.variable != "" && env.Getenv(s.variable) != "" {
		path = env.Getenv(s.variable)
	}
	var dialer net.Dialer
	client := nearby(&http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) },
		ResponseHeaderTimeout: commandLimit,
	})
	return ask(ctx, client, request{
		what: "the socket " + path, method: http.MethodPost, address: "http://localhost/v1/tokens/oidc",
		header: http.Header{"Accept": {"application/json"}}, body: map[string]string{"aud": audience}, field: s.field,
		refused: "the machine does not hand out a token to this process",
	})
}

// fromGoogle asks the metadata server, whose address is link-local, for the
// identity token of the machine's service account. (Google Cloud: Verifying VM identity)
func fromGoogle(ctx context.Context, env Env, audience string) (secret.Value, error) {
	host := env.Getenv("GCE_METADATA_HOST") // as Google's own clients take it
	if host == "" {
		host = "metadata.google.internal"
	}
	query := url.Values{"audience": {audience}, "format": {"full"}}
	return ask(ctx, nearby(&http.Transport{}), request{
		what: "the metadata server", method: http.MethodGet,
		address: "http://" + host + "/computeMetadata/v1/instance/service-accounts/default/identity?" + query.Encode(),
		header:  http.Header{"Metadata-Flavor": {"Google"}},
		refused: "the machine has no service account, or may not use it",
	})
}

// nearby returns a client for a service of this machine or its link, which web's
// refuses since it has no TLS: no proxy and no redirect leads elsewhere, and a
// reply ends after maxToken bytes, with an error.
func nearby(transport *http.Transport) *http.Client {
	transport.Proxy, transport.DisableKeepAlives = nil, true
	return &http.Client{
		Transport:     limited{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirected") },
	}
}

type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxToken)
	return resp, nil
}

// checkedURL returns an address without its query, to which a token may be sent.
func checkedURL(name, address string) (string, error) {
	base, _, _ := strings.Cut(address, "?")
	if _, err := web.CheckURL(base); err != nil {
		return "", fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %s: %w", name, err), "")
	}
	return strings.TrimSuffix(base, "/"), nil
}

func headerText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

func badHeader(name string) error {
	return fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %s contains characters that an HTTP header cannot carry", name), "")
}
