package source

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// An awsMachine is a container's endpoint, an instance's metadata service in its
// second version, and STS, which are told apart by their paths.
func awsMachine(t *testing.T) *httptest.Server {
	t.Helper()
	const keys = `{"AccessKeyId": "ASIAMACHINE", "SecretAccessKey": "machine-secret", "Token": "machine-session"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const roles = "/latest/meta-data/iam/security-credentials/"
		switch {
		case r.URL.Path == "/container" && r.Header.Get("Authorization") == "container-bearer":
			fmt.Fprint(w, keys)
		case r.URL.Path == "/empty":
			fmt.Fprint(w, "{}")
		case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut && r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "":
			fmt.Fprint(w, "imds-session")
		case r.URL.Path == roles && r.Header.Get("X-Aws-Ec2-Metadata-Token") == "imds-session":
			fmt.Fprint(w, "dbt-role\n")
		case r.URL.Path == roles+"dbt-role" && r.Header.Get("X-Aws-Ec2-Metadata-Token") == "imds-session":
			fmt.Fprint(w, keys)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// An stsTransport answers for STS as GetWebIdentityToken does, and for nothing else.
type stsTransport struct{ t *testing.T }

func (s stsTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	reply := func(status int, text string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/xml"}},
			Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
	}
	if r.URL.Host != "sts.eu-central-1.amazonaws.com" || form.Get("Action") != "GetWebIdentityToken" || form.Get("SigningAlgorithm") != "RS256" ||
		form.Get("DurationSeconds") != "300" {
		s.t.Errorf("STS is asked at %s: %s", r.URL.Host, body)
	}
	if form.Get("Audience.member.1") == "down" {
		return reply(http.StatusServiceUnavailable, `<ErrorResponse><Error><Code>ServiceUnavailable</Code><Message>try later</Message></Error></ErrorResponse>`)
	}
	if !strings.Contains(r.Header.Get("Authorization"), "Credential=ASIA") || form.Get("Audience.member.1") != "acme" {
		return reply(http.StatusForbidden, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: `+
			`sts:GetWebIdentityToken</Message></Error></ErrorResponse>`)
	}
	return reply(http.StatusOK, `<GetWebIdentityTokenResponse><GetWebIdentityTokenResult><WebIdentityToken>`+token+
		`</WebIdentityToken></GetWebIdentityTokenResult></GetWebIdentityTokenResponse>`)
}

