package provider_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A policyCase is a provider's block, in one line, with a warehouse.
type policyCase struct {
	name, block string
	place       credential.Warehouse
	err         string // what parsing says, or else what Check does
}

// checkPolicies parses a policy with each block, and checks it for the warehouse.
func checkPolicies(t *testing.T, name string, cases []policyCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source := fmt.Sprintf("version: 1\ntargets:\n  prod:\n    dbt: {from: profiles.yml}\n    exchange:\n      %s: {%s}\n"+
				"    allow:\n      - {repository: acme/analytics, repository_id: \"1\", environment: production}\n", name, tt.block)
			p, err := policy.Parse("policy", []byte(source), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
			if err == nil {
				target, terr := p.Target("prod")
				if terr != nil {
					t.Fatal(terr)
				}
				err = provider.Check(name, target.Exchange(), tt.place)
			}
			got := ""
			if err != nil {
				got = messages(err.Error())
				if class := fault.ClassOf(err); class != fault.Usage {
					t.Errorf("class is %s, want %s", class, fault.Usage)
				}
			}
			if got != tt.err {
				t.Errorf("error is\n%s\nwant\n%s", got, tt.err)
			}
		})
	}
}

// place is where in the policy a fault is.
var place = regexp.MustCompile(`^policy:[0-9]+:[0-9]+: `)

// messages leaves out the places, and the lines of the policy below each error.
func messages(text string) string {
	var list []string
	for line := range strings.Lines(text) {
		if at := place.FindString(line); at != "" || strings.HasPrefix(line, "provider ") {
			list = append(list, strings.TrimSuffix(line[len(at):], "\n"))
		}
	}
	return strings.Join(list, "\n")
}

// A scopeCase is a block of provider entra, and the scope that it asks for.
type scopeCase struct{ block, dbtType, want string }

func checkScopes(t *testing.T, cases []scopeCase) {
	t.Helper()
	issuer, verifier := startIssuer(t)
	for _, tt := range cases {
		f := fixture{target: "dbt: {from: profiles.yml}\n    exchange:\n      entra: {" + tt.block + "}", place: typed(tt.dbtType, "entra", credential.Warehouse{}), hops: []hop{entraToken}}
		res := f.authorize(t, issuer, verifier).good(t)
		if res.err != nil {
			t.Fatal(res.err)
		}
		form, err := url.ParseQuery(res.requests[0].body)
		if err != nil {
			t.Fatal(err)
		}
		if got := form["scope"]; len(got) != 1 || got[0] != tt.want {
			t.Errorf("{%s} for %s: scope is %q, want %q", tt.block, tt.dbtType, got, tt.want)
		}
	}
}

// reply is a transport that answers every request alike.
type reply struct {
	status int
	body   string
}

func (r reply) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: r.status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(r.body)), ContentLength: -1, Request: req,
	}, nil
}

// FuzzTokenReply: whatever an authorization server replies, a credential is
// usable and expires, and an error has a class and contains no secret.
func FuzzTokenReply(f *testing.F) {
	for _, h := range []hop{tokenEndpoint, exchanged, entraString} {
		f.Add(200, h.reply)
		f.Add(400, h.refusal)
	}
	f.Add(200, `{"access_token":"a","token_type":"Bearer","expires_in":1e3}`)
	f.Add(200, `{"access_token":"a","token_type":"Bearer","expires_in":"\u0031"}`)
	f.Add(400, `{"error":{"error":"x"},"error_description":["y"]}`)
	f.Add(400, `{"errorCode":"x","errorSummary":"`+strings.Repeat("é", 500)+`"}`)
	issuer, verifier := startIssuer(f)
	var runs []run // one, made when it is needed
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 499 || status == http.StatusTooManyRequests {
			return // tried again, with pauses
		}
		if runs == nil {
			runs = []run{tokenExchange[0].authorize(t, issuer, verifier)}
		}
		r := runs[0]
		c, err := provider.Exchange(t.Context(), exchange.Env{HTTP: web.NewClient(reply{status, body}), Now: func() time.Time { return start }}, r.grant, r.warehouse, r.idToken)
		if err == nil {
			token := c.Token.Reveal()
			if status != http.StatusOK || token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) || !c.Expiry.After(start) || c.Expiry.After(start.AddDate(2, 0, 0)) {
				t.Errorf("status %d, %q: it gives %q until %s", status, body, token, c.Expiry)
			}
			return
		}
		if class := fault.ClassOf(err); class != fault.Refused && class != fault.Unreachable || class == fault.Refused && status == http.StatusOK {
			t.Errorf("status %d, %q: class is %s", status, body, class)
		}
		if part := leaked(err.Error()+fault.Hint(err), []string{r.idToken.Reveal()}); part != "" {
			t.Errorf("status %d, %q: %q of the ID token is in %q", status, body, part, err)
		}
	})
}
