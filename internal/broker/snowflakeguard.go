package broker

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// snowflakeDenied is the code of a denial: insufficient privileges.
const snowflakeDenied = "003001"

// snowflakeKeys are what clients send of a statement besides its text: how it is
// run, and its bindings, which are values. (snowflake-connector-python 4.8,
// connection.py; gosnowflake, query.go; snowflake-jdbc, QueryExecDTO.java;
// snowflake-connector-nodejs, statement.js)
var snowflakeKeys = []string{
	"asyncExec", "bindStage", "bindings", "dataframeAst", "describeOnly", "describedJobId", "disableOfflineChunks",
	"isInternal", "parameters", "queryContextDTO", "querySubmissionTime", "sequenceId", "sqlText",
}

// What a login has: the parameters of its URL, and the keys of its body and of
// the object data there. Of a login without a password there are no more.
// (snowflake-connector-python 4.8, auth/_auth.py, network.py; what the drivers of
// other languages may send besides was not read in their source)
var (
	snowflakeURLKeys = []string{
		"clientStartTime", "databaseName", "requestId", "request_guid", "request_id", "retryCount", "retryReason",
		snowflakeRole, "schemaName", "warehouse",
	}
	snowflakeBodyKeys  = []string{"data", "inFlightCtx"}
	snowflakeLoginKeys = []string{
		"ACCOUNT_NAME", "AUTHENTICATOR", "CLIENT_APP_ID", "CLIENT_APP_VERSION", "CLIENT_ENVIRONMENT", "LOGIN_NAME",
		"PROVIDER", "SVN_REVISION", "TOKEN", snowflakeSecondary, snowflakeParameters,
	}
)

// Where a login has its role, its other roles, and the session's parameters.
const (
	snowflakeRole       = "roleName"
	snowflakeSecondary  = "SECONDARY_ROLES"
	snowflakeParameters = "SESSION_PARAMETERS"
)

// snowflakeSettled are parameters that change nothing that a guard decides on:
// how clients speak, and what they say of themselves. A guard reads each of
// several statements, whatever their count is said to be.
var snowflakeSettled = lazy.MustCompile(`(?i)^(?:AUTOCOMMIT|MULTI_STATEMENT_COUNT|QUERY_CONTEXT_CACHE_SIZE|QUERY_TAG|` +
	`S3_STAGE_VPCE_DNS_NAME|SERVICE_NAME|TIMEZONE|CLIENT_[A-Z0-9_]+|[A-Z_]+_QUERY_RESULT_FORMAT)$`)

// restrictSnowflake decides on a login, and returns its parameters. Its role is
// the policy's, and another one is what USE ROLE is later; the guard's limits
// take the place of a client's own. Snowflake gets what was read here, and
// nothing else.
func restrictSnowflake(g *guard.Guard, query string, in snowflakeRequest) (string, error) {
	if g == nil {
		return query, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values[snowflakeRole]) > 1 {
		return "", g.Refuse(atLogin, "parameters of a login that cannot be read", len(query), false)
	}
	if !onlyOf(values, snowflakeURLKeys) || !onlyOf(in.whole, snowflakeBodyKeys) || !onlyOf(in.data, snowflakeLoginKeys) {
		if err := g.Refuse(atLogin, "a login with a key that is not known", 0, true); err != nil {
			return "", err
		}
	}
	switch role := guard.RoleName(statement.Snowflake, values.Get(snowflakeRole)); {
	case role == "":
		if own := g.Role(); own != "" {
			values.Set(snowflakeRole, quoted(own))
		}
	case !g.HasRole(role):
		if err := g.Check(atLogin, "USE ROLE "+quoted(role)); err != nil {
			return "", err
		}
	}
	return values.Encode(), in.restrict(g)
}

// onlyOf reports whether all keys are in a list, in exactly this spelling.
func onlyOf[V any](in map[string]V, list []string) bool {
	for key := range in {
		if !slices.Contains(list, key) {
			return false
		}
	}
	return true
}

// restrict decides on a login's other roles and on its parameters of the
// session, which SQL could choose later, and puts the guard's limits among these.
func (in snowflakeRequest) restrict(g *guard.Guard) error {
	switch roles := in.data[snowflakeSecondary]; string(roles) {
	case "", "null", `""`, `"NONE"`:
	case `"ALL"`:
		if err := g.Check(atLogin, "USE SECONDARY ROLES ALL"); err != nil {
			return err
		}
	default:
		return g.Refuse(atLogin, "a role that is not understood", len(roles), true)
	}
	raw, ok := in.data[snowflakeParameters]
	if !ok && len(g.Settings()) == 0 {
		return nil
	}
	parameters := map[string]json.RawMessage{}
	if ok && (json.Unmarshal(raw, &parameters) != nil || parameters == nil) {
		parameters = map[string]json.RawMessage{} // null, or what Snowflake would refuse
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if g.Fixes(name) {
			continue
		}
		if err := checkSnowflakeParameter(g, atLogin, name, parameters[name]); err != nil {
			return err
		}
	}
	for _, setting := range g.Settings() {
		fix(parameters, setting.Name, json.RawMessage(setting.Value))
	}
	var err error
	in.data[snowflakeParameters], err = json.Marshal(parameters)
	return err
}

