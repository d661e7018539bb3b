package broker

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// Headers by which a client sends what SQL would say: statements that it has
// prepared, its role, and the user before SET SESSION AUTHORIZATION. (Trino:
// client REST API, client request headers)
const (
	trinoPrepared = "X-Trino-Prepared-Statement"
	trinoRole     = "X-Trino-Role"
	trinoSession  = "X-Trino-Session"
	trinoUser     = "X-Trino-User"
	trinoOriginal = "X-Trino-Original-"
)

// checkTrino has the guard decide on a statement.
func checkTrino(g *guard.Guard, r *http.Request) error {
	if r.Method != http.MethodPost {
		return nil // of a statement that was decided on
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Presto-") || strings.HasPrefix(name, trinoOriginal) {
			if err := g.Refuse("", "a header that Trino's clients do not send", 0, true); err != nil {
				return err
			}
		}
	}
	if err := checkTrinoUser(g, r.Header); err != nil {
		return err
	}
	if err := checkTrinoRoles(g, r.Header); err != nil {
		return err
	}
	limitTrino(g, r.Header)
	body, text, err := readAhead(r.Body, r.Header.Values("Content-Encoding"), maxStatement)
	r.Body = body
	if err != nil {
		return g.Refuse("", err.Error(), len(text), true)
	}
	sql := string(text)
	name, values, ok := trinoExecutes(sql)
	if !ok {
		return g.Check("", sql)
	}
	prepared, ok := trinoPreparedAs(r.Header.Values(trinoPrepared), name)
	if !ok || !areValues(values) {
		return g.Check("", sql)
	}
	return g.Check("", prepared)
}

// areValues reports whether what follows USING is expressions only, as those of
// a query are.
func areValues(text string) bool {
	v := statement.Classify(statement.Trino, "SELECT "+text)
	return text == "" || v.Class == statement.Read && v.Statements == 1
}

