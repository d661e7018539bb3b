package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A place is a collector or a bucket's gateway that says its replies one after
// the other, the last one again and again, and keeps what it took.
type place struct {
	*httptest.Server
	next http.Handler // what honest replies come from

	mu       sync.Mutex
	replies  []http.HandlerFunc
	requests int
	taken    []string // lines of records
	names    []string // of their objects
	bodies   []string // of the requests that had them
}

// startPlace starts one whose honest replies are next's; they are the only ones
// without any others.
func startPlace(t *testing.T, next http.Handler, replies ...http.HandlerFunc) *place {
	t.Helper()
	p := &place{next: next, replies: replies}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	t.Cleanup(p.CloseClientConnections)
	return p
}

// set changes the replies.
func (p *place) set(replies ...http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replies, p.requests = replies, 0
}

func (p *place) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	reply := p.honest
	if n := len(p.replies); n > 0 && p.replies[min(p.requests, n-1)] != nil {
		reply = p.replies[min(p.requests, n-1)]
	}
	p.requests++
	p.mu.Unlock()
	reply(w, r)
}

// honest passes a request on, and keeps what was taken.
func (p *place) honest(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	p.next.ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		p.mu.Lock()
		p.taken, p.names = append(p.taken, recordsIn(body)...), append(p.names, r.URL.Path)
		p.bodies = append(p.bodies, string(body))
		p.mu.Unlock()
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client may be gone
}

// lost passes a request on, and hangs up.
func (p *place) lost(_ http.ResponseWriter, r *http.Request) {
	p.honest(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// half passes a request on, and hangs up within its reply.
func (p *place) half(w http.ResponseWriter, r *http.Request) {
	p.honest(httptest.NewRecorder(), r)
	cut(w, r)
}

// lines returns the records that were taken, one a line, in any order.
func (p *place) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.taken))
}

// recordsIn returns the lines that a request of either kind holds.
func recordsIn(body []byte) (lines []string) {
	var otlp struct {
		ResourceLogs []struct {
			ScopeLogs []struct {
				LogRecords []struct {
					Body struct {
						Text string `json:"stringValue"`
					} `json:"body"`
				} `json:"logRecords"`
			} `json:"scopeLogs"`
		} `json:"resourceLogs"`
	}
	if json.Unmarshal(body, &otlp) == nil && len(otlp.ResourceLogs) == 1 {
		for _, r := range otlp.ResourceLogs[0].ScopeLogs[0].LogRecords {
			lines = append(lines, r.Body.Text)
		}
		return lines
	}
	return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
}

// answer replies with a status, headers as NAME: VALUE, and a body at last.
func answer(status int, headersAndBody ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		body := ""
		for _, text := range headersAndBody {
			if name, value, found := strings.Cut(text, ": "); found && !strings.ContainsAny(name, "<{") {
				w.Header().Set(name, value)
			} else {
				body = text
			}
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// cut hangs up within a reply.
func cut(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, `{"partialSuccess":`)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func silent(_ http.ResponseWriter, r *http.Request) { hang(r) }

func endless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	huge(w)
}

// nowhere is a port on which nothing listens: none that a test is given.
const nowhere = "http://127.0.0.1:1"

// acknowledged is a collector's reply to what it took.
var acknowledged = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "{}")
})

const shippedPolicy = `version: 1
identities:
  github: {issuer: $ISSUER, kind: github}
audit: $AUDIT
targets:
  prod:
    exchange: $EXCHANGE
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
  audit-log:
    exchange: {aws: {role: "` + auditRole + `", region: eu-central-1, endpoint: $AUDIT_STS}}
    allow: [{repository: acme/analytics, repository_id: "487920697"$WRITER}]
`

// What target prod of a shipping step gives: a lease, or a session that no one can end.
const (
	aLease   = `{vault: {address: $VAULT, role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}}`
	noEnd    = `{vault: {address: $VAULT, role: endless, audience: vault, secret: database/creds/dbt-prod}}`
	aSession = `{aws: {role: "` + prodRole + `", region: eu-central-1, endpoint: $STS}}`
)