// checkSnowflakeParameter decides on a parameter of a session or a statement as
// on the SQL that would set it.
func checkSnowflakeParameter(g *guard.Guard, session, name string, value json.RawMessage) error {
	if snowflakeSettled.MatchString(name) {
		return nil
	}
	text := string(value)
	if s := ""; json.Unmarshal(value, &s) == nil && text != "null" {
		text = "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
	}
	if !settingName.MatchString(name) || text == "" || strings.ContainsAny(text[:1], "[{n") {
		return g.Refuse(session, "a parameter that is not understood", len(value), true)
	}
	return g.Check(session, "ALTER SESSION SET "+name+" = "+text)
}

func quoted(identifier string) string { return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"` }

// check has the guard decide on a request of a session. Statements come as text,
// as often as they like in one; the other requests that clients make are known.
func checkSnowflake(g *guard.Guard, session string, r *http.Request) error {
	p := r.URL.Path
	switch {
	case r.URL.RawPath != "" || path.Clean(p) != p:
	case r.Method == http.MethodPost && p == snowflakeQuery:
		return checkSnowflakeQuery(g, session, r)
	case snowflakePasses(r.Method, p):
		return nil
	}
	return g.Refuse(session, "a request that Snowflake's drivers do not send", 0, true)
}

// snowflakePasses reports whether a request is one that runs nothing.
func snowflakePasses(method, p string) bool {
	if method == http.MethodPost {
		switch p {
		case snowflakeAbort, snowflakeRenew, "/session", "/session/heartbeat", "/telemetry/send":
			return true
		}
	}
	id, ok := strings.CutPrefix(p, snowflakeQueries)
	if !ok {
		id, ok = strings.CutPrefix(p, "/monitoring/queries/")
		return ok && method == http.MethodGet && !strings.Contains(id, "/")
	}
	id, what, _ := strings.Cut(id, "/")
	switch {
	case id == "v1":
		return false
	case method == http.MethodGet:
		return what == "result"
	}
	return method == http.MethodPost && what == "abort-request"
}

func checkSnowflakeQuery(g *guard.Guard, session string, r *http.Request) error {
	body, text, err := readAhead(r.Body, r.Header.Values("Content-Encoding"), maxStatement)
	r.Body = body
	if err != nil {
		return g.Refuse(session, err.Error(), len(text), true)
	}
	sql, parameters, fault := parseSnowflakeQuery(text)
	if fault != "" {
		return g.Refuse(session, fault, len(text), true)
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if err := checkSnowflakeParameter(g, session, name, parameters[name]); err != nil {
			return err
		}
	}
	return g.Check(session, sql)
}

// parseSnowflakeQuery returns the SQL of a request and its parameters, or what
// is wrong with it.
func parseSnowflakeQuery(text []byte) (sql string, parameters map[string]json.RawMessage, fault string) {
	in, fault := objectOf(text)
	switch ast := string(in["dataframeAst"]); {
	case fault != "":
		return "", nil, fault
	case !onlyOf(in, snowflakeKeys):
		return "", nil, "a request with a key that is not known"
	case ast != "" && ast != "null" && ast != `""`:
		return "", nil, "a query that is not SQL (dataframeAst)"
	}
	if raw := in["sqlText"]; len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &sql) != nil {
		return "", nil, "a request without SQL text"
	}
	if raw := in["parameters"]; len(raw) > 0 && string(raw) != "null" {
		parameters, fault = objectOf(raw)
	}
	return sql, parameters, fault
}

// objectOf returns the keys of a JSON object, or what is wrong with it. A key
// must not come twice: the guard and Snowflake could read another one.
func objectOf(text []byte) (in map[string]json.RawMessage, fault string) {
	const invalid = "a request that is not valid JSON"
	if !utf8.Valid(text) {
		return nil, invalid
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, invalid
	}
	in = map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return nil, invalid
		}
		if _, twice := in[key]; twice {
			return nil, "a request with a key that comes twice"
		}
		in[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, invalid
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, invalid
	}
	return in, ""
}

// denySnowflake replies as Snowflake does where a statement is not allowed.
func denySnowflake(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client is gone
		"success": false, "code": snowflakeDenied, "message": "oidc-dbt: " + err.Error(),
		"data": map[string]any{"errorCode": snowflakeDenied, "sqlState": insufficientPrivilege},
	})
}

// errLong is the error of readAhead for a text that is longer than its limit.
var errLong = fmt.Errorf("a text larger than %d bytes", maxStatement)

// readAhead reads a request's body up to a limit, and returns it as text, without
// its encoding, and as a body that is still whole. With errLong the text is as
// long as the limit.
func readAhead(body io.ReadCloser, encodings []string, limit int) (again io.ReadCloser, text []byte, err error) {
	if body == nil {
		return nil, nil, nil
	}
	var raw bytes.Buffer
	again = readCloser{io.MultiReader(&raw, body), body}
	var in io.Reader = io.TeeReader(body, &raw)
	switch encoding := strings.Join(encodings, ","); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(in)
		if errors.Is(err, io.EOF) {
			return again, nil, nil
		}
		if err != nil {
			return again, nil, errors.New("a body that is not in gzip")
		}
		in = z
	default:
		return again, nil, errors.New("a content encoding that is not gzip")
	}
	text, err = io.ReadAll(io.LimitReader(in, int64(limit)+1))
	switch {
	case err != nil:
		return again, text, errors.New("a body that cannot be read")
	case len(text) > limit:
		return again, text[:limit], errLong
	}
	return again, text, nil
}
