package job

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// fleet is how many jobs begin in the same second, as those of a cron line do
// that many repositories have.
const fleet = 2000

// A quota is what a service admits of all that ask it: each further request is refused.
type quota struct {
	// rate is for a bucket that holds a second's requests and fills steadily;
	// 0 for one that is filled once a minute, at the full minute.
	rate   int
	minute int
	down   time.Duration // from the start on, it admits none
	// refuse writes the service's refusal.
	refuse func(w http.ResponseWriter)
	asks   time.Duration // what the refusal asks to wait, 0 for nothing
}

// A counter keeps a quota, and what came.
type counter struct {
	quota

	begin time.Time
	left  float64
	last  time.Time
	log   []arrival
}

type arrival struct {
	at       time.Duration // since the start
	job      string
	admitted bool
}

func (c *counter) admit(job string, now time.Time) bool {
	full := float64(c.minute)
	if c.rate > 0 {
		full = float64(c.rate)
	}
	switch {
	case c.last.IsZero(), c.rate == 0 && !now.Truncate(time.Minute).Equal(c.last.Truncate(time.Minute)):
		c.left = full
	case c.rate > 0:
		c.left = min(full, c.left+now.Sub(c.last).Seconds()*full)
	}
	c.last = now
	ok := c.left >= 1 && now.Sub(c.begin) >= c.down
	if ok {
		c.left--
	}
	c.log = append(c.log, arrival{now.Sub(c.begin), job, ok})
	return ok
}

// services are all servers that the fleet meets: each request takes 20 to 80 ms.
type services struct {
	handlers map[string]func(w http.ResponseWriter, r *http.Request) // by host
	quotas   map[string]*counter
	mu       sync.Mutex
}

type jobKey struct{}

func (s *services) RoundTrip(req *http.Request) (*http.Response, error) {
	delay := time.Duration(20+mathrand.IntN(60)) * time.Millisecond
	time.Sleep(delay / 2)
	job, _ := req.Context().Value(jobKey{}).(string)
	w := httptest.NewRecorder()
	s.mu.Lock()
	c := s.quotas[req.URL.Host]
	ok := c == nil || c.admit(job, time.Now())
	s.mu.Unlock()
	switch handler := s.handlers[req.URL.Host]; {
	case handler == nil:
		return nil, fmt.Errorf("nobody is at %s", req.URL.Host)
	case !ok:
		c.refuse(w)
	default:
		handler(w, req)
	}
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	time.Sleep(delay / 2)
	return w.Result(), nil
}

const (
	runnerHost = "pipelines.actions.githubusercontent.com"
	issuerHost = "token.actions.githubusercontent.com"
	awsHost    = "sts.eu-central-1.amazonaws.com"
	googleHost = "sts.googleapis.com"
	iamHost    = "iamcredentials.googleapis.com"
	entraHost  = "login.microsoftonline.com"
)

// newServices returns servers that hand out good replies: the checks of tokens
// are other tests'.
func newServices(t *testing.T, quotas map[string]quota) *services {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	says := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		}
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	inAnHour := func() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }
	s := &services{quotas: map[string]*counter{}, handlers: map[string]func(http.ResponseWriter, *http.Request){
		issuerHost: says(string(keys)),
		runnerHost: func(w http.ResponseWriter, r *http.Request) {
			claims := standin.GitHubClaims()
			maps.Copy(claims, map[string]any{"iss": "https://" + issuerHost, "aud": r.URL.Query().Get("audience"), "jti": rand.Text(),
				"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()})
			text, err := json.Marshal(claims)
			if err != nil {
				panic(err)
			}
			signed, err := signer.Sign(text)
			if err != nil {
				panic(err)
			}
			token, err := signed.CompactSerialize()
			if err != nil {
				panic(err)
			}
			says(`{"value":"`+token+`"}`)(w, r)
		},
		awsHost: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/xml")
			fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>`+
				`<Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials>`+
				`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, inAnHour())
		},
		googleHost: says(`{"access_token":"federated","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3600}`),
		iamHost: func(w http.ResponseWriter, r *http.Request) {
			says(`{"accessToken":"access","expireTime":"`+inAnHour()+`"}`)(w, r)
		},
		entraHost: says(`{"token_type":"Bearer","expires_in":3600,"access_token":"access"}`),
	}}
	for host, q := range quotas {
		s.quotas[host] = &counter{quota: q, begin: time.Now()}
	}
	return s
}