// newShippingStep is a step of a job that is to ship its records; shippingPolicy
// writes its policy.
func newShippingStep(t *testing.T) *step {
	t.Helper()
	s := newStep(t)
	s.startSTS(standin.STSConfig{IssuerURL: s.issuer.URL(), Roles: map[string]standin.Role{
		prodRole: {Audience: "sts.amazonaws.com"}, auditRole: {Audience: "sts.amazonaws.com"},
	}})
	s.env["INPUT_TARGET"] = "prod"
	s.env["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=Bearer%20key-of-the-collector"
	return s
}

// shippingPolicy writes the policy: audit is its block, exchange what target
// prod gives, writer what the rule of the bucket's target has in addition to the
// repository, sts where that gets its credential.
func (s *step) shippingPolicy(audit, exchange, writer, sts string) {
	s.t.Helper()
	s.write(policyFile, strings.NewReplacer("$AUDIT_STS", sts, "$AUDIT", audit, "$EXCHANGE", exchange, "$WRITER", writer).Replace(shippedPolicy))
}

// startBucket starts the gateway of a store that verifies each signature.
func (s *step) startBucket(replies ...http.HandlerFunc) *place {
	s.t.Helper()
	store, err := standin.StartStore(s.sts, "acme-audit")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	to, err := url.Parse(store.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	return startPlace(s.t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which is signed
	}}, replies...)
}

