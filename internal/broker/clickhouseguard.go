package broker

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// clickHouseAhead is how much is read of a query whose data streams: the server
// reads no more for the query itself. (max_query_size, 256 KiB by default)
const clickHouseAhead = 256 << 10

// checkClickHouse has the guard decide on a query, which the request has in its
// parameter, in its body, or as the one followed by the other. What follows the
// FORMAT of an INSERT is data, of any length.
func checkClickHouse(g *guard.Guard, r *http.Request) error {
	session := clickHouseID(r)
	limitClickHouse(g, r)
	values, err := clickHouseSettings(g, session, r)
	switch {
	case err != nil:
		return err
	case strings.Contains(strings.ToLower(r.Header.Get("Content-Type")), "multipart"):
		return g.Refuse(session, "a body in several parts", 0, true)
	case len(values["query"]) > 1:
		return g.Refuse(session, "a query in several parts", 0, true)
	}
	sql := values.Get("query")
	if streams(sql) {
		return checkHeld(g, session, sql, r)
	}
	if !slices.Contains([]string{"", "0", "false"}, values.Get("decompress")) {
		return g.Refuse(session, "a body in ClickHouse's own compression", 0, true)
	}
	body, text, err := readAhead(r.Body, r.Header.Values("Content-Encoding"), maxStatement)
	r.Body = body
	if err != nil && !errors.Is(err, errLong) {
		return g.Refuse(session, err.Error(), len(text), true)
	}
	if sql != "" && len(text) > 0 {
		sql += "\n"
	}
	if err == nil {
		return checkHeld(g, session, sql+string(text), r)
	}
	sql += string(text[:clickHouseAhead])
	if !streams(sql) {
		return g.Refuse(session, errLong.Error(), len(text), true)
	}
	return checkHeld(g, session, sql, r)
}

// driverAsks is how ClickHouse's driver for Python asks which settings it may
// change. (clickhouse-connect 1.12) In a read-only query the reply would be none,
// and dbt would not connect.
var driverAsks = lazy.MustCompile(
	`^SELECT name, value, readonly( as readonly)? FROM system\.settings LIMIT [0-9]+(\s+FORMAT Native)?\s*$`)

// checkHeld decides on a query. For a guard that only lets read it has the server
// hold the query to that, which nothing within it can undo.
func checkHeld(g *guard.Guard, session, sql string, r *http.Request) error {
	if err := g.Check(session, sql); err != nil {
		return err
	}
	if !g.ReadOnly() || driverAsks.MatchString(sql) {
		return nil
	}
	if r.Method == http.MethodGet { // by which a server sets readonly to 2, and then refuses 1
		r.Method = http.MethodPost
	}
	setClickHouse(r, guard.Setting{Name: "readonly", Value: "1"})
	return nil
}

// limitClickHouse puts the guard's limits in the place of a request's own.
func limitClickHouse(g *guard.Guard, r *http.Request) {
	if fixed := g.Settings(); len(fixed) > 0 {
		setClickHouse(r, fixed...)
	}
}

// setClickHouse gives a request settings, by names in any case.
func setClickHouse(r *http.Request, settings ...guard.Setting) {
	values := r.URL.Query()
	for _, setting := range settings {
		fix(values, setting.Name, []string{setting.Value})
	}
	to := *r.URL
	to.RawQuery = values.Encode()
	r.URL = &to
}

// clickHouseSettings decides on settings of a request by which a client would
// choose another role, or another language for its text, and returns the
// request's parameters.
func clickHouseSettings(g *guard.Guard, session string, r *http.Request) (url.Values, error) {
	values := r.URL.Query()
	for name := range values {
		if lower := strings.ToLower(name); lower != name && slices.Contains(clickHouseReads, lower) {
			if err := g.Refuse(session, "a parameter whose name has capital letters", 0, true); err != nil {
				return nil, err
			}
		}
	}
	for _, value := range values["profile"] {
		if err := g.Check(session, "SET profile = '"+clickHouseText.Replace(value)+"'"); err != nil {
			return nil, err
		}
	}
	for _, value := range values["role"] {
		if g.HasRole(value) {
			continue
		}
		if err := g.Check(session, "SET ROLE `"+clickHouseName.Replace(value)+"`"); err != nil {
			return nil, err
		}
	}
	if values.Has("dialect") {
		if err := g.Refuse(session, "a setting that changes the dialect", 0, true); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// clickHouseReads are the parameters that are decided on. The server finds some
// of its parameters by names in any case. (ClickHouse: base/poco/Net,
// NameValueCollection)
var clickHouseReads = []string{"decompress", "dialect", "profile", "query", "query_id", "readonly", "role"}

var clickHouseName = strings.NewReplacer(`\`, `\\`, "`", "\\`")

// streams reports whether a text ends in data, of which any may follow: then it
// is the same with a byte that no SQL has.
func streams(sql string) bool {
	return sql != "" && statement.Classify(statement.ClickHouse, sql+"\n\x00").Class != statement.Unknown
}

// clickHouseID is the query's own, by which the server's log has it; "" for none.
func clickHouseID(r *http.Request) string {
	if id := r.URL.Query().Get("query_id"); id != "" {
		return id
	}
	return r.Header.Get("X-ClickHouse-Query-Id")
}

// denyClickHouse replies as ClickHouse does where a query is not allowed.
func denyClickHouse(w http.ResponseWriter, err error) {
	w.Header().Set("X-ClickHouse-Exception-Code", "497")
	http.Error(w, fmt.Sprintf("Code: 497. DB::Exception: oidc-dbt: %v. (ACCESS_DENIED)", err), http.StatusForbidden)
}
