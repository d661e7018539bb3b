package guard

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// Limits are those of each statement that the warehouse is asked to hold; zero
// for none.
type Limits struct {
	StatementTimeout time.Duration // in whole seconds
	Scan             int64         // bytes that are read
}

// A Setting is one of a session of the warehouse's.
type Setting struct{ Name, Value string }

// settings are where each warehouse has a place for limits.
type settings struct {
	timeout, scan string        // names, "" for no place
	unit          time.Duration // of the timeout
	time, bytes   string        // what follows the numbers
}

// (PostgreSQL: statement_timeout; Snowflake: Parameters; Trino: Query
// management properties; ClickHouse: Restrictions on query complexity)
var places = map[statement.Dialect]settings{
	statement.Postgres:   {timeout: "statement_timeout", unit: time.Millisecond},
	statement.Redshift:   {timeout: "statement_timeout", unit: time.Millisecond},
	statement.Snowflake:  {timeout: "STATEMENT_TIMEOUT_IN_SECONDS", unit: time.Second},
	statement.Trino:      {timeout: "query_max_run_time", scan: "query_max_scan_physical_bytes", unit: time.Second, time: "s", bytes: "B"},
	statement.ClickHouse: {timeout: "max_execution_time", scan: "max_bytes_to_read", unit: time.Second},
}

// settingsOf returns what holds the limits.
func settingsOf(d statement.Dialect, l Limits) (list []Setting) {
	at := places[d]
	if l.StatementTimeout > 0 && at.timeout != "" {
		list = append(list, Setting{at.timeout, strconv.FormatInt(int64(l.StatementTimeout/at.unit), 10) + at.time})
	}
	if l.Scan > 0 && at.scan != "" {
		list = append(list, Setting{at.scan, strconv.FormatInt(l.Scan, 10) + at.bytes})
	}
	return list
}

// Settings are those that each session gets for the guard's limits; none of a
// nil guard, and of one that observes.
func (g *Guard) Settings() []Setting {
	if g == nil || g.config.Observe {
		return nil
	}
	return g.settings
}

// Fixes reports whether a setting of this name, in any case, is one of Settings.
func (g *Guard) Fixes(name string) bool { return isAmong(g.Settings(), name) }

func isAmong(list []Setting, name string) bool {
	return slices.ContainsFunc(list, func(s Setting) bool { return strings.EqualFold(s.Name, name) })
}

// loosened returns what of a statement would change a limit, "" for nothing.
// What is none of the dialect's two settings may change any of them.
func (g *Guard) loosened(v statement.Verdict) string {
	if v.Sets == "" || len(g.settings) == 0 {
		return ""
	}
	at := places[g.config.Dialect]
	for name := range strings.SplitSeq(v.Sets, ", ") {
		if isAmong(g.settings, name) || !strings.EqualFold(name, at.timeout) && !strings.EqualFold(name, at.scan) {
			return name
		}
	}
	return ""
}

// setsRole is a whole message that chooses a role.
var setsRole = lazy.MustCompile("(?i)^\\s*(?:SET|USE)\\s+ROLE\\s+(\"(?:[^\"\\\\]|\"\")+\"|`[^`\\\\]+`|[A-Z_][A-Z0-9_$]*)\\s*;?\\s*$")

// chooses reports whether a message chooses one of the policy's own roles and
// does nothing else. Trino's are of a catalog each, and come in a header.
func (g *Guard) chooses(v statement.Verdict, text string) bool {
	if len(g.config.Roles) == 0 || v.Class != statement.Admin || g.config.Dialect == statement.Trino {
		return false
	}
	m := setsRole.FindStringSubmatch(text)
	return m != nil && g.HasRole(RoleName(g.config.Dialect, m[1]))
}

// HasRole reports whether a role, by RoleName, is one that the policy names.
// It is false for a nil guard.
func (g *Guard) HasRole(name string) bool { return g != nil && slices.Contains(g.config.Roles, name) }

// Role returns the role that the policy names, "" where that is none or several.
func (g *Guard) Role() string {
	if g == nil {
		return ""
	}
	return only(g.config.Roles)
}

// HasUser reports whether a user is one that the policy names.
func (g *Guard) HasUser(name string) bool { return slices.Contains(g.config.Users, name) }

// User returns the user that the policy names, "" where that is none or several.
func (g *Guard) User() string { return only(g.config.Users) }

func only(list []string) string {
	if len(list) != 1 {
		return ""
	}
	return list[0]
}

// RoleName returns the role that a dialect's identifier names, quoted or not.
func RoleName(d statement.Dialect, identifier string) string {
	if n := len(identifier); n >= 2 && (identifier[0] == '"' || identifier[0] == '`') && identifier[n-1] == identifier[0] {
		quote := identifier[:1]
		return strings.ReplaceAll(identifier[1:n-1], quote+quote, quote)
	}
	switch d {
	case statement.Postgres, statement.Redshift:
		return strings.ToLower(identifier)
	case statement.Snowflake:
		return strings.ToUpper(identifier)
	}
	return identifier
}