// steady puts words in place of what differs from run to run.
var steady = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d`), "DAY"},
	{regexp.MustCompile(`[A-Z2-7]{26}`), "ID"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "LOOPBACK"},
	{regexp.MustCompile(`not done within [0-9.]+s: (dial|the )`), "$1"}, // whether the last try or the time ends first
}

// spoken returns the lines of what was printed, apart from masks.
func spoken(text string) (lines []string) {
	for _, u := range steady {
		text = u.pattern.ReplaceAllString(text, u.with)
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "::add-mask::") {
			lines = append(lines, line)
		}
	}
	return lines
}

const requires = "%0Ahint: the policy requires it (audit.require): no credential is handed on without its records"

// A fate is what becomes of a record at a place that has a fault.
type fate struct {
	name   string
	reason string // "" where it arrives all the same; with %0A and its hint
	after  string // of the outcome, where it differs from the decision's
	tries  int    // of both records; 0 for any number
}

// checkFate runs the step, whose places have a fault, and holds it to what the
// policy says of them: required or not.
func (s *step) checkFate(f fate, name string, required bool, p *place) {
	s.t.Helper()
	r := s.here()
	reasons := []string{}
	for _, text := range []string{f.reason, f.after} {
		if text != "" {
			reasons = append(reasons, "ship the audit record to "+name+": "+text)
		}
	}
	status, want, records, tokens := 0, []string{}, issued, 1
	switch {
	case required && len(reasons) > 0:
		status, records, tokens = 1, recordsOfLease, 0
		want = append(want, "::error::"+strings.Join(reasons, "%0A")+requires)
	default:
		for _, text := range reasons {
			want = append(want, "::warning::"+text)
		}
	}
	got := slices.DeleteFunc(spoken(r.stdout), func(line string) bool {
		return !strings.HasPrefix(line, "::error::") && !strings.HasPrefix(line, "::warning::ship ")
	})
	if r.status != status || !slices.Equal(got, want) {
		s.t.Errorf("status %d and\n%s\nwant %d and\n%s\n%s", r.status, strings.Join(got, "\n"), status, strings.Join(want, "\n"), r.stderr)
	}
	own := auditLines(strings.Join(ofTarget(s.audit(), "prod"), ""))
	if own != records || s.vault.Tokens() != tokens {
		s.t.Errorf("%d tokens are alive, want %d; the file has\n%s\nwant\n%s", s.vault.Tokens(), tokens, own, records)
	}
	output := s.file("commands/OUTPUT")
	if handed := strings.Contains(output, "password<<"); handed != (status == 0) {
		s.t.Errorf("a credential was handed on: %t\n%s", handed, output)
	}
	if p != nil {
		if f.tries > 0 && p.requests != f.tries {
			s.t.Errorf("%d requests, want %d", p.requests, f.tries)
		}
		if len(reasons) == 0 {
			s.checkTaken(p)
		}
	}
	if status != 0 {
		s.checkFolders()
	}
	secrets := append(s.secrets(), "key-of-the-collector")
	checkSecrets(s.t, map[string]string{"stdout": r.stdout, "stderr": r.stderr, "audit": s.audit(), "output": output,
		"summary": s.file("commands/STEP_SUMMARY"), "state": s.file("commands/STATE")}, secrets...)
}

// checkTaken holds what a place took to the file's records of the run's target,
// apart from the lease's end.
func (s *step) checkTaken(p *place) {
	s.t.Helper()
	want := slices.DeleteFunc(ofTarget(s.audit(), "prod"), func(line string) bool { return strings.Contains(line, `"Logoff"`) })
	for i := range want {
		want[i] = strings.TrimSuffix(want[i], "\n")
	}
	slices.Sort(want)
	if got := p.lines(); !slices.Equal(slices.Compact(got), want) {
		s.t.Errorf("the place took\n%s\nthe file has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// ofTarget returns the records for a target.
func ofTarget(log, target string) (lines []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, fmt.Sprintf(`"target":%q`, target)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestCollectorFaults: a warning where the record is not required, else the end
// of the run and of its lease.
func TestCollectorFaults(t *testing.T) {
	t.Parallel()
	const elsewhere = "%0Ahint: another server, such as a proxy, may be answering at this address: check the address"
	for _, tt := range []struct {
		fate
		replies []http.HandlerFunc // nil is an honest one
	}{
		{fate{name: "down", reason: "dial tcp LOOPBACK: connect: connection refused"}, nil},
		{fate{name: "accepts and never replies", reason: "not done within 1.5s: no reply in time"}, []http.HandlerFunc{silent}},
		{fate{name: "slow once", tries: 3}, []http.HandlerFunc{answer(429, "Retry-After: 1"), nil}},
		{fate{name: "429 for ever", tries: 2, reason: "the collector replied with status 429; it asks to wait 1m, longer than the time left"},
			[]http.HandlerFunc{answer(429, "Retry-After: 60")}},
		{fate{name: "503, then well", tries: 4}, []http.HandlerFunc{answer(503), answer(503), nil}},
		{fate{name: "503 for ever", reason: "the collector replied with status 503"}, []http.HandlerFunc{answer(503)}},
		{fate{name: "half a reply", reason: "the server closed the connection"}, []http.HandlerFunc{cut}},
		{fate{name: "no reply, then well", tries: 3}, []http.HandlerFunc{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil}},
		{fate{name: "rejected", tries: 2, reason: `the collector rejected it: "too old:…"`},
			[]http.HandlerFunc{answer(200, `{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old: key-of-the-collector"}}`)}},
		{fate{name: "a redirect", tries: 2, reason: `redirected to host "evil.example", redirects are not followed` + elsewhere},
			[]http.HandlerFunc{answer(307, "Location: https://evil.example/v1/logs")}},
		{fate{name: "a huge reply", tries: 2, reason: "reply is larger than 1048576 bytes" + elsewhere}, []http.HandlerFunc{endless}},
		{fate{name: "no login", tries: 2, reason: "the collector replied with status 401"}, []http.HandlerFunc{answer(401, "<html>key-of-the-collector</html>")}},
	} {
		for _, required := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, required: %t", tt.name, required), func(t *testing.T) {
				t.Parallel()
				s := newShippingStep(t)
				s.env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1500"
				p, address := startPlace(t, acknowledged, tt.replies...), ""
				if address = p.URL; tt.replies == nil {
					address = nowhere
				}
				if len(tt.replies) > 1 {
					delete(s.env, "OTEL_EXPORTER_OTLP_TIMEOUT") // a slow machine may need what there is
				}
				audit := "{otlp: {endpoint: " + address + "}}"
				if required {
					audit = "{otlp: {endpoint: " + address + "}, require: otlp}"
				}
				s.shippingPolicy(audit, aLease, "", "$STS")
				s.checkFate(tt.fate, "otlp", required, p)
			})
		}
	}
}

// TestCollectorOfAnUnknownAuthority is not sent anything, and it is said how to add that.
func TestCollectorOfAnUnknownAuthority(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		collector := httptest.NewUnstartedServer(acknowledged)
		collector.Config.ErrorLog = log.New(io.Discard, "", 0)
		collector.StartTLS()
		t.Cleanup(collector.Close)
		s := newShippingStep(t)
		audit := "{otlp: {endpoint: " + collector.URL + "}}"
		if required {
			audit = "{otlp: {endpoint: " + collector.URL + "}, require: [otlp]}"
		}
		s.shippingPolicy(audit, aLease, "", "$STS")
		s.checkFate(fate{reason: "tls: failed to verify certificate: x509: certificate signed by unknown authority%0Ahint: set NODE_EXTRA_CA_CERTS " +
			"to a file with the authority's certificate, to add it to the system's, or SSL_CERT_FILE, to replace them"}, "otlp", required, nil)
	}
}

