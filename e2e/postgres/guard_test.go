//go:build e2e && linux && amd64

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// bypasses are how guards that read SQL were deceived in public: leading
// comments (pg-mcp-server issue 3, pgedge-postgres-mcp issue 196), a second
// statement behind COMMIT (CVE-2026-12045, GHSA-65hm-pwj5-73pw), code in a
// literal (dbhub issue 349), reads that write, literals that end elsewhere than
// they seem to, and functions with effects (awslabs/mcp pull request 4575).
var bypasses = []struct{ name, sql string }{
	{"a comment first", "/* read */ drop table facts"},
	{"comments in comments", "/* /* */ select 1 */ drop table facts"},
	{"a line comment without a line", "-- select 1\ndrop table facts"},
	{"parentheses", "(((delete from facts)))"},
	{"a byte order mark", "\ufeffdrop table facts"},
	{"white space that is none", "\u00a0drop table facts"},
	{"behind COMMIT", "commit; drop table facts"},
	{"behind ROLLBACK", "select 1; rollback; delete from facts; begin"},
	{"behind an empty one", ";;; delete from facts"},
	{"a CTE that deletes", "with gone as (delete from facts returning *) select * from gone"},
	{"a CTE in a CTE", "with a as (with b as (delete from facts returning *) select * from b) select * from a"},
	{"SELECT INTO", "select * into made from facts"},
	{"EXPLAIN ANALYZE", "explain analyze delete from facts"},
	{"EXPLAIN with options", "explain (costs off, analyze true) delete from facts"},
	{"CREATE AS", "create table made as select 1 as n"},
	{"MERGE", "merge into facts using facts f on facts.n = f.n when matched then delete"},
	{"COPY TO PROGRAM", "copy (select 1) to program 'touch /tmp/made'"},
	{"COPY FROM", "copy facts from program 'echo 4'"},
	{"DO", "do $$begin execute 'drop table facts'; end$$"},
	{"PREPARE", "prepare p as delete from facts; execute p"},
	{"query_to_xml", "select query_to_xml('delete from facts returning 1', true, true, '')"},
	{"another case, quoted", `select "pg_catalog"."query_to_xml"('delete from facts', true, true, '')`},
	{"a name with Unicode escapes", `select U&"query\005fto_xml"('delete from facts', true, true, '')`},
	{"set_config", "select set_config('default_transaction_read_only', 'off', false)"},
	{"set_config and then", "select set_config('transaction_read_only', 'off', true); delete from facts"},
	{"SET", "set default_transaction_read_only = off"},
	{"SET in capitals", `SET "default_transaction_read_only" TO off`},
	{"SET SESSION CHARACTERISTICS", "set session characteristics as transaction read write"},
	{"RESET ALL", "reset all; delete from facts"},
	{"DISCARD ALL", "discard all; delete from facts"},
	{"BEGIN READ WRITE", "begin read write; delete from facts; commit"},
	{"START TRANSACTION", "start transaction isolation level serializable, read write; delete from facts; commit"},
	{"SET TRANSACTION", "begin; set transaction read write; delete from facts; commit"},
	{"E'' with a backslash", `select E'\'; drop table facts; --'; drop table facts`},
	{"backslashes that are none", `select '\'; drop table facts; --'`},
	{"dollar quotes that end", "select $a$ $b$ $a$; drop table facts; select $b$ $b$"},
	{"standard_conforming_strings", `set standard_conforming_strings = off; select '\'; delete from facts; --'`},
	{"client_encoding", "set client_encoding = 'SJIS'"},
	{"nextval", "select nextval('numbers')"},
	{"setval", "select setval('numbers', 100)"},
	{"a large object", "select lo_create(4711)"},
	{"pg_read_file", "select pg_read_file('/etc/passwd')"},
	{"pg_terminate_backend", "select pg_terminate_backend(1)"},
	{"pg_logical_emit_message", "select pg_logical_emit_message(true, 'a', 'b')"},
	{"a function that writes", "select sneaky()"},
	{"CREATE SERVER", "create server s foreign data wrapper postgres_fdw"},
	{"CREATE FUNCTION", "create function made() returns int language sql as 'select 1'"},
	{"GRANT", "grant all on facts to public"},
	{"SET ROLE", "set role postgres"},
	{"SET SESSION AUTHORIZATION", "set session authorization postgres"},
	{"VACUUM", "vacuum facts"},
	{"NOTIFY", "notify news"},
	{"LOCK", "begin; lock table facts; commit"},
	{"a cursor WITH HOLD that deletes", "declare c cursor with hold for with x as (delete from facts returning 1) select * from x"},
	{"TABLE and then", "table facts; truncate facts"},
	{"SELECT FOR and then", "select 1 for update of facts; delete from facts"},
}

// allowed are statements that only look like them.
var allowed = []string{
	"select 'drop table facts; commit; --' as \"delete from\"", "/* drop */ select n as delete from facts -- truncate",
	"(select $$ drop table facts $$)", "with insert as (select 1) select * from insert", "explain select * from facts", "values (1), (2)", "table facts",
	"select E'\\'; drop table facts; --'",
}

