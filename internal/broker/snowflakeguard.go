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

// snowflakeRole is the parameter of a login that names its role.
// (snowflake-connector-python 4.8, auth/_auth.py)
const snowflakeRole = "roleName"

// restrictSnowflake decides on a login, and returns its parameters. Its role is
// the policy's, and another one is what USE ROLE is later; the guard's limits
// take the place of a client's own.
func restrictSnowflake(g *guard.Guard, query string, in snowflakeRequest) (string, error) {
	if g == nil {
		return query, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", g.Refuse(atLogin, "parameters of a login that cannot be read", len(query), false)
	}
	named := false
	for name, roles := range values {
		if !strings.EqualFold(name, snowflakeRole) {
			continue
		}
		for _, role := range roles {
			named = named || role != ""
			if role = guard.RoleName(statement.Snowflake, role); role == "" || g.HasRole(role) {
				continue
			}
			if err := g.Check(atLogin, "USE ROLE "+quoted(role)); err != nil {
				return "", err
			}
		}
	}
	if role := g.Role(); !named && role != "" {
		values.Set(snowflakeRole, quoted(role))
		query = values.Encode()
	}
	return query, in.limit(g.Settings())
}

func quoted(identifier string) string { return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"` }

// limit puts settings into a login's parameters of the session, by names in any
// case.
func (in snowflakeRequest) limit(settings []guard.Setting) (err error) {
	const key = "SESSION_PARAMETERS"
	if len(settings) == 0 {
		return nil
	}
	parameters := map[string]json.RawMessage{}
	if raw, ok := in.data[key]; ok && (json.Unmarshal(raw, &parameters) != nil || parameters == nil) {
		parameters = map[string]json.RawMessage{} // null, or what Snowflake would refuse
	}
	for _, setting := range settings {
		maps.DeleteFunc(parameters, func(name string, _ json.RawMessage) bool { return strings.EqualFold(name, setting.Name) })
		parameters[setting.Name] = json.RawMessage(setting.Value)
	}
	in.data[key], err = json.Marshal(parameters)
	return err
}

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
	in, fault := parseSnowflakeQuery(text)
	if fault != "" {
		return g.Refuse(session, fault, len(text), true)
	}
	return g.Check(session, in)
}

// parseSnowflakeQuery returns the SQL of a request, or what is wrong with it. A
// key must not come twice: the guard and Snowflake could read another one.
func parseSnowflakeQuery(text []byte) (sql, fault string) {
	const invalid = "a request that is not valid JSON"
	if !utf8.Valid(text) {
		return "", invalid
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", invalid
	}
	in := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return "", invalid
		}
		if _, twice := in[key]; twice {
			return "", "a request with a key that comes twice"
		}
		in[key] = value
	}
	if _, err := d.Token(); err != nil {
		return "", invalid
	}
	if _, err := d.Token(); err != io.EOF {
		return "", invalid
	}
	return sqlOf(in)
}

func sqlOf(in map[string]json.RawMessage) (sql, fault string) {
	for key := range in {
		if !slices.Contains(snowflakeKeys, key) {
			return "", "a request with a key that is not known"
		}
	}
	if ast := string(in["dataframeAst"]); ast != "" && ast != "null" && ast != `""` {
		return "", "a query that is not SQL (dataframeAst)"
	}
	if raw := in["sqlText"]; len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &sql) != nil {
		return "", "a request without SQL text"
	}
	return sql, ""
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
