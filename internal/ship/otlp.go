package ship

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// otlp is an OpenTelemetry collector that takes OTLP/HTTP with JSON.
// (OpenTelemetry Protocol 1.5.0, "OTLP/HTTP")
type otlp struct {
	client  *http.Client
	url     string
	headers []header
	gzip    bool
	limit   time.Duration // 0 for none of its own
	env     Env
}

type header struct {
	name  string
	value secret.Value
}

// Name implements Place.
func (*otlp) Name() string { return "otlp" }

// option returns OpenTelemetry's variable for logs, else the one for all signals.
func option(getenv func(string) string, name string) (variable, value string) {
	variable = "OTEL_EXPORTER_OTLP_LOGS_" + name
	if value = getenv(variable); value == "" {
		variable = "OTEL_EXPORTER_OTLP_" + name
		value = getenv(variable)
	}
	return variable, value
}

// maxPEM bounds a file of certificates or keys.
const maxPEM = 1 << 20

// OTLP returns the collector at an endpoint, and what is to be masked of the
// headers that it is sent. Of OpenTelemetry's variables, those for headers,
// certificates, compression and time-out count: the policy, and no variable, says
// where records go. Errors are of class Usage.
func OTLP(env Env, network web.Network, getenv func(string) string, endpoint string) (p Place, masks []secret.Value, err error) {
	o := &otlp{url: logsURL(endpoint), env: env}
	if err := o.configure(network, getenv); err != nil {
		return nil, nil, err
	}
	for _, h := range o.headers {
		value := h.value.Reveal()
		for _, text := range []string{value, value[strings.LastIndexByte(value, ' ')+1:]} { // with and without `Bearer `
			if len(text) >= shortestMask {
				masks = append(masks, secret.New(text))
			}
		}
	}
	return o, masks, nil
}

// shortestMask keeps a tenant's number from being hidden in the whole log.
const shortestMask = 8

// configure reads the variables.
func (o *otlp) configure(network web.Network, getenv func(string) string) (err error) {
	if o.client, err = otlpClient(o.env, network, getenv); err != nil {
		return err
	}
	if variable, text := option(getenv, "PROTOCOL"); text != "" && text != "http/json" && text != "http/protobuf" {
		return fault.New(fault.Usage, fmt.Errorf("%s is %q: records are sent by http/json only", variable, text),
			"collectors take OTLP/HTTP at port 4318; unset the variable for this step")
	}
	variable, text := option(getenv, "HEADERS")
	if o.headers, err = otlpHeaders(text); err != nil {
		return fault.New(fault.Usage, fmt.Errorf("%s: %w", variable, err),
			"want NAME=VALUE,NAME=VALUE, values percent-encoded")
	}
	switch variable, text := option(getenv, "COMPRESSION"); text {
	case "", "none":
	case "gzip":
		o.gzip = true
	default:
		return fault.New(fault.Usage, fmt.Errorf("%s is %q, want gzip or none", variable, text), "")
	}
	if variable, text := option(getenv, "TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 {
			return fault.New(fault.Usage, fmt.Errorf("%s is %q, want milliseconds", variable, text), "")
		}
		o.limit = time.Duration(min(ms, maxTimeout)) * time.Millisecond
	}
	return nil
}

// maxTimeout is more than a record is ever given, in milliseconds.
const maxTimeout = 60_000

func (o *otlp) hidden() []secret.Value {
	values := make([]secret.Value, len(o.headers))
	for i, h := range o.headers {
		values[i] = h.value
	}
	return values
}

// logsURL is where an endpoint takes logs. (OpenTelemetry Protocol exporter,
// "Endpoint URLs for OTLP/HTTP")
func logsURL(endpoint string) string {
	const path = "/v1/logs"
	if strings.HasSuffix(endpoint, path) {
		return endpoint
	}
	return strings.TrimSuffix(endpoint, "/") + path
}

// otlpClient trusts and shows the certificates that the variables name.
func otlpClient(env Env, network web.Network, getenv func(string) string) (*http.Client, error) {
	var roots *x509.CertPool
	if variable, path := option(getenv, "CERTIFICATE"); path != "" {
		path = env.path(path)
		text, err := disk.Read(path, maxPEM)
		if err == nil && env.Trusted != nil {
			err = env.Trusted(path)
		}
		roots = x509.NewCertPool()
		if err == nil && !roots.AppendCertsFromPEM(text) {
			err = errors.New("has no certificate in PEM")
		}
		if err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("%s: %w", variable, disk.Cause(err)), fault.Hint(err))
		}
	}
	variable, path := option(getenv, "CLIENT_CERTIFICATE")
	_, key := option(getenv, "CLIENT_KEY")
	switch {
	case path != "":
		certificate, err := keyPair(env.path(path), env.path(key))
		if err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("%s: %w", variable, err), "CLIENT_KEY names its key")
		}
		return web.NewClient(network.Showing(certificate, roots)), nil
	case roots != nil:
		return web.NewClient(network.Trusting(roots)), nil
	}
	return env.HTTP, nil
}

func (e Env) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(e.Dir, p)
}

func keyPair(certificate, key string) (tls.Certificate, error) {
	c, err := disk.Read(certificate, maxPEM)
	if err != nil {
		return tls.Certificate{}, disk.Cause(err)
	}
	k, err := disk.Read(key, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("its key: %w", disk.Cause(err))
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return tls.Certificate{}, errors.New("the two files are no certificate and its key in PEM")
	}
	return pair, nil
}