func s3Error(status int, code string) http.HandlerFunc {
	return answer(status, "Content-Type: application/xml", "<Error><Code>"+code+"</Code><Message>m</Message></Error>")
}

// TestBucketFaults, as those of a collector.
func TestBucketFaults(t *testing.T) {
	t.Parallel()
	const there = `the object "oidc-dbt/date=DAY/ID-%s.json" is there already: a record is never overwritten`
	const region = "%0Ahint: the bucket is in another region: the `region` of target \"audit-log\" is the bucket's"
	for _, tt := range []struct {
		fate
		replies []http.HandlerFunc
	}{
		{fate{name: "takes both", tries: 2}, []http.HandlerFunc{nil}},
		{fate{name: "down", reason: "dial tcp LOOPBACK: connect: connection refused"}, nil},
		{fate{name: "refuses", tries: 2, reason: `the credential of target "audit-log" may not write "oidc-dbt/*" in bucket "acme-audit": status 403: "AccessDenied"`},
			[]http.HandlerFunc{s3Error(403, "AccessDenied")}},
		{fate{name: "there already", tries: 2, reason: fmt.Sprintf(there, "decision"), after: fmt.Sprintf(there, "outcome")},
			[]http.HandlerFunc{s3Error(412, "PreconditionFailed")}},
		{fate{name: "busy, then well", tries: 3}, []http.HandlerFunc{s3Error(503, "SlowDown"), nil}},
		{fate{name: "in another region", tries: 2, reason: `the bucket replied with status 301: "PermanentRedirect"` + region},
			[]http.HandlerFunc{s3Error(301, "PermanentRedirect")}},
		{fate{name: "signed for another region", tries: 2, reason: `the bucket replied with status 400: "AuthorizationHeaderMalformed"` + region},
			[]http.HandlerFunc{s3Error(400, "AuthorizationHeaderMalformed")}},
		{fate{name: "a redirect", tries: 2, reason: `redirected to host "evil.example", redirects are not followed%0Ahint: ` +
			"another server, such as a proxy, may be answering at this address: check the address"},
			[]http.HandlerFunc{answer(307, "Location: https://evil.example/x")}},
		{fate{name: "is missing", tries: 2, reason: `the bucket replied with status 404: "NoSuchBucket"`}, []http.HandlerFunc{s3Error(404, "NoSuchBucket")}},
		{fate{name: "accepts and never replies", reason: "not done within LIMIT: no reply in time"}, []http.HandlerFunc{silent}},
	} {
		for _, required := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, required: %t", tt.name, required), func(t *testing.T) {
				t.Parallel()
				s := newShippingStep(t)
				p, address := s.startBucket(tt.replies...), ""
				if address = p.URL; tt.replies == nil {
					address = nowhere
				}
				s.shippingPolicy(bucketAt(address, required), aLease, "", "$STS")
				f := tt.fate
				f.reason = strings.Replace(f.reason, "LIMIT", map[bool]string{false: "5s", true: "30s"}[required], 1)
				s.checkFate(f, "bucket", required, p)
			})
		}
	}
}

// bucketAt is the policy's block of a bucket at an endpoint.
func bucketAt(address string, required bool) string {
	block := `{bucket: {target: audit-log, url: "s3://acme-audit/oidc-dbt/", endpoint: ` + address + `}`
	if required {
		block += ", require: [bucket]"
	}
	return block + "}"
}

// TestBucketsReplyIsLost: the object is there by the time of the next try, and
// counts as this record.
func TestBucketsReplyIsLost(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"lost", "half"} {
		s := newShippingStep(t)
		p := s.startBucket()
		p.set(map[string]http.HandlerFunc{"lost": p.lost, "half": p.half}[name], nil)
		s.shippingPolicy(bucketAt(p.URL, true), aLease, "", "$STS")
		s.checkFate(fate{tries: 3}, "bucket", true, p)
		if n := len(p.lines()); n != 2 {
			t.Errorf("%s: %d objects were written, want 2", name, n)
		}
	}
}