// refusal writes a refusal as the services do.
func refusal(status int, header, mediaType, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if name, value, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var (
	// AWS STS API Reference, Common Errors; AWS General Reference, "Request limits".
	awsThrottles = refusal(400, "", "text/xml", `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>`+
		`<Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
	googleThrottles = refusal(429, "", "application/json", `{"error":{"code":429,"message":"Quota exceeded for quota metric 'Token exchange requests'",`+
		`"status":"RESOURCE_EXHAUSTED"}}`)
	entraThrottles  = refusal(429, "Retry-After: 5", "application/json", `{"error":"temporarily_unavailable","error_description":"AADSTS90055: too many requests"}`)
	githubThrottles = refusal(429, "Retry-After: 1", "application/json", `{"message":"too many requests"}`)
	down            = refusal(503, "", "text/html", "<html>")
)

const (
	onAWS = `dbt: {type: duckdb, path: ":memory:", schema: marts}
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`
	onGoogle = `dbt: {type: bigquery, project: acme-dbt, dataset: marts}
    exchange: {gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh, service_account: dbt@acme-dbt.iam.gserviceaccount.com}}`
	onAzure = `dbt: {type: postgres, host: acme.postgres.database.azure.com, port: 5432, dbname: a, user: dbt, schema: marts, sslmode: verify-full, sslrootcert: system}
    exchange: {entra: {tenant: 11111111-2222-3333-4444-555555555555, client_id: 66666666-7777-8888-9999-000000000000}}`
)

// TestFleet: many jobs begin in the same second, and each of their services
// throttles: by its published quota where there is one (docs/scale.md has the
// sources), else by one that is far too small. Every job gets its credential in
// the time that it has, no refusal leads to another burst, and no job comes back
// sooner than it was told.
func TestFleet(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		target string
		jitter string // of the policy, "" for none
		quotas map[string]quota
		busy   string        // the host that throttles
		most   time.Duration // until the last job has its credential
		each   float64       // requests of a job to that host, at most, on average
	}{
		{"STS of AWS, 600 a second", onAWS, "", map[string]quota{awsHost: {rate: 600, refuse: awsThrottles}}, awsHost, 10 * time.Second, 2},
		{"GitHub's token service, 200 a second, asks to wait", onAWS, "", map[string]quota{runnerHost: {rate: 200, refuse: githubThrottles, asks: time.Second},
			awsHost: {rate: 600, refuse: awsThrottles}}, runnerHost, 30 * time.Second, 5},
		{"the same with start_jitter", onAWS, "10s", map[string]quota{awsHost: {rate: 600, refuse: awsThrottles}}, awsHost, 11 * time.Second, 1},
		{"a sixth of that, since others have the rest", onAWS, "", map[string]quota{awsHost: {rate: 100, refuse: awsThrottles}}, awsHost, 50 * time.Second, 7},
		{"STS of AWS is down for half a minute", onAWS, "", map[string]quota{awsHost: {rate: 600, down: 30 * time.Second, refuse: down}}, awsHost, 48 * time.Second, 11},
		{"Google, 6,000 a minute", onGoogle, "", map[string]quota{googleHost: {minute: 6000, refuse: googleThrottles}, iamHost: {minute: 60000, refuse: googleThrottles}},
			googleHost, time.Second * 3, 1},
		{"Google, 1,000 left of the minute", onGoogle, "", map[string]quota{googleHost: {minute: 1000, refuse: googleThrottles}}, googleHost, 80 * time.Second, 9},
		{"Google, 6,000 a minute as 100 a second", onGoogle, "", map[string]quota{googleHost: {rate: 100, refuse: googleThrottles}}, googleHost, 50 * time.Second, 7},
		{"Entra ID, 100 a second, asks to wait", onAzure, "", map[string]quota{entraHost: {rate: 100, refuse: entraThrottles, asks: 5 * time.Second}}, entraHost, 60 * time.Second, 6},
	}
	if sampling.Share > 4 { // where each job takes ten times longer
		tests = tests[:2]
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newServices(t, tt.quotas)
				took, failures := s.run(t, tt.target, tt.jitter)
				for _, err := range failures[:min(len(failures), 3)] {
					t.Error(err)
				}
				if len(failures) > 0 || len(took) != fleet {
					t.Fatalf("%d jobs of %d have a credential", len(took), fleet)
				}
				slices.Sort(took)
				if last := took[fleet-1]; last > tt.most {
					t.Errorf("the last job has its credential after %s, want %s at most", last, tt.most)
				}
				c := s.quotas[tt.busy]
				if each := float64(len(c.log)) / fleet; each > tt.each {
					t.Errorf("a job has sent %.1f requests to %s on average, want %.1f at most", each, tt.busy, tt.each)
				}
				c.check(t)
				t.Logf("%d jobs in %s (half) %s (99 of 100) %s (all); requests to %s: %d\n%s", fleet, took[fleet/2].Round(10*time.Millisecond),
					took[fleet*99/100].Round(10*time.Millisecond), took[fleet-1].Round(10*time.Millisecond), tt.busy, len(c.log), c.histogram())
			})
		})
	}
}

// run lets all jobs begin in one second, and returns how long each took.
func (s *services) run(t *testing.T, target, jitter string) (took []time.Duration, failures []error) {
	t.Helper()
	top := "version: 1\n"
	if jitter != "" {
		top += "start_jitter: " + jitter + "\n"
	}
	p, err := policy.Parse("policy", []byte(top+"targets:\n  prod:\n    "+target+"\n    allow:\n      - {repository_id: \"487920697\", ref: refs/heads/main}\n"), Catalog())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range fleet {
		all.Go(func() {
			time.Sleep(time.Duration(mathrand.Float64() * float64(time.Second)))
			begin := time.Now()
			ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), jobKey{}, fmt.Sprint(i)), DefaultTimeout)
			defer cancel()
			err := s.authenticate(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("job %d, after %s: %w", i, time.Since(begin), err))
				return
			}
			took = append(took, time.Since(begin))
		})
	}
	all.Wait()
	return took, failures
}

// authenticate is what steps does of a job's way to its credential, over a
// client in memory: token request, keys, verification, decision, exchange.
func (s *services) authenticate(ctx context.Context, p *policy.Policy) error {
	client := web.NewClient(s)
	getenv := func(name string) string {
		return map[string]string{
			"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://" + runnerHost + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "r",
		}[name]
	}
	target, err := p.Target("prod")
	if err != nil {
		return err
	}
	r := runner.New(runner.Env{Getenv: getenv, Stdout: io.Discard, HTTP: client})
	src, err := source.Choose(source.Env{Getenv: getenv, HTTP: client, Now: time.Now, GitHub: r.IDToken}, target.Identities(), source.Choice{}, nil)
	if err != nil {
		return err
	}
	id := src.Identity()
	if err := (&attempt{source: src, jitter: p.StartJitter()}).wait(ctx); err != nil {
		return err
	}
	verifier := idtoken.NewVerifier(client, time.Now, idtoken.Issuer{URL: id.Issuer, JWKS: id.JWKS})
	verifier.Prefetch(ctx)
	token, err := src.Token(ctx, target.Audience())
	if err != nil {
		return err
	}
	claims, err := verifier.Verify(ctx, token, target.Audience())
	if err != nil {
		return err
	}
	grant, err := p.Authorize("prod", claims, time.Now())
	if err != nil {
		return err
	}
	dbt := grant.DBT()
	warehouse, err := adapter.Warehouse(dbt.Type, grant.Provider(), dbt.Block)
	if err != nil {
		return err
	}
	_, err = provider.Exchange(ctx, exchange.Env{HTTP: client, Now: time.Now}, grant, warehouse, token)
	return err
}

// check holds what came to the service to how clients should come back.
func (c *counter) check(t *testing.T) {
	t.Helper()
	perSecond := map[int]int{}
	refused := map[string]time.Duration{}
	for _, a := range c.log {
		perSecond[int(a.at/time.Second)]++
		if before, again := refused[a.job]; again && a.at-before < c.asks {
			t.Fatalf("job %s came back %s after it was asked to wait %s", a.job, a.at-before, c.asks)
		}
		if !a.admitted {
			refused[a.job] = a.at
		}
	}
	if !slices.ContainsFunc(c.log, func(a arrival) bool { return !a.admitted }) {
		return
	}
	first := perSecond[0] + perSecond[1] // the jobs begin in a second, and take a moment to get here
	for second, n := range perSecond {
		if second > 1 && n > first/2 {
			t.Errorf("in second %d there came %d requests, want half of the first burst (%d) at most", second, n, first)
		}
	}
	// Nor at a moment of a second: a tenth has no more than twice its share of
	// what comes in the seconds around it.
	tenths := map[int]int{}
	for _, a := range c.log {
		tenths[int(a.at/(100*time.Millisecond))]++
	}
	for tenth, n := range tenths {
		around := 0
		for i := tenth - 10; i <= tenth+10; i++ {
			around += tenths[i]
		}
		if tenth > 20 && n > 40 && n > around/5 {
			t.Errorf("in the tenth %d of a second there came %d requests of the %d around it", tenth, n, around)
		}
	}
}

// histogram shows the requests of each second: admitted, refused.
func (c *counter) histogram() string {
	var b strings.Builder
	admitted, refused, last := map[int]int{}, map[int]int{}, 0
	for _, a := range c.log {
		second := int(a.at / time.Second)
		if last = max(last, second); a.admitted {
			admitted[second]++
		} else {
			refused[second]++
		}
	}
	for second := range last + 1 {
		if n, m := admitted[second], refused[second]; n+m > 0 {
			fmt.Fprintf(&b, "%4d s %5d admitted %5d refused %s\n", second, n, m, strings.Repeat("+", n/25)+strings.Repeat("-", m/25))
		}
	}
	return b.String()
}
