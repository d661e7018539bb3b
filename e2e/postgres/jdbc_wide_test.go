//go:build e2e && linux && amd64 && wide

package postgres

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
)

// A jdbc is PostgreSQL's JDBC driver in a program of its own.
type jdbc struct{ classes, driver string }

func startJDBC(t *testing.T) jdbc {
	t.Helper()
	driver := setup.Jar(t, "org.postgresql:postgresql:42.7.8", "2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7")
	return jdbc{setup.JavaClasses(t, filepath.Join(setup.Repository(t), "e2e", "postgres", "Guard.java"), driver), driver}
}

// send sends statements, and returns what became of each. mode is the driver's
// preferQueryMode; threshold after how many executions a statement is prepared
// at the server.
func (j jdbc) send(t *testing.T, g *setup.Guarded, statements []string, mode string, threshold, times int) (ends []string) {
	t.Helper()
	cmd := setup.JavaProgram(t, "Guard", []string{j.classes, j.driver}, fmt.Sprint(g.Address().Port), mode, fmt.Sprint(threshold), fmt.Sprint(times))
	cmd.Env = append(os.Environ(), "PASSWORD="+g.Address().Secret.Reveal())
	var lines strings.Builder
	for _, sql := range statements {
		lines.WriteString(base64.StdEncoding.EncodeToString([]byte(sql)) + "\n")
	}
	cmd.Stdin, cmd.Stderr = strings.NewReader(lines.String()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		end, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, string(end))
	}
	if len(ends) != len(statements) {
		t.Fatalf("%d ends of %d statements", len(ends), len(statements))
	}
	return ends
}

// TestGuardJDBC: the driver of Java's programs gets what its guard admits and
// nothing else, by each of its protocols, and shows why.
func TestGuardJDBC(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	j := startJDBC(t)
	reader := guarded(t, server, guard.Read)
	before := state(t, server)
	var statements []string
	for _, b := range bypasses {
		statements = append(statements, strings.ReplaceAll(b.sql, "?", "??"))
	}
	for _, how := range []struct {
		mode             string
		threshold, times int
	}{{"extended", 5, 1}, {"extended", 1, 2}, {"simple", 5, 1}, {"extendedForPrepared", 1, 1}, {"extendedCacheEverything", 1, 2}} {
		name := fmt.Sprintf("%s, prepared from the %d. time on", how.mode, how.threshold)
		for i, end := range j.send(t, reader, statements, how.mode, how.threshold, how.times) {
			if !strings.Contains(end, `oidc-dbt: not allowed by the guard of target "prod"`) && !strings.Contains(end, "read-only transaction") {
				t.Errorf("%s, %s: %q", name, bypasses[i].name, end)
			}
		}
		for i, end := range j.send(t, reader, allowed, how.mode, how.threshold, 7) {
			if end != "" {
				t.Errorf("%s, %s: %q", name, allowed[i], end)
			}
		}
		if after := state(t, server); after != before {
			t.Fatalf("%s: the server has\n%s, had\n%s", name, after, before)
		}
	}
	const denied = `42501 FATAL: oidc-dbt: not allowed by the guard of target "prod": DROP TABLE at byte 0 is of class define, ` +
		"and `statements: read` admits read and session (see docs/guardrails.md)"
	if ends := j.send(t, reader, []string{"drop table facts", "select 1; drop table facts"}, "extended", 5, 1); ends[0] != denied ||
		!strings.Contains(ends[1], "DROP TABLE at byte ") {
		t.Errorf("%q, want %q first", ends, denied)
	}

	builder := guarded(t, server, guard.Build)
	statements = []string{"batch", "insert into facts values (4711); update facts set n = 4712 where n = 4711", "grant all on facts to public", "select 1; alter system set work_mem = '1GB'"}
	for i, end := range j.send(t, builder, statements, "extended", 1, 1) {
		if want := []string{"", "", "GRANT at byte 0 is of class grant", "is of class admin"}[i]; !strings.Contains(end, want) || want == "" && end != "" {
			t.Errorf("%s: %q, want %q", statements[i], end, want)
		}
	}
	if got := fmt.Sprint(server.SQL(t, "select count(*), sum(n) from facts")); got != "[[1002 504213]]" {
		t.Errorf("the table has %s", got)
	}
}