// ownHeaders are those that a request has anyway.
var ownHeaders = []string{"host", "content-type", "content-length", "content-encoding", "transfer-encoding"}

// otlpHeaders reads W3C Baggage's form, as the specification has it. Its
// errors hold no value.
func otlpHeaders(text string) (headers []header, err error) {
	for i, pair := range strings.Split(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		switch {
		case !found || !httpguts.ValidHeaderFieldName(name):
			return nil, fmt.Errorf("entry %d has no name of a header", i+1)
		case err != nil || !httpguts.ValidHeaderFieldValue(decoded):
			return nil, fmt.Errorf("the value of %q is not percent-encoded", name)
		case slices.Contains(ownHeaders, strings.ToLower(name)):
			return nil, fmt.Errorf("%q is not for a variable to set", name)
		}
		headers = append(headers, header{name, secret.New(decoded)})
	}
	return headers, nil
}

// Send implements Place.
func (o *otlp) Send(ctx context.Context, b Batch) error {
	body, err := o.body(b)
	if err != nil {
		return err
	}
	send := func(ctx context.Context) error {
		_, err := web.Retry(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, o.post(ctx, body) })
		return err
	}
	if o.limit == 0 {
		return send(ctx)
	}
	return within(ctx, o.limit, send)
}

func (o *otlp) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("invalid endpoint %q", o.url)
	}
	for _, h := range o.headers {
		req.Header.Set(h.name, h.value.Reveal())
	}
	req.Header.Set("Content-Type", "application/json")
	if o.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return web.Failed(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return web.Failed(err)
	}
	var reply struct {
		PartialSuccess struct {
			Rejected json.RawMessage `json:"rejectedLogRecords"` // a string or a number
			Message  string          `json:"errorMessage"`
		} `json:"partialSuccess"`
		Message string `json:"message"` // of google.rpc.Status
	}
	_ = json.Unmarshal(text, &reply) // an empty body is a full success
	rejected := strings.Trim(string(reply.PartialSuccess.Rejected), `"`)
	taken := resp.StatusCode/100 == 2 // OTLP says 200; vendors also reply 202 and 204
	switch {
	case taken && (rejected == "" || rejected == "0" || rejected == "null"):
		return nil
	case taken:
		return fmt.Errorf("the collector rejected it: %s", exchange.Quoted(reply.PartialSuccess.Message, o.hidden()))
	case slices.Contains([]int{429, 502, 503, 504}, resp.StatusCode): // OTLP/HTTP, "Retryable Response Codes"
		return web.Temporary(fmt.Errorf("the collector replied with status %d", resp.StatusCode))
	case reply.Message != "":
		words := exchange.Quoted(reply.Message, o.hidden())
		return fmt.Errorf("the collector replied with status %d: %s", resp.StatusCode, words)
	}
	return fmt.Errorf("the collector replied with status %d", resp.StatusCode)
}

type attribute struct {
	Key   string `json:"key"`
	Value struct {
		Text string `json:"stringValue"`
	} `json:"value"`
}

func text(key, value string) (a attribute) {
	a.Key, a.Value.Text = key, value
	return a
}

// The numbers of INFO and WARN. (OpenTelemetry Logs Data Model, SeverityNumber)
const severityInfo, severityWarn = 9, 13

type object = map[string]any

// body is an ExportLogsServiceRequest in protobuf's JSON, with 64-bit numbers
// as strings. (opentelemetry-proto, collector/logs/v1/logs_service.proto)
func (o *otlp) body(b Batch) ([]byte, error) {
	observed := strconv.FormatInt(o.env.Now().UnixNano(), 10)
	records := make([]object, len(b.Records))
	for i, r := range b.Records {
		records[i] = logRecord(r, observed)
	}
	request := object{"resourceLogs": []object{{
		"resource": object{"attributes": []attribute{
			text("service.name", "oidc-dbt"), text("service.version", o.env.Version),
		}},
		"scopeLogs": []object{{
			"scope":      object{"name": "oidc-dbt", "version": o.env.Version},
			"logRecords": records,
		}},
	}}}
	body, err := json.Marshal(request)
	if err != nil || !o.gzip {
		return body, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = w.Write(body)
	err = errors.Join(err, w.Close())
	return packed.Bytes(), err
}

func logRecord(r Record, observed string) object {
	severity, name := severityInfo, "INFO"
	if r.Failure {
		severity, name = severityWarn, "WARN"
	}
	attributes := []attribute{
		text("event.name", "oidc_dbt.audit"), text("oidc_dbt.correlation_uid", r.ID), text("oidc_dbt.part", r.Part),
		text("ocsf.class_uid", strconv.Itoa(r.Class)),
	}
	if r.Target != "" {
		attributes = append(attributes, text("oidc_dbt.target", r.Target))
	}
	if r.Subject != "" {
		attributes = append(attributes, text("enduser.id", r.Subject))
	}
	return object{
		"timeUnixNano": strconv.FormatInt(r.Time.UnixNano(), 10), "observedTimeUnixNano": observed,
		"severityNumber": severity, "severityText": name,
		"body": object{"stringValue": string(r.Line)}, "attributes": attributes,
	}
}