// TestBucketsCredential: the target's rules do not admit the run, or its
// provider is down.
func TestBucketsCredential(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprintf("required: %t", required), func(t *testing.T) {
			t.Parallel()
			s := newShippingStep(t)
			p := s.startBucket()
			s.shippingPolicy(bucketAt(p.URL, required), aLease, ", environment: audit", "$STS")
			s.checkFate(fate{reason: `target "audit-log": denied by policy: no rule of target "audit-log" matches ` +
				`"repo:acme/analytics:environment:production"%0A  rule 1 (line 11):%0A    environment: got "production", want "audit"`}, "bucket", required, nil)
			if p.requests != 0 {
				t.Errorf("the bucket got %d requests, want none", p.requests)
			}
			if own, want := strings.Join(ofTarget(s.audit(), "audit-log"), ""), "Preauth Failure audit-log denied "; strings.Count(own, "\n") != 1 || !strings.HasPrefix(auditLines(own), want) {
				t.Errorf("the file has of the bucket's target\n%s\nwant one record, %s", auditLines(own), want)
			}
		})
		t.Run(fmt.Sprintf("the provider refuses, required: %t", required), func(t *testing.T) {
			t.Parallel()
			s := newShippingStep(t)
			p := s.startBucket()
			s.shippingPolicy(bucketAt(p.URL, required), aLease, "", s.address("$BAD")+"/403")
			s.checkFate(fate{reason: `target "audit-log": exchange ID token with "aws": STS replied with status 403%0Ahint: ` +
				"another server, such as a proxy, may be answering at this address instead of STS: check the endpoint"}, "bucket", required, nil)
		})
	}
}

// TestWithheldCredential: what cannot be ended is said to go on.
func TestWithheldCredential(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, exchange, says, records string }{
		{"a session", aSession, "the credential was issued, and cannot be revoked: it is valid until TIME", issued},
		{"a lease whose role may not end it", noEnd, `revoke the lease: refused: "1 error occurred: * permission denied"`, recordsOfNoEnd},
	} {
		s := newShippingStep(t)
		p := startPlace(t, acknowledged, answer(401))
		s.shippingPolicy("{otlp: {endpoint: "+p.URL+"}, require: otlp}", tt.exchange, "", "$STS")
		r := s.here()
		said := spoken(r.stdout)
		want := "::error::ship the audit record to otlp: the collector replied with status 401%0A" + tt.says + requires
		if last := said[len(said)-1]; r.status != 1 || last != want {
			t.Errorf("%s: status %d and\n%s\nwant 1 and\n%s", tt.name, r.status, last, want)
		}
		s.checkAudit(tt.records)
		if output := s.file("commands/OUTPUT"); strings.Contains(output, "<<") && strings.Contains(output, "token") {
			t.Errorf("%s: it hands on\n%s", tt.name, output)
		}
		s.checkFolders()
	}
}

// TestExecStartsNothing without the records that the policy requires; where they
// are not required it warns, and starts.
func TestExecStartsNothing(t *testing.T) {
	t.Parallel()
	const failed = "ship the audit record to otlp: the collector replied with status 401"
	for _, required := range []bool{false, true} {
		s := newShippingStep(t)
		p := startPlace(t, acknowledged, answer(401))
		audit, status, says, records := "{otlp: {endpoint: "+p.URL+"}}", 0, "oidc-dbt: warning: "+failed+"\n", recordsOfLease
		if required {
			audit, status = "{otlp: {endpoint: "+p.URL+"}, require: otlp}", 1
			says = failed + "\nhint: the policy requires it (audit.require): no credential is handed on without its records\n"
		}
		s.shippingPolicy(audit, aLease, "", "$STS")
		r := s.here("exec", "--target", "prod", "--", "touch", s.at("ran"))
		_, err := os.Stat(s.at("ran"))
		if ran := err == nil; r.status != status || ran == required || !strings.Contains(r.stderr, says) {
			t.Errorf("required: %t: status %d, it ran: %t, it says\n%s\nwant %d and %s", required, r.status, ran, r.stderr, status, says)
		}
		s.checkLease(0, records)
	}
}