// guarded returns a broker in front of the server, whose user owns a table, a
// sequence, and a function that writes with the superuser's rights.
func guarded(t *testing.T, server *setup.PostgresServer, level guard.Level, also ...statement.Class) *setup.Guarded {
	t.Helper()
	r := route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: server.Host, Port: server.Port, Database: "postgres", CAFile: server.CA, Plain: server.CA == ""}}
	c := credential.Credential{User: "dbt", Password: secret.New("p-" + server.Password), Expiry: time.Now().Add(time.Hour)}
	return setup.Guard(t, r, c, statement.Postgres, level, also...)
}

func startGuarded(t *testing.T) *setup.PostgresServer {
	t.Helper()
	server := setup.Postgres(t, true)
	server.SQL(t, fmt.Sprintf(`create role dbt login password 'p-%s'; grant create on database postgres to dbt; grant create on schema public to dbt;
		grant pg_execute_server_program, pg_read_server_files, pg_signal_backend to dbt;
		set role dbt; create table facts as select 1 as n; create sequence numbers; reset role;
		create function sneaky() returns void security definer language sql as 'insert into facts values (2)'`, server.Password))
	return server
}

// state is all that the bypasses would change.
func state(t *testing.T, server *setup.PostgresServer) string {
	return fmt.Sprint(server.SQL(t, `select (select string_agg(n::text, ',') from facts), (select string_agg(relname || coalesce(relacl::text, ''), ',' order by relname) from pg_class where relnamespace = 'public'::regnamespace),
		(select string_agg(proname, ',') from pg_proc where pronamespace = 'public'::regnamespace), (select last_value from numbers), (select count(*) from pg_largeobject_metadata), (select count(*) from pg_foreign_server)`))
}

// TestGuardBypasses: what is not a read changes nothing, whichever driver sends
// it and by whichever of its protocols; what is one passes.
func TestGuardBypasses(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	g := guarded(t, server, guard.Read)
	clients := clientsOf(t, g)
	before := state(t, server)
	var statements []string
	for _, b := range bypasses {
		statements = append(statements, b.sql)
	}
	for name, send := range clients {
		for i, end := range send(t, statements) {
			if !strings.Contains(end, "not allowed by the guard of target") && !strings.Contains(end, "read-only transaction") &&
				!strings.Contains(end, "multiple commands into a prepared statement") {
				t.Errorf("%s, %s: %q", name, bypasses[i].name, end)
			}
		}
		if after := state(t, server); after != before {
			t.Fatalf("%s: the server has\n%s, had\n%s", name, after, before)
		}
		for i, end := range send(t, allowed) {
			if end != "" {
				t.Errorf("%s, %s: %q", name, allowed[i], end)
			}
		}
	}
	if _, err := os.Stat("/tmp/made"); err == nil {
		t.Error("a program ran")
	}
}

// clientsOf are ways to send statements, each in a session of its own; they
// return what became of them.
func clientsOf(t *testing.T, g *setup.Guarded) map[string]func(t *testing.T, statements []string) []string {
	t.Helper()
	drivers := setup.Environment(t, "postgres", "")
	clients := map[string]func(t *testing.T, statements []string) []string{}
	for driver, python := range map[string]pyenv.Python{
		"psycopg2": setup.Python(t), "psycopg": drivers, "psycopg_prepared": drivers, "psycopg_binary": drivers, "asyncpg": drivers, "asyncpg_prepared": drivers,
	} {
		clients[driver] = func(t *testing.T, statements []string) (ends []string) {
			return setup.SendBy(t, python, statements, []string{"PASSWORD=" + g.Address().Secret.Reveal()}, driver, fmt.Sprint(g.Address().Port))
		}
	}
	for name, send := range map[string]func(conn *pgconn.PgConn, sql string) error{
		"pgx": func(conn *pgconn.PgConn, sql string) error {
			_, err := conn.Exec(context.Background(), sql).ReadAll()
			return err
		},
		"pgx_extended": func(conn *pgconn.PgConn, sql string) error {
			return conn.ExecParams(context.Background(), sql, nil, nil, nil, nil).Read().Err
		},
	} {
		clients[name] = func(t *testing.T, statements []string) (ends []string) {
			for _, sql := range statements {
				conn := connect(t, g)
				end := ""
				if err := send(conn.PgConn(), sql); err != nil {
					end = err.Error()
				}
				ends = append(ends, end)
				conn.Close(context.Background())
			}
			return ends
		}
	}
	return clients
}