// limitTrino puts the guard's limits in the place of a client's own: Trino keeps
// no session, so that each request has all properties.
func limitTrino(g *guard.Guard, header http.Header) {
	fixed := g.Settings()
	if len(fixed) == 0 {
		return
	}
	var properties []string
	for entry := range strings.SplitSeq(strings.Join(header.Values(trinoSession), ","), ",") {
		name, _, _ := strings.Cut(entry, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if name = strings.TrimSpace(name); trinoName.MatchString(name) && !g.Fixes(name) {
			properties = append(properties, strings.TrimSpace(entry))
		}
	}
	for _, setting := range fixed {
		properties = append(properties, setting.Name+"="+setting.Value)
	}
	header.Set(trinoSession, strings.Join(properties, ","))
}

// checkTrinoUser decides on the user of a request: any but the policy's own is
// what SET SESSION AUTHORIZATION would choose. Without one Trino takes the
// login's.
func checkTrinoUser(g *guard.Guard, header http.Header) error {
	users := header.Values(trinoUser)
	if len(users) > 1 {
		return g.Refuse("", "a header that Trino's clients do not send", 0, false)
	}
	switch own, user := g.User(), strings.Join(users, ""); {
	case user == "" && own != "":
		header.Set(trinoUser, own)
	case user != "" && !g.HasUser(user):
		return g.Check("", "SET SESSION AUTHORIZATION "+quoted(user))
	}
	return nil
}

// trinoRoles is a role of a header, and trinoName a catalog or the name of a
// property: what Trino finds behind other white space than ours must not pass
// for another name. (Trino: SelectedRole.java, ProtocolHeaders)
var (
	trinoRoles = lazy.MustCompile(`^(?:NONE|ALL|ROLE\{([^{}\x00-\x1f\x7f]+)\})$`)
	trinoName  = lazy.MustCompile(`^[A-Za-z0-9_.$-]+$`)
)

// checkTrinoRoles decides on the roles of a request: any but none and the
// policy's own is what SET ROLE would choose. Trino gets what was read here.
func checkTrinoRoles(g *guard.Guard, header http.Header) error {
	var roles []string
	for entry := range strings.SplitSeq(strings.Join(header.Values(trinoRole), ","), ",") {
		if entry = strings.Trim(entry, " \t"); entry == "" {
			continue
		}
		catalog, role, _ := strings.Cut(entry, "=")
		role, err := url.QueryUnescape(role)
		m := trinoRoles.FindStringSubmatch(role)
		if err != nil || m == nil || !trinoName.MatchString(catalog) || !utf8.ValidString(role) {
			return g.Refuse("", "a role that is not understood", len(entry), false)
		}
		name, sql := m[1], quoted(m[1])
		if name == "" {
			name, sql = role, role
		}
		if role != "NONE" && !g.HasRole(catalog+"="+name) {
			if err := g.Check("", "SET ROLE "+sql); err != nil {
				return err
			}
		}
		roles = append(roles, catalog+"="+url.QueryEscape(role))
	}
	header.Del(trinoRole)
	if len(roles) > 0 {
		header.Set(trinoRole, strings.Join(roles, ","))
	}
	return nil
}

// executes is a statement that runs a prepared one: EXECUTE NAME, and its values.
var executes = lazy.MustCompile(`(?is)^\s*EXECUTE\s+([A-Za-z_][A-Za-z0-9_]*|"(?:[^"]|"")+")\s*(?:\sUSING\s+(.+))?$`)

// trinoExecutes returns which prepared statement a statement runs, and with
// which values.
func trinoExecutes(sql string) (name, values string, ok bool) {
	m := executes.FindStringSubmatch(sql)
	if m == nil || strings.EqualFold(m[1], "IMMEDIATE") {
		return "", "", false
	}
	name = strings.ToLower(m[1]) // as Trino does, with quoted ones too
	if unquoted, ok := strings.CutPrefix(name, `"`); ok {
		name = strings.ReplaceAll(strings.TrimSuffix(unquoted, `"`), `""`, `"`)
	}
	return name, m[2], true
}

// trinoPreparedAs returns the text of a prepared statement: a header has them as
// NAME=TEXT, both encoded as in a form. Of several with one name none is taken.
func trinoPreparedAs(headers []string, name string) (text string, ok bool) {
	for entry := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		k, v, assigned := strings.Cut(strings.TrimSpace(entry), "=")
		key, kerr := url.QueryUnescape(k)
		value, verr := url.QueryUnescape(v)
		if !assigned || kerr != nil || verr != nil || strings.ContainsFunc(key, notASCII) {
			return "", false
		}
		if strings.EqualFold(strings.TrimSpace(key), name) {
			if ok {
				return "", false
			}
			text, ok = value, true
		}
	}
	return text, ok
}

// notASCII reports whether a character may be white space to Trino.
func notASCII(r rune) bool { return r >= utf8.RuneSelf }

// denyTrino replies as Trino does where a statement is not allowed.
func denyTrino(w http.ResponseWriter, base string, err error) {
	message := "oidc-dbt: " + err.Error()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client is gone
		"id": "oidc_dbt_denied", "infoUri": base + "/ui/", "warnings": []any{},
		"stats": map[string]any{
			"state": "FAILED", "queued": false, "scheduled": false, "nodes": 0, "totalSplits": 0, "queuedSplits": 0,
			"runningSplits": 0, "completedSplits": 0, "cpuTimeMillis": 0, "wallTimeMillis": 0, "queuedTimeMillis": 0,
			"elapsedTimeMillis": 0, "processedRows": 0, "processedBytes": 0, "peakMemoryBytes": 0, "spilledBytes": 0,
		},
		"error": map[string]any{
			"message": message, "errorCode": 4, "errorName": "PERMISSION_DENIED", "errorType": "USER_ERROR",
			"failureInfo": map[string]any{
				"type": "io.trino.spi.security.AccessDeniedException", "message": message,
				"suppressed": []any{}, "stack": []any{},
			},
		},
	})
}
