//go:build e2e

package clickhouse

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// bypasses are those that there are for ClickHouse: see e2e/postgres.
var bypasses = []string{
	"/* read */ drop table marts.facts",
	"-- select\ndrop table marts.facts",
	"# select\ndrop table marts.facts",
	"select 1; drop table marts.facts",
	"insert into marts.facts select 2",
	"insert into marts.facts values (2)",
	"insert into marts.facts format CSV\n2\n",
	"insert into function file('/tmp/made-by-clickhouse', 'CSV', 'n Int32') select 1",
	"create table marts.made engine = Memory as select 1 as n",
	"create temporary table made (n Int32)",
	"create function made as x -> x",
	"alter table marts.facts delete where n = 1",
	"select * from file('/etc/passwd', 'LineAsString')",
	"select * from url('http://127.0.0.1:1/', 'LineAsString')",
	"select * from remote('127.0.0.1', 'system', 'one')",
	"select * from executable('id', 'CSV', 'x String')",
	"select * from marts.facts into outfile '/tmp/made-by-clickhouse'",
	"select 1 settings readonly = 0",
	"set readonly = 0",
	"set dialect = 'kusto'",
	"optimize table marts.facts final",
	"system drop mark cache",
	"kill query where 1",
	"grant all on *.* to default",
	"set role admin",
	"explain select * from url('http://127.0.0.1:1/', 'LineAsString')",
	`select 'a\'; drop table marts.facts; --'; drop table marts.facts`,
	"select $a$ $b$ $a$; drop table marts.facts; select $b$",
	"with x as (select 1) insert into marts.facts select * from x",
	"\ufeffdrop table marts.facts",
	"exchange tables marts.facts and marts.facts",
	"backup table marts.facts to File('/tmp/made-by-clickhouse')",
}

var reads = []string{
	"select 'drop table facts; --' as `delete from` /* insert */", "with 1 as n select n", "show tables from marts",
	"describe table marts.facts", "explain select * from marts.facts", "exists table marts.facts", "select $a1$ ; drop table marts.facts $$ $a1$, $2$ $a1$ $2$", `select 'a\'b', "n" from marts.facts`,
}

// guarded starts the engine, with a broker in front of it for each level.
func guarded(t *testing.T, levels ...guard.Level) (engine int, all []*setup.Guarded) {
	t.Helper()
	python, engine := setup.Python(t), setup.Port(t)
	setup.Start(t, engine, python.Environ(), python.Program("python"), "server.py", fmt.Sprint(engine), filepath.Join(t.TempDir(), "data"))
	for _, level := range levels {
		r := route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Host: "127.0.0.1", Port: engine, Plain: true}}
		c := credential.Credential{User: user, Password: secret.New("p"), Expiry: time.Now().Add(time.Hour)}
		all = append(all, setup.Guard(t, r, c, statement.ClickHouse, level))
	}
	return engine, all
}

// query asks the engine itself.
func query(t *testing.T, engine int, sql string) string {
	t.Helper()
	resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", engine), "text/plain", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v, %s", sql, resp.StatusCode, err, text)
	}
	return string(text)
}

// TestGuardBypasses: what is not a read changes nothing, wherever the request
// has it; and the engine's own read-only mode stops it without the guard.
func TestGuardBypasses(t *testing.T) {
	t.Parallel()
	engine, all := guarded(t, guard.Read)
	g := all[0]
	query(t, engine, "create database marts")
	query(t, engine, "create table marts.facts (n Int32) engine = MergeTree order by n")
	query(t, engine, "insert into marts.facts select 1")
	state := func() string {
		return query(t, engine, "select database, name from system.tables where database not in ('system', 'information_schema', 'INFORMATION_SCHEMA') order by 1, 2") +
			query(t, engine, "select n from marts.facts") + query(t, engine, "select name from system.functions where origin = 'SQLUserDefined'")
	}
	before := state()
	for name, send := range map[string]func(t *testing.T, statements []string) []string{
		"the driver": func(t *testing.T, statements []string) []string { return byDriver(t, g, statements) },
		"body":       each(g, func(sql string) (string, string, bool) { return "", sql, false }),
		"gzip":       each(g, func(sql string) (string, string, bool) { return "", sql, true }),
		"parameter":  each(g, func(sql string) (string, string, bool) { return sql, "", false }),
		"halves": each(g, func(sql string) (string, string, bool) {
			last := strings.LastIndex(sql, " ")
			return sql[:last], sql[last+1:], false
		}),
	} {
		for i, end := range send(t, bypasses) {
			if !strings.Contains(end, `oidc-dbt: not allowed by the guard of target "prod"`) {
				t.Errorf("%s, %s: %q", name, bypasses[i], end)
			}
		}
		if name != "halves" {
			for i, end := range send(t, reads) {
				if end != "" {
					t.Errorf("%s, %s: %q", name, reads[i], end)
				}
			}
		}
		if after := state(); after != before {
			t.Fatalf("%s: ClickHouse has\n%s, had\n%s", name, after, before)
		}
	}
	if end := byDriver(t, g, []string{"insert"})[0]; !strings.Contains(end, "of class write") {
		t.Errorf("the driver's own INSERT: %s", end)
	}
	if _, err := os.Stat("/tmp/made-by-clickhouse"); err == nil {
		t.Error("a file was made")
	}
}

// each sends each statement with a request of its own.
func each(g *setup.Guarded, how func(sql string) (parameter, body string, packed bool)) func(t *testing.T, statements []string) []string {
	return func(t *testing.T, statements []string) (ends []string) {
		for _, sql := range statements {
			parameter, text, packed := how(sql)
			body := &bytes.Buffer{}
			if packed {
				z := gzip.NewWriter(body)
				_, _ = io.WriteString(z, text)
				_ = z.Close()
			} else {
				body.WriteString(text)
			}
			to := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", g.Address().Port), Path: "/"}
			if parameter != "" {
				to.RawQuery = url.Values{"query": {parameter}}.Encode()
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to.String(), body)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("dbt", g.Address().Secret.Reveal())
			if packed {
				req.Header.Set("Content-Encoding", "gzip")
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			reply, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode == http.StatusOK {
				reply = nil
			}
			ends = append(ends, string(reply))
		}
		return ends
	}
}

// byDriver sends statements by ClickHouse's driver.
func byDriver(t *testing.T, g *setup.Guarded, statements []string) (ends []string) {
	t.Helper()
	return setup.SendBy(t, setup.Python(t), statements, []string{"PASSWORD=" + g.Address().Secret.Reveal()}, fmt.Sprint(g.Address().Port))
}