// TestAWS: a workload's keys are where its environment says, and STS signs a token for them.
func TestAWS(t *testing.T) {
	t.Parallel()
	machine := awsMachine(t)
	bearer := filepath.Join(t.TempDir(), "bearer")
	if err := os.WriteFile(bearer, []byte("container-bearer\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	region := map[string]string{"AWS_REGION": "eu-central-1"}
	container := with(with(region, "AWS_CONTAINER_CREDENTIALS_FULL_URI", machine.URL+"/container"), "AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-bearer")
	keys := with(with(with(region, "AWS_ACCESS_KEY_ID", "ASIALAMBDA"), "AWS_SECRET_ACCESS_KEY", "lambda-secret"), "AWS_SESSION_TOKEN", "lambda-session")
	for _, tt := range []struct {
		name           string
		vars           map[string]string
		audience, want string
	}{
		{"variables", keys, "acme", token},
		{"a container's endpoint", container, "acme", token},
		{"a container's endpoint, with a file", with(with(container, "AWS_CONTAINER_AUTHORIZATION_TOKEN", ""), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", bearer),
			"acme", token},
		{"an instance", with(region, "AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL), "acme", token},
		{"another name of the region", with(with(keys, "AWS_REGION", ""), "AWS_DEFAULT_REGION", "eu-central-1"), "acme", token},
		{"no region", nil, "acme", "no_identity: request ID token of AWS: AWS_REGION is not set"},
		{"refused by STS", keys, "other", "no_identity: request ID token of AWS: \"AccessDenied\": \"not authorized to perform: sts:GetWebIdentityToken\""},
		{"refused by the container", with(container, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "stolen"), "acme",
			"no_identity: request ID token of AWS: get the role's keys: status is 401, want 200"},
		{"no keys", with(container, "AWS_CONTAINER_CREDENTIALS_FULL_URI", machine.URL+"/empty"), "acme",
			"unreachable: request ID token of AWS: the reply with the role's keys has none"},
		{"an endpoint elsewhere", with(container, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.evil.example/"), "acme",
			"no_identity: request ID token of AWS: AWS_CONTAINER_CREDENTIALS_FULL_URI: scheme is \"http\", want https (http is for loopback only)"},
		{"a relative address that is a host", with(region, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@keys.evil.example/"), "acme",
			"no_identity: request ID token of AWS: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /"},
		{"STS is down", keys, "down", "unreachable: request ID token of AWS: \"ServiceUnavailable\": \"try later\""},
		{"a bearer of two lines", with(container, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\nb"), "acme",
			"no_identity: request ID token: AWS_CONTAINER_AUTHORIZATION_TOKEN contains characters that an HTTP header cannot carry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := world(t, tt.vars)
			env.HTTP = web.NewClient(stsTransport{t})
			ctx, _ := web.WithBudget(t.Context(), 100*time.Millisecond) // for tries
			s, err := Choose(env, []policy.Identity{{Name: "a", Kind: "aws"}}, Choice{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got(s.Token(ctx, tt.audience)), tt.want)
		})
	}
}

// TestFly: a machine of Fly's gives the token itself, over its socket.
func TestFly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "api")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost || r.URL.Path != "/v1/tokens/oidc":
			w.WriteHeader(http.StatusNotFound)
		case string(body) == `{"aud":"acme"}`:
			fmt.Fprintln(w, token)
		case string(body) == `{"aud":"twice"}`:
			fmt.Fprint(w, token+" "+token)
		case string(body) == `{"aud":"much"}`:
			fmt.Fprint(w, strings.Repeat("x", maxToken+1))
		default:
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	ask := func(s socket, audience string) string {
		return strings.ReplaceAll(got(s.ask(t.Context(), world(t, nil), audience)), path, "$SOCKET")
	}
	fly := sockets["fly"]
	if fly.path != "/.fly/api" {
		t.Errorf("the socket is %s", fly.path)
	}
	fly.path = path
	compare(t, ask(fly, "acme"), token)
	compare(t, ask(fly, "other"), "unreachable: request ID token of the socket $SOCKET: status is 422, want 200")
	compare(t, ask(fly, "twice"), "no_identity: request ID token: the reply of the socket $SOCKET contains more than one token, or is none")
	compare(t, ask(fly, "much"), "unreachable: request ID token of the socket $SOCKET: the reply is larger than 65536 bytes")
}

// TestTokenFileIsSwapped: a kubelet replaces the token behind a link, and each
// token is read anew; a link that leads out meanwhile is refused.
func TestTokenFileIsSwapped(t *testing.T) {
	t.Parallel()
	folder, outside := t.TempDir(), filepath.Join(t.TempDir(), "stolen")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(to string) {
		next := filepath.Join(folder, "next")
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(folder, "token")); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(folder, "first"), token)
	write(filepath.Join(folder, "second"), token+"2")
	write(outside, token+"3")
	swap("first")
	path := filepath.Join(folder, "token")
	s, err := Choose(world(t, nil), []policy.Identity{{Name: "w", Kind: "workload", Source: policy.Source{File: path}}}, Choice{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got(s.Token(t.Context(), "acme")), token)
	swap("second")
	compare(t, got(s.Token(t.Context(), "acme")), token+"2")
	swap(outside)
	compare(t, got(s.Token(t.Context(), "acme")), fmt.Sprintf("no_identity: request ID token: read %q: it is a symbolic link that leads out of its folder", path))
}
