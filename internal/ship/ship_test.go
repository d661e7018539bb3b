package ship_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/ship"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func env() ship.Env {
	return ship.Env{HTTP: web.NewClient(web.NewTransport()), Now: func() time.Time { return noon }, Version: "1.2.3"}
}

func record() ship.Record {
	return ship.Record{Line: []byte(`{"a":1}`), Time: noon, ID: "RUN1", Part: "outcome", Class: 3002, Target: "prod", Subject: "repo:acme/analytics"}
}

// A reply is what a server says to one request; status 0 hangs up.
type reply struct {
	status int
	header map[string]string
	body   string
}

// server says its replies one after the other, the last one again and again.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func serve(t *testing.T, replies ...reply) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := io.Reader(req.Body)
		if req.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(req.Body)
		}
		text, _ := io.ReadAll(body)
		s.mu.Lock()
		n := min(len(s.requests), len(replies)-1)
		s.requests, s.bodies = append(s.requests, req), append(s.bodies, string(text))
		s.mu.Unlock()
		r := replies[n]
		if r.status == 0 {
			panic(http.ErrAbortHandler)
		}
		for name, value := range r.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(r.status)
		io.WriteString(w, r.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func variables(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestOTLP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		replies []reply
		tries   int
		want    string
	}{
		{"taken", []reply{{200, nil, "{}"}}, 1, ""},
		{"taken, an empty reply", []reply{{200, nil, ""}}, 1, ""},
		{"taken, nothing rejected", []reply{{200, nil, `{"partialSuccess":{"rejectedLogRecords":"0"}}`}}, 1, ""},
		{"rejected", []reply{{200, nil, `{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}`}}, 1,
			`the collector rejected it: "too old"`},
		{"rejected, as a number", []reply{{200, nil, `{"partialSuccess":{"rejectedLogRecords":1,"errorMessage":"x"}}`}}, 1,
			`the collector rejected it: "x"`},
		{"busy, then taken", []reply{{503, nil, ""}, {429, nil, ""}, {200, nil, "{}"}}, 3, ""},
		{"hangs up, then taken", []reply{{0, nil, ""}, {200, nil, "{}"}}, 2, ""},
		{"no login", []reply{{401, nil, `{"code":16,"message":"no such key: s3cret-of-the-collector"}`}}, 1,
			`the collector replied with status 401: "no such key: …"`},
		{"500 is not tried again", []reply{{500, nil, ""}}, 1, "the collector replied with status 500"},
		{"a web page", []reply{{404, nil, "<html>"}}, 1, "the collector replied with status 404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.replies...)
			p, _, err := ship.OTLP(env(), web.Network{}, variables("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret-of-the-collector, b=%20c"), s.URL)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Send(t.Context(), record().Alone())
			if got := text(err); got != tt.want || len(s.requests) != tt.tries {
				t.Errorf("%d tries and %q, want %d and %q", len(s.requests), got, tt.tries, tt.want)
			}
			if got := s.requests[0]; got.URL.Path != "/v1/logs" || got.Header.Get("X-Key") != "s3cret-of-the-collector" ||
				got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %s with %v", got.URL, got.Header)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

const request = `{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"oidc-dbt"}},` +
	`{"key":"service.version","value":{"stringValue":"1.2.3"}}]},"scopeLogs":[{"logRecords":[{"attributes":[` +
	`{"key":"event.name","value":{"stringValue":"oidc_dbt.audit"}},{"key":"oidc_dbt.correlation_uid","value":{"stringValue":"RUN1"}},` +
	`{"key":"oidc_dbt.part","value":{"stringValue":"outcome"}},{"key":"ocsf.class_uid","value":{"stringValue":"3002"}},` +
	`{"key":"oidc_dbt.target","value":{"stringValue":"prod"}},{"key":"enduser.id","value":{"stringValue":"repo:acme/analytics"}}],` +
	`"body":{"stringValue":"{\"a\":1}"},"observedTimeUnixNano":"1795780800000000000","severityNumber":9,"severityText":"INFO",` +
	`"timeUnixNano":"1795780800000000000"}],"scope":{"name":"oidc-dbt","version":"1.2.3"}}]}]}`

func TestOTLPRequest(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"", "gzip"} {
		s := serve(t, reply{200, nil, ""})
		p, _, err := ship.OTLP(env(), web.Network{}, variables("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", compression,
			"OTEL_EXPORTER_OTLP_ENDPOINT", "https://elsewhere.example", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://elsewhere.example"), s.URL+"/v1/logs")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Send(t.Context(), record().Alone()); err != nil {
			t.Error(err)
		}
		if got := s.bodies[0]; got != request {
			t.Errorf("%q: got\n%s, want\n%s", compression, got, request)
		}
		if got := s.requests[0].Header.Get("Content-Encoding"); got != compression {
			t.Errorf("content encoding %q, want %q", got, compression)
		}
	}
}

func TestOTLPVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ variable, value, want string }{
		{"PROTOCOL", "grpc", `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc": records are sent by http/json only`},
		{"HEADERS", "novalue", "OTEL_EXPORTER_OTLP_HEADERS: entry 1 has no name of a header"},
		{"HEADERS", "a=b,c d=e", "OTEL_EXPORTER_OTLP_HEADERS: entry 2 has no name of a header"},
		{"HEADERS", "a=%zz", `OTEL_EXPORTER_OTLP_HEADERS: the value of "a" is not percent-encoded`},
		{"HEADERS", "a=%0d%0aX-Evil: 1", `OTEL_EXPORTER_OTLP_HEADERS: the value of "a" is not percent-encoded`},
		{"HEADERS", "Host=evil.example", `OTEL_EXPORTER_OTLP_HEADERS: "Host" is not for a variable to set`},
		{"COMPRESSION", "zstd", `OTEL_EXPORTER_OTLP_COMPRESSION is "zstd", want gzip or none`},
		{"TIMEOUT", "10s", `OTEL_EXPORTER_OTLP_TIMEOUT is "10s", want milliseconds`},
		{"CERTIFICATE", "/nowhere/ca.pem", "OTEL_EXPORTER_OTLP_CERTIFICATE: no such file or directory"},
		{"CERTIFICATE", "ship_test.go", "OTEL_EXPORTER_OTLP_CERTIFICATE: has no certificate in PEM"},
		{"CLIENT_CERTIFICATE", "ship_test.go", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: its key: no such file or directory"},
	} {
		_, _, err := ship.OTLP(env(), web.Network{}, variables("OTEL_EXPORTER_OTLP_"+tt.variable, tt.value), "https://otel.acme.example")
		if text(err) != tt.want || fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s=%s: got %q, want %q", tt.variable, tt.value, text(err), tt.want)
		}
	}
}

func session() credential.Credential {
	return credential.Credential{Kind: credential.AWSSession, Expiry: noon.Add(time.Hour), AWS: &credential.AWS{
		AccessKeyID: secret.New("ASIAEXAMPLEEXAMPLE12"), SecretAccessKey: secret.New("SECRET/access+key"),
		SessionToken: secret.New("SECRET-session"), Region: "eu-central-1",
	}}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	const key = "oidc-dbt/date=2026-11-27/RUN1-outcome.json"
	for _, tt := range []struct {
		name    string
		replies []reply
		tries   int
		want    string
	}{
		{"written", []reply{{200, nil, ""}}, 1, ""},
		{"there already", []reply{{412, nil, "<Error><Code>PreconditionFailed</Code></Error>"}}, 1,
			`the object "` + key + `" is there already: a record is never overwritten`},
		{"no reply, and there after all", []reply{{0, nil, ""}, {412, nil, ""}}, 2, ""},
		{"busy, then there already", []reply{{503, nil, "<Error><Code>SlowDown</Code></Error>"}, {412, nil, ""}}, 2,
			`the object "` + key + `" is there already: a record is never overwritten`},
		{"a gateway gives up, and there after all", []reply{{504, nil, ""}, {412, nil, ""}}, 2, ""},
		{"two at once, then written", []reply{{409, nil, "<Error><Code>ConditionalRequestConflict</Code></Error>"}, {200, nil, ""}}, 2, ""},
		{"refused", []reply{{403, nil, "<Error><Code>AccessDenied</Code><Message>SECRET-session</Message></Error>"}}, 1,
			`the credential of target "audit-log" may not write "oidc-dbt/*" in bucket "acme-audit": status 403: "AccessDenied"`},
		{"no such bucket", []reply{{404, nil, "<Error><Code>NoSuchBucket</Code></Error>"}}, 1, `the bucket replied with status 404: "NoSuchBucket"`},
		{"not XML", []reply{{400, nil, "\x00"}}, 1, "the bucket replied with status 400"},
		{"a redirect", []reply{{307, map[string]string{"Location": "https://evil.example/"}, ""}}, 1, "redirect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.replies...)
			p := ship.Bucket(env(), policy.Bucket{Target: "audit-log", Kind: "s3", Name: "acme-audit", Prefix: "oidc-dbt/", Endpoint: s.URL},
				func(context.Context) (credential.Credential, error) { return session(), nil })
			err := p.Send(t.Context(), record().Alone())
			if got := text(err); got != tt.want && !(tt.want == "redirect" && strings.Contains(got, "redirect")) || len(s.requests) != tt.tries {
				t.Errorf("%d tries and %q, want %d and %q", len(s.requests), got, tt.tries, tt.want)
			}
			got := s.requests[0]
			if got.Method != http.MethodPut || got.URL.Path != "/acme-audit/"+key || got.Header.Get("If-None-Match") != "*" ||
				!strings.HasPrefix(got.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE12/20261127/eu-central-1/s3/") ||
				!strings.Contains(got.Header.Get("Authorization"), "if-none-match") || s.bodies[0] != `{"a":1}`+"\n" {
				t.Errorf("got %s %s with %v and %q", got.Method, got.URL, got.Header, s.bodies[0])
			}
		})
	}
}

// requests keeps the request instead of sending it.
type requests struct{ last *http.Request }

func (r *requests) RoundTrip(req *http.Request) (*http.Response, error) {
	r.last = req
	return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
}

func TestBucketAddresses(t *testing.T) {
	t.Parallel()
	bearer := credential.Credential{Kind: credential.AccessToken, Expiry: noon.Add(time.Hour), Token: secret.New("BEARER")}
	china := session()
	china.AWS.Region = "cn-north-1"
	for _, tt := range []struct {
		b      policy.Bucket
		c      credential.Credential
		want   string
		header string
	}{
		{policy.Bucket{Kind: "s3", Name: "acme"}, session(), "https://acme.s3.eu-central-1.amazonaws.com/", "If-None-Match: *"},
		{policy.Bucket{Kind: "s3", Name: "acme.audit"}, session(), "https://s3.eu-central-1.amazonaws.com/acme.audit/", "If-None-Match: *"},
		{policy.Bucket{Kind: "s3", Name: "acme"}, china, "https://acme.s3.cn-north-1.amazonaws.com.cn/", "If-None-Match: *"},
		{policy.Bucket{Kind: "gs", Name: "acme"}, bearer, "https://storage.googleapis.com/acme/", "X-Goog-If-Generation-Match: 0"},
		{policy.Bucket{Kind: "azure", Endpoint: "https://acme.blob.core.windows.net", Name: "audit"}, bearer, "https://acme.blob.core.windows.net/audit/", "If-None-Match: *"},
	} {
		sent := &requests{}
		e := env()
		e.HTTP = &http.Client{Transport: sent}
		p := ship.Bucket(e, tt.b, func(context.Context) (credential.Credential, error) { return tt.c, nil })
		if err := p.Send(t.Context(), record().Alone()); err != nil {
			t.Errorf("%+v: %v", tt.b, err)
			continue
		}
		name, value, _ := strings.Cut(tt.header, ": ")
		want := tt.want + "date%3D2026-11-27/RUN1-outcome.json" // as S3 signs it
		if sent.last.URL.String() != want || sent.last.Header.Get(name) != value {
			t.Errorf("got %s with %v, want %s with %s", sent.last.URL, sent.last.Header, want, tt.header)
		}
	}
}

func TestWhatDoesNotArrive(t *testing.T) {
	t.Parallel()
	refused := fault.New(fault.Denied, errors.New(`target "audit-log": denied by policy`), "a hint")
	p := ship.Bucket(env(), policy.Bucket{Kind: "s3", Name: "acme"}, func(context.Context) (credential.Credential, error) {
		return credential.Credential{}, refused
	})
	err := ship.Send(t.Context(), p, time.Second, record().Alone())
	if want := `ship the audit record to bucket: target "audit-log": denied by policy`; text(err) != want || fault.Hint(err) != "a hint" {
		t.Errorf("got %q, want %q", text(err), want)
	}
	wrong := ship.Bucket(env(), policy.Bucket{Target: "audit-log", Kind: "gs", Name: "acme"}, func(context.Context) (credential.Credential, error) {
		return session(), nil
	})
	if got, want := text(wrong.Send(t.Context(), record().Alone())), `target "audit-log" gives a credential of kind aws_session, which is not one for the bucket`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	done := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(done) })
	slow, _, err := ship.OTLP(env(), web.Network{}, variables(), silent.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(ship.Send(t.Context(), slow, 100*time.Millisecond, record().Alone())); !strings.HasPrefix(got, "ship the audit record to otlp: not done within 100ms: ") {
		t.Errorf("got %q", got)
	}
}