func connect(t *testing.T, g *setup.Guarded) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=postgres sslmode=disable", g.Address().Port, g.Address().Secret.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestGuardTransaction: a denial ends the session, and rolls back what was
// under way; COPY and a pipeline pass.
func TestGuardTransaction(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	g := guarded(t, server, guard.Build, statement.Run)
	conn := connect(t, g)
	if _, err := conn.PgConn().Exec(t.Context(), "begin; insert into facts values (3)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	_, err := conn.PgConn().Exec(t.Context(), "alter system set work_mem = '1GB'").ReadAll()
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refusal.Code != "42501" || refusal.Severity != "FATAL" || !strings.HasPrefix(refusal.Message, `oidc-dbt: not allowed by the guard of target "prod": ALTER SYSTEM at byte 0 is of class admin`) {
		t.Errorf("error is %v", err)
	}
	if got := fmt.Sprint(server.SQL(t, "select n from facts")); got != "[[1]]" {
		t.Errorf("the table has %s", got)
	}
	conn = connect(t, g)
	defer conn.Close(context.Background())
	if tag, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(strings.Repeat("7\n", 1_000_000)), "copy facts from stdin"); err != nil || tag.RowsAffected() != 1_000_000 {
		t.Errorf("copied %s, %v", tag, err)
	}
	batch := &pgx.Batch{}
	for i := range 100 {
		batch.Queue("insert into facts values ($1)", i)
	}
	if err := conn.SendBatch(t.Context(), batch).Close(); err != nil {
		t.Errorf("a pipeline: %v", err)
	}
	var quoted string
	if err := conn.QueryRow(t.Context(), `select 'a\db' || E'\'' || $1`, "é").Scan(&quoted); err != nil || quoted != `a\db'é` {
		t.Errorf("%q, %v", quoted, err)
	}
	if _, err := conn.Exec(t.Context(), strings.Repeat("insert into facts values (1), (2) ;", 100_000)); err != nil {
		t.Errorf("a long message: %v", err)
	}
}

// TestGuardEncodings: where the server reads text in another way, what depends
// on that does not pass.
func TestGuardEncodings(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	g := guarded(t, server, guard.Build)
	for _, parameters := range []string{"client_encoding=SJIS", "options=-cclient_encoding=GBK", "client_encoding=BIG5"} {
		conn, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=postgres sslmode=disable %s", g.Address().Port, g.Address().Secret.Reveal(), parameters))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "select 1").ReadAll(); err != nil {
			t.Errorf("%s: %v", parameters, err)
		}
		// The server takes the backslash for half of a character, and the string ends.
		_, err = conn.Exec(t.Context(), "select E'\u00d5\\' ; grant all on facts to public; --'").ReadAll()
		if err == nil || !strings.Contains(err.Error(), "not allowed by the guard of") {
			t.Errorf("%s: %v", parameters, err)
		}
	}
	if got := fmt.Sprint(server.SQL(t, "select relacl from pg_class where relname = 'facts'")); got != "[[]]" {
		t.Errorf("the table's grants are %s", got)
	}
	for _, parameters := range []string{"standard_conforming_strings=off", "options=-cstandard_conforming_strings=off", "role=postgres", "replication=database", "session_preload_libraries=x"} {
		if _, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=postgres sslmode=disable %s", g.Address().Port, g.Address().Secret.Reveal(), parameters)); err == nil || !strings.Contains(err.Error(), "not allowed by the guard of") {
			t.Errorf("%s: %v", parameters, err)
		}
	}
}

// TestGuardedBuild: dbt builds under build with nothing denied, and reads
// under read.
func TestGuardedBuild(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	profile := func(g *setup.Guarded) (string, map[string]string) {
		return setup.GuardedProject(t, fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, user: dbt, password: %s, dbname: postgres, schema: marts, threads: 4, sslmode: disable}", g.Address().Port, g.Address().Secret.Reveal()))
	}
	g := guarded(t, server, guard.Build)
	workspace, env := profile(g)
	g.ExpectBuilt(t, workspace, env)
	before := state(t, server)
	g = guarded(t, server, guard.Read)
	workspace, env = profile(g)
	g.ExpectRead(t, workspace, env)
	if diff := cmp.Diff(before, state(t, server)); diff != "" {
		t.Errorf("under read the server changed (-want +got)\n%s", diff)
	}
}

// TestHalt: within two seconds the server runs nothing of the run's any more,
// and has none of its sessions.
func TestHalt(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	g := guarded(t, server, guard.Build)
	const sessions = 16
	ends := make(chan error, sessions)
	for range sessions {
		conn := connect(t, g)
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_sleep(600)")
			ends <- err
		}()
	}
	count := func(where string) string {
		return server.SQL(t, "select count(*) from pg_stat_activity where usename = 'dbt' and "+where)[0][0]
	}
	for count("state = 'active'") != fmt.Sprint(sessions) {
		time.Sleep(20 * time.Millisecond)
	}
	began := time.Now()
	g.Halt(errors.New("the run was ended"))
	for count("true") != "0" {
		if time.Since(began) > 2*time.Second {
			t.Fatalf("after %s the server has %s sessions, of which %s run", time.Since(began), count("true"), count("state = 'active'"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range sessions {
		if err := <-ends; err == nil {
			t.Error("a statement has ended by itself")
		}
	}
	if _, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=postgres sslmode=disable", g.Address().Port, g.Address().Secret.Reveal())); err == nil || !strings.Contains(err.Error(), "FATAL: oidc-dbt: the run was ended (SQLSTATE 57P01)") {
		t.Errorf("a login: %v", err)
	}
}
