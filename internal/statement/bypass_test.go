package statement

import (
	"strings"
	"testing"
)

// TestBypasses has the published ways around guards that asked whether a
// statement begins with SELECT, and those around lexers that are not the server's.
func TestBypasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		d    Dialect
		text string
		want Verdict
	}{
		{"comment in front", Postgres, "/* select */ drop table t", Verdict{Class: Define, Statements: 1, Head: "DROP TABLE", Offset: 13}},
		{"line comment in front", Trino, "-- select 1\ndelete from t", Verdict{Class: Write, Statements: 1, Head: "DELETE FROM", Offset: 12}},
		{"parentheses in front", Postgres, "((select 1) union select * into t from u)", Verdict{Class: Define, Statements: 1, Head: "SELECT INTO"}},
		{"parentheses around a write", Postgres, "(delete from t)", Verdict{Class: Unknown, Statements: 1, Head: "DELETE FROM", Why: "statement that is not known"}},
		{"byte order mark", Postgres, "\ufeffselect 1", Verdict{Class: Unknown, Statements: 1, Why: "statement that is not known"}},
		{"byte order mark", Trino, "\ufeffselect 1", Verdict{Class: Unknown, Statements: 1, Why: "character outside ASCII that is not in quotes"}},
		{"nested comment", Postgres, "/* /* */ drop table t; */ select 1", Verdict{Class: Read, Statements: 1, Head: "SELECT", Offset: 26}},
		{"nested comment that is open", Postgres, "select 1 /* /* */", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 9, Why: "unterminated comment"}},
		{"comment that does not nest", Trino, "/* /* */ drop table t -- */", Verdict{Class: Define, Statements: 1, Head: "DROP TABLE", Offset: 9}},
		{"comment that may nest", Snowflake, "/* /* */ drop table t -- */ */", Verdict{Class: Unknown, Statements: 1, Why: "comment inside a comment"}},
		{"comment that may nest", ClickHouse, "select 1 /* /* */ drop */", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 9, Why: "comment inside a comment"}},
		{"comment that may nest", Redshift, "select 1 /* /* */ */", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 9, Why: "comment inside a comment"}},
		{"line comment without a line feed", Postgres, "select 1 --; drop table t", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"carriage return ends a comment, or not", Postgres, "select 1 -- x\rdrop table t", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 9, Why: "carriage return inside a comment"}},
		{"lines of Windows", Postgres, "select 1 -- x\r\n", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"comment as white space", Postgres, "drop/**/table/**/t", Verdict{Class: Define, Statements: 1, Head: "DROP TABLE"}},
		{"several statements", Postgres, "COMMIT; DROP SCHEMA s", Verdict{Class: Define, Statements: 2, Head: "DROP SCHEMA", Offset: 8}},
		{"several statements in a read-only transaction", Postgres, "begin read only; select 1; commit; begin read write; copy t to program 'x'", Verdict{Class: Run, Statements: 5, Head: "COPY", Offset: 53, Undoes: "BEGIN READ WRITE"}},
		{"empty statements", Postgres, ";;/**/; select 1;;", Verdict{Class: Read, Statements: 1, Head: "SELECT", Offset: 8}},
		{"nothing", Postgres, " -- nothing\n;", Verdict{Class: Read}},
		{"SQL in a literal", Trino, "EXECUTE IMMEDIATE 'DELETE FROM t'", Verdict{Class: Write, Statements: 1, Head: "DELETE FROM"}},
		{"SQL in a literal in a literal", Trino, "execute immediate 'execute immediate ''drop table t'''", Verdict{Class: Unknown, Statements: 1, Head: "EXECUTE IMMEDIATE", Offset: 18, Why: "string inside a string"}},
		{"SQL in a literal that does not end", Trino, "execute immediate '", Verdict{Class: Unknown, Statements: 1, Head: "EXECUTE IMMEDIATE", Offset: 18, Why: "unterminated string"}},
		{"SQL in a literal of another form", Trino, "execute immediate U&'delete from t'", Verdict{Class: Run, Statements: 1, Head: "EXECUTE IMMEDIATE"}},
		{"SQL in a literal", Snowflake, "EXECUTE IMMEDIATE 'select 1'", Verdict{Class: Run, Statements: 1, Head: "EXECUTE"}},
		{"SQL in a block", Postgres, "DO $$ begin execute 'drop table t'; end $$", Verdict{Class: Run, Statements: 1, Head: "DO"}},
		{"SQL in an argument", Postgres, "select query_to_xml('delete from t', true, true, '')", Verdict{Class: Run, Statements: 1, Head: "SELECT QUERY_TO_XML*()"}},
		{"CTE that writes", Postgres, "with x as (delete from t returning *) select * from x", Verdict{Class: Write, Statements: 1, Head: "WITH DELETE"}},
		{"CTE that writes", Postgres, "with x as (insert into t values (1) returning *) select * from x", Verdict{Class: Write, Statements: 1, Head: "WITH INSERT"}},
		{"CTE that writes", Postgres, "with x as not materialized (update t set a = 1 returning *) select * from x", Verdict{Class: Write, Statements: 1, Head: "WITH UPDATE"}},
		{"CTE that writes in a CTE", Postgres, "with a as (with b as (select 1) delete from t returning *) select * from a", Verdict{Class: Write, Statements: 1, Head: "WITH DELETE"}},
		{"CTE in front of a write", Postgres, "with x as (select 1) delete from t", Verdict{Class: Write, Statements: 1, Head: "WITH DELETE"}},
		{"CTE in front of a merge", Postgres, "with x as (select 1) merge into t using x on true when matched then delete", Verdict{Class: Write, Statements: 1, Head: "WITH MERGE"}},
		{"CTE in front of a write, behind a search clause", Postgres, "with recursive x as (select 1 as a) search depth first by a set b update t set c = 1", Verdict{Class: Write, Statements: 1, Head: "WITH UPDATE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values set ord delete from t`, Verdict{Class: Write, Statements: 1, Head: "WITH DELETE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values set ord update t set a = 1`, Verdict{Class: Write, Statements: 1, Head: "WITH UPDATE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values set ord insert into t values (1)`, Verdict{Class: Write, Statements: 1, Head: "WITH INSERT"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values set ord merge into t using a on true when matched then delete`, Verdict{Class: Write, Statements: 1, Head: "WITH MERGE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search breadth first by values set values delete from t`, Verdict{Class: Write, Statements: 1, Head: "WITH DELETE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `prepare p as with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values set ord delete from t`, Verdict{Class: Write, Statements: 1, Head: "PREPARE DELETE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `declare c cursor for with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values, delete set update delete from t`, Verdict{Class: Write, Statements: 1, Head: "DECLARE UPDATE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) cycle values set values to 1 default 0 using values delete from t`, Verdict{Class: Write, Statements: 1, Head: "WITH DELETE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values set recursive update set set a = 1 from f(1) values`, Verdict{Class: Write, Statements: 1, Head: "WITH UPDATE"}},
		{"CTE in front of a write, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by update, delete set insert select 1 from a`, Verdict{Class: Write, Statements: 1, Head: "WITH UPDATE"}},
		{"CTE in front of a read, behind names of keywords", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by values, delete set ord select * from a`, Verdict{Class: Read, Statements: 1, Head: "WITH"}},
		{"CTE in front of VALUES behind a search clause", Postgres, `with recursive a("values") as (select 1 union all select "values"+1 from a where "values"<2) search depth first by a set b values (1)`, Verdict{Class: Unknown, Statements: 1, Head: "WITH", Why: "WITH without its statement"}},
		{"CTE in front of a write, behind a column like a verb", ClickHouse, `with 1+select as x insert t select x`, Verdict{Class: Write, Statements: 1, Head: "WITH INSERT"}},
		{"CTE with names of verbs", Postgres, "with update as (select 1), delete (x) as (select 2) select * from update, delete", Verdict{Class: Read, Statements: 1, Head: "WITH"}},
		{"CTE without a statement", Postgres, "with x as (select 1)", Verdict{Class: Unknown, Statements: 1, Head: "WITH", Why: "WITH without its statement"}},
		{"CTE and parentheses", Postgres, "with x as (select 1) (select * from x)", Verdict{Class: Read, Statements: 1, Head: "WITH"}},
		{"SELECT INTO", Postgres, "select * into newt from t", Verdict{Class: Define, Statements: 1, Head: "SELECT INTO"}},
		{"SELECT INTO without a space", Postgres, "select 1into newt", Verdict{Class: Define, Statements: 1, Head: "SELECT INTO"}},
		{"SELECT INTO behind a column like a verb", Postgres, "select merge into newt from t", Verdict{Class: Define, Statements: 1, Head: "SELECT INTO"}},
		{"SELECT INTO behind labels", Postgres, "select a.as, 1 as as into newt", Verdict{Class: Define, Statements: 1, Head: "SELECT INTO"}},
		{"EXPLAIN ANALYZE", Postgres, "explain analyze delete from t", Verdict{Class: Write, Statements: 1, Head: "DELETE FROM"}},
		{"EXPLAIN ANALYZE in options", Postgres, "explain (verbose, analyze) create table t as select 1", Verdict{Class: Define, Statements: 1, Head: "CREATE TABLE"}},
		{"EXPLAIN ANALYZE in quotes", Postgres, `explain ("analyze") delete from t`, Verdict{Class: Write, Statements: 1, Head: "DELETE FROM"}},
		{"EXPLAIN ANALYZE in quotes", Redshift, `explain (verbose off, "analyze" on) drop table t`, Verdict{Class: Define, Statements: 1, Head: "DROP TABLE"}},
		{"EXPLAIN with an option that is not known", Trino, "explain (type logical, frobnicate) drop table t", Verdict{Class: Define, Statements: 1, Head: "DROP TABLE"}},
		{"EXPLAIN with a value that is a string", Postgres, "explain (format 'json') delete from t", Verdict{Class: Write, Statements: 1, Head: "DELETE FROM"}},
		{"EXPLAIN without its value", Snowflake, "explain a = ; drop table t", Verdict{Class: Unknown, Statements: 2, Head: "EXPLAIN", Why: "statement that is not known"}},
		{"EXPLAIN ANALYZE of another", Postgres, "explain analyze execute p", Verdict{Class: Run, Statements: 1, Head: "EXECUTE"}},
		{"EXPLAIN of what is not known", Postgres, "explain frobnicate t", Verdict{Class: Unknown, Statements: 1, Head: "EXPLAIN", Why: "statement that is not known"}},
		{"MERGE", Snowflake, "merge into t using s on 1=1 when matched then delete", Verdict{Class: Write, Statements: 1, Head: "MERGE INTO"}},
		{"CREATE TABLE AS", Trino, "create table t as select 1", Verdict{Class: Define, Statements: 1, Head: "CREATE TABLE"}},
		{"CREATE TABLE AS EXECUTE", Postgres, "create table t as execute p", Verdict{Class: Run, Statements: 1, Head: "CREATE TABLE EXECUTE"}},
		{"COPY TO PROGRAM", Postgres, "copy (select 1) to program 'curl x'", Verdict{Class: Run, Statements: 1, Head: "COPY"}},
		{"PREPARE", Postgres, "prepare p as delete from t", Verdict{Class: Write, Statements: 1, Head: "DELETE FROM"}},
		{"PREPARE", Trino, "prepare p from drop table t", Verdict{Class: Define, Statements: 1, Head: "DROP TABLE"}},
		{"DECLARE", Postgres, "declare c cursor with hold for select * from t for update", Verdict{Class: Write, Statements: 1, Head: "DECLARE FOR UPDATE"}},
		{"escape string", Postgres, `select E'\'', '; drop table t; --'`, Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"escape string that goes on", Postgres, "select E'a' -- x\n'\\'; drop table t; --'", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"no escape string", Postgres, `select '\'; drop table t; --'`, Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 12}},
		{"no escape string", Postgres, `select fooE'\'; drop table t; --'`, Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 16}},
		{"backslash that may escape", Redshift, `select '\'; drop table t; --'`, Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "backslash before a quote"}},
		{"backslash that escapes", Snowflake, `select '\'; drop table t; --'`, Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"backslash that does not escape a name", Snowflake, `select "\"; drop table t; --"`, Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 12}},
		{"backslash that escapes a name", ClickHouse, "select `\\`; drop table t; --`", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"backslash that does not escape", Trino, `select '\'; drop table t; --'`, Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 12}},
		{"Unicode escapes in a name", Postgres, `select U&"\0073et_config"('role', 'x', false)`, Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: `name with escapes, U&"…"`}},
		{"dollar tags", Postgres, "select $a$ $$; drop table t; $$ $a$", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"dollars in a name", Postgres, "select a$$; drop table t; --$$", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "$$ inside a name"}},
		{"dollars behind a number", Postgres, "select 1$$; drop table t; --$$", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"dollars that are open", Postgres, "select $a$ x $b$", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "unterminated string"}},
		{"dollars", ClickHouse, "select $1", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "$ outside a name"}},
		{"dollars with a tag", ClickHouse, "select $a$ ; drop table t $1$ $a$", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"dollars with a number", ClickHouse, "select $1$ ; $1$; drop table t", Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 18}},
		{"dollars that stay open", ClickHouse, "select $a$ x $b$", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "unterminated string"}},
		{"dollars behind a digit", ClickHouse, "select 1$a$; drop table t; $a$", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 8, Why: "$ outside a name"}},
		{"dollars outside ASCII", ClickHouse, "select $é$ x $é$", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "$ outside a name"}},
		{"backticks", Snowflake, "select `a`", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 7, Why: "character that is not part of the dialect"}},
		{"line comment of two slashes", Snowflake, "select 1 // '\n; drop table t", Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 16}},
		{"comment of a hash", ClickHouse, "select 1 # '\n; drop table t", Verdict{Class: Define, Statements: 2, Head: "DROP TABLE", Offset: 15}},
		{"path of a stage that looks like a comment", Snowflake, "select $1 from @s/*; drop user x; -- */", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 15, Why: "path of a stage that could be a comment"}},
		{"chain", Snowflake, "select 1 ->> delete from t", Verdict{Class: Write, Statements: 2, Head: "DELETE FROM", Offset: 13}},
		{"chain in parentheses", Snowflake, "select (1 ->> 'a')", Verdict{Class: Unknown, Statements: 2, Head: "SELECT", Offset: 10, Why: "unbalanced parentheses"}},
		{"no chain", Postgres, "select a ->> 'drop'", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"script", Snowflake, "begin drop user x; end", Verdict{Class: Admin, Statements: 2, Head: "DROP USER"}},
		{"letter that folds to another", Trino, "select 1 where 1 in (\u017felect 2)", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 21, Why: "character outside ASCII that is not in quotes"}},
		{"semicolon in parentheses", Postgres, "select (1; drop table t)", Verdict{Class: Unknown, Statements: 2, Head: "SELECT", Offset: 9, Why: "unbalanced parentheses"}},
		{"NUL", Postgres, "select '\x00'", Verdict{Class: Unknown, Statements: 1, Offset: 8, Why: "NUL byte"}},
		{"another character set", Postgres, "select '\x83\\'", Verdict{Class: Unknown, Statements: 1, Offset: 8, Why: "text that is not UTF-8"}},
		{"SET of the character set", Postgres, "set client_encoding = 'SJIS'", Verdict{Class: Admin, Statements: 1, Head: "SET client_encoding"}},
		{"SET of the strings", Postgres, "set standard_conforming_strings = off", Verdict{Class: Unknown, Statements: 1, Head: "SET", Why: "statement that is not known"}},
		{"SET of a quoted setting", Postgres, `set "default_transaction_read_only" = off`, Verdict{Class: Unknown, Statements: 1, Head: "SET", Why: "statement that is not known"}},
		{"SET that undoes", Postgres, "set session default_transaction_read_only = off", Verdict{Class: Session, Statements: 1, Head: "SET default_transaction_read_only", Undoes: "SET default_transaction_read_only"}},
		{"RESET of the role", Postgres, "reset role", Verdict{Class: Admin, Statements: 1, Head: "RESET ROLE"}},
		{"RESET of the role by another name", Postgres, "discard all", Verdict{Class: Admin, Statements: 1, Head: "DISCARD ALL"}},
		{"DISCARD that leaves the role", Redshift, "discard temp", Verdict{Class: Session, Statements: 1, Head: "DISCARD"}},
		{"RESET that undoes", Postgres, "reset transaction_read_only", Verdict{Class: Session, Statements: 1, Head: "RESET transaction_read_only", Undoes: "RESET transaction_read_only"}},
		{"SET TRANSACTION that undoes", Postgres, "set transaction read write", Verdict{Class: Session, Statements: 1, Head: "SET TRANSACTION", Undoes: "SET TRANSACTION READ WRITE"}},
		{"characteristics that undo", Postgres, "set session characteristics as transaction isolation level serializable, read write", Verdict{Class: Session, Statements: 1, Head: "SET SESSION CHARACTERISTICS", Undoes: "SET SESSION CHARACTERISTICS READ WRITE"}},
		{"START TRANSACTION that undoes", Trino, "start transaction read write", Verdict{Class: Session, Statements: 1, Head: "START TRANSACTION", Undoes: "START TRANSACTION READ WRITE"}},
		{"set_config", Postgres, `select 1 from pg_catalog."set_config" ('default_transaction_read_only', 'off', false)`, Verdict{Class: Run, Statements: 1, Head: "SELECT SET_CONFIG()", Undoes: "set_config("}},
		{"set_config in a string", Postgres, "prepare p as select set_config('a', 'b', false)", Verdict{Class: Run, Statements: 1, Head: "PREPARE SET_CONFIG()", Undoes: "set_config("}},
		{"settings clause that undoes", ClickHouse, "select 1 settings max_threads = 1, `readonly` = 0", Verdict{Class: Admin, Statements: 1, Head: "SELECT SETTINGS", Undoes: "SETTINGS readonly"}},
		{"settings clause in escapes", ClickHouse, "select 1 settings `read\\x6fnly` = 0", Verdict{Class: Admin, Statements: 1, Head: "SELECT SETTINGS", Sets: "settings with escaped names"}},
		{"a limit that is set", Postgres, "set local Statement_Timeout to 0", Verdict{Class: Session, Statements: 1, Head: "SET statement_timeout", Sets: "statement_timeout"}},
		{"a limit that is set in passing", Redshift, "select 1; set statement_timeout = 0", Verdict{Class: Session, Statements: 2, Head: "SET statement_timeout", Offset: 10, Sets: "statement_timeout"}},
		{"a limit that is quoted", Postgres, `set "statement_timeout" = 0`, Verdict{Class: Unknown, Statements: 1, Head: "SET", Why: "statement that is not known"}},
		{"a limit of a session", Snowflake, "alter session set query_tag = 'x' statement_timeout_in_seconds = 0", Verdict{Class: Session, Statements: 1, Head: "ALTER SESSION SET", Sets: "statement_timeout_in_seconds"}},
		{"a quoted limit of a session", Snowflake, `alter session set "STATEMENT_TIMEOUT_IN_SECONDS" = 0`, Verdict{Class: Session, Statements: 1, Head: "ALTER SESSION SET", Sets: "statement_timeout_in_seconds"}},
		{"a limit that is unset", Snowflake, "alter session unset timezone, statement_timeout_in_seconds", Verdict{Class: Session, Statements: 1, Head: "ALTER SESSION UNSET", Sets: "statement_timeout_in_seconds"}},
		{"a property", Trino, "set session query_max_run_time = '9h'", Verdict{Class: Session, Statements: 1, Head: "SET SESSION", Sets: "query_max_run_time"}},
		{"a quoted property", Trino, `reset session "Query_Max_Scan_Physical_Bytes"`, Verdict{Class: Session, Statements: 1, Head: "RESET SESSION", Sets: "query_max_scan_physical_bytes"}},
		{"another property", Trino, "set session query_max_execution_time = '9h'", Verdict{Class: Session, Statements: 1, Head: "SET SESSION"}},
		{"a property in a string", Trino, "execute immediate 'set session query_max_run_time = ''9h'''", Verdict{Class: Session, Statements: 1, Head: "SET SESSION", Sets: "query_max_run_time"}},
		{"a property that is prepared", Trino, "prepare p from reset session query_max_run_time", Verdict{Class: Session, Statements: 1, Head: "PREPARE", Sets: "query_max_run_time"}},
		{"properties of a query", Trino, "with session query_max_run_time = '9h' select 1", Verdict{Class: Admin, Statements: 1, Head: "WITH SESSION", Sets: "session properties"}},
		{"settings that limit", ClickHouse, "set max_threads = 1, MAX_EXECUTION_TIME = 0", Verdict{Class: Session, Statements: 1, Head: "SET", Sets: "max_execution_time"}},
		{"a settings clause that limits", ClickHouse, "select * from (select 1 settings max_execution_time = 0) settings `max_bytes_to_read` = 0", Verdict{Class: Read, Statements: 1, Head: "SELECT", Sets: "max_execution_time, max_bytes_to_read"}},
		{"a settings clause of an INSERT", ClickHouse, "insert into t settings async_insert = 1, max_execution_time = 0 select 1", Verdict{Class: Write, Statements: 1, Head: "INSERT", Sets: "max_execution_time"}},
		{"a profile of settings", ClickHouse, "set profile = 'x'", Verdict{Class: Admin, Statements: 1, Head: "SET", Sets: "profile"}},
		{"a column of a limit's name", ClickHouse, "select max_execution_time from t", Verdict{Class: Read, Statements: 1, Head: "SELECT"}},
		{"function in escapes", ClickHouse, "select * from `fi\\x6ce`('x')", Verdict{Class: Run, Statements: 1, Head: "SELECT ()"}},
		{"function in quotes", ClickHouse, "select * from \"url\"('x')", Verdict{Class: Run, Statements: 1, Head: "SELECT URL()"}},
		{"function by a name in a string", Snowflake, "select identifier('system$x')(1)", Verdict{Class: Run, Statements: 1, Head: "SELECT IDENTIFIER()()"}},
		{"schema with statements", Postgres, "create schema s grant all on t to x", Verdict{Class: Unknown, Statements: 1, Head: "CREATE SCHEMA", Offset: 16, Why: "statement inside a statement"}},
		{"script that looks like a transaction", Snowflake, "begin name := 1; drop user x; end", Verdict{Class: Unknown, Statements: 3, Head: "BEGIN", Why: "statement that is not known"}},
		{"transaction with a name", Snowflake, "begin work name x; drop user x", Verdict{Class: Admin, Statements: 2, Head: "DROP USER", Offset: 19}},
		{"query that looks like data", ClickHouse, "insert into t with format as (select * from url('x')) select * from format", Verdict{Class: Run, Statements: 1, Head: "INSERT URL()"}},
		{"query that looks like data", ClickHouse, "insert into t from u format select url('x')", Verdict{Class: Run, Statements: 1, Head: "INSERT URL()"}},
		{"engine behind a table's name", ClickHouse, "create table t as values engine = URL('x')", Verdict{Class: Run, Statements: 1, Head: "CREATE TABLE URL()"}},
		{"statements in parallel", ClickHouse, "select 1 parallel with drop table t", Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 9, Why: "statement inside a statement"}},
		{"action behind a comma", Postgres, "alter table t add a int, disable row level security", Verdict{Class: Admin, Statements: 1, Head: "ALTER TABLE DISABLE"}},
		{"action that is not known", Postgres, "alter table t add a int, frobnicate", Verdict{Class: Unknown, Statements: 1, Head: "ALTER TABLE", Why: "action of ALTER that is not known"}},
		{"engine behind a subquery", ClickHouse, "create table t (a Int default (select 1)) engine = URL('x')", Verdict{Class: Run, Statements: 1, Head: "CREATE TABLE ENGINE"}},
		{"too many parentheses", Postgres, "select " + strings.Repeat("(", 2000), Verdict{Class: Unknown, Statements: 1, Head: "SELECT", Offset: 1006, Why: "too many parentheses inside each other"}},
		{"dialect", "oracle", "select 1", Verdict{Class: Unknown, Statements: 1, Why: "dialect that is not known"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Classify(c.d, c.text)
			got.Besides = 0 // TestBesides
			if got != c.want {
				t.Errorf("%s: %q\n got %+v\nwant %+v", c.d, c.text, got, c.want)
			}
		})
	}
}

// TestBesides: the worst class of a message hides no other.
func TestBesides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d       Dialect
		text    string
		class   Class
		besides string
	}{
		{Postgres, "select 1; begin; commit", Session, ""},
		{Postgres, "drop table t; insert into t values (1); grant select on t to x; select 1", Grant, "write define"},
		{Postgres, "create table x as with a as (delete from t returning *) select * from a", Define, "write"},
		{Postgres, "create table x as (with a as (update t as u set a = 1 returning *) select * from a)", Define, "write"},
		{Postgres, "create table x as with a as (with b as (select 1) insert into t select 1 returning *) select * from a", Define, "write"},
		{Postgres, "create table x as with a as (merge into t using u on true when matched then delete returning *) select * from a", Define, "write"},
		{Postgres, "create table x as select * from t for update", Define, "write"},
		{Postgres, "create table x as (select * from t for no key update)", Define, "write"},
		{Postgres, "create table x as with a as (select 1 as delete), update as (select 2) select * from a, update", Define, ""},
		{Postgres, "create table t (update int, delete int, insert int)", Define, ""},
		{Postgres, "create table t (a int references u on delete cascade on update set null)", Define, ""},
		{Postgres, "copy (delete from t returning *) to stdout", Run, "write"},
		{Postgres, "create policy p on t for update using (true)", Admin, ""},
		{Postgres, "create schema s authorization x", Grant, "define"},
		{Postgres, "alter table t add a int, owner to x, disable trigger y", Admin, "define grant"},
		{Postgres, "create table x as select nextval('s'), dblink('x')", Run, "write define"},
		{Postgres, "explain (costs off) create table x as with a as (delete from t returning *) select * from a", Read, ""},
		{Postgres, "explain analyze create table x as with a as (delete from t returning *) select * from a", Define, "write"},
		{Postgres, "prepare p as insert into t values (1); drop table t", Define, "write"},
		{Postgres, "frobnicate; drop table t; grant a to b", Unknown, "define grant"},
		{Postgres, "drop table t\x00", Unknown, "define"},
		{Snowflake, "alter table t set tag a = 'b'; delete from t", Admin, "write define"},
		{Snowflake, "begin drop user x; end", Admin, "run"},
		{Trino, "execute immediate 'alter table t set authorization x'", Grant, "define"},
		{Trino, "insert into t with function f(x int) returns int return x select f(1)", Run, "write"},
		{Trino, "insert into t (a) with session a = 'b' with function f() returns int return 1 select f()", Admin, "write run"},
		{Trino, "create table t with (format = 'ORC') as with function f() returns int return 1 select f()", Run, "define"},
		{Trino, "create table t as (with function f() returns int return 1 select f())", Run, "define"},
		{Trino, "create table t as with function as (select 1), session (a) as (select 2) select * from session", Define, ""},
		{ClickHouse, "create table t engine = Memory as (with 1 as x select * from url('x'))", Run, "define"},
	} {
		v := Classify(c.d, c.text)
		var besides []string
		for _, class := range classes {
			if v.Besides.Has(class) {
				besides = append(besides, string(class))
			}
		}
		if got := strings.Join(besides, " "); v.Class != c.class || got != c.besides {
			t.Errorf("%s: %q: got %s and %q, want %s and %q", c.d, c.text, v.Class, got, c.class, c.besides)
		}
	}
}

// TestFunctionsWithEffects: calling them is not reading.
func TestFunctionsWithEffects(t *testing.T) {
	t.Parallel()
	for d, calls := range map[Dialect]string{
		Postgres: "pg_read_file('x') pg_read_binary_file('x') pg_ls_dir('x') lo_import('x') lo_export(1,'x') lo_unlink(1) lowrite(1,'x') " +
			"pg_terminate_backend(1) pg_cancel_backend(1) dblink('x','y') dblink_exec('x') set_config('a','b',true) query_to_xml('x') " +
			"pg_reload_conf() pg_logical_emit_message(true,'a','b') pg_import_system_collations('x') database_to_xml() ts_stat('x') crosstab4('x') nextval('s') setval('s',1)",
		ClickHouse: "file('x') url('x') remote('h',t) remoteSecure('h',t) s3('x') executable('x') mysql('h') postgresql('h') hdfs('x') jdbc('x') " +
			"odbc('x') s3Cluster('c','x') azureBlobStorage('x') icebergS3('x') sqlite('x')",
		Snowflake: "SYSTEM$CANCEL_ALL_QUERIES(1) system$wait(1) SYSTEM$SEND_EMAIL('x') get_presigned_url('x')",
		Trino:     "query('x') raw_query('x')",
	} {
		for call := range strings.FieldsSeq(calls) {
			for _, text := range []string{"select " + call, "select 1 where 1 in (select x." + call + " from t)", "with a as (select " + strings.ToUpper(call) + ") select 1"} {
				if d == ClickHouse && strings.Contains(text, "x."+call) {
					continue // a function has no database
				}
				want := Run
				switch {
				case strings.HasPrefix(call, "database_to_xml"):
					want = Read
				case strings.HasPrefix(call, "crosstab"), strings.HasPrefix(call, "nextval"), strings.HasPrefix(call, "setval"):
					want = Write
				}
				if v := Classify(d, text); v.Class != want {
					t.Errorf("%s: %q is %+v, want %s", d, text, v, want)
				}
			}
		}
	}
}

// TestNamesAreNotVerbs: a wrong no is an outage.
func TestNamesAreNotVerbs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"select 1 as delete", `select 1 as "delete"`, "select 1 as insert from t", `select "drop", t.update, t."into" from t`,
		"select max(update), count(delete), sum(merge) from t", "select 'drop table t; delete from u'", "select 1 -- drop table t",
		"select (update) from t where (update is null)", "with delete as (select 1) select * from delete", "select 1 as into from t",
		"select 1 as select, 2 as with, 3 as as, 4 as for, 5 as set", `select * from "nextval" where a in (1)`, "select case when a then 1 end as end",
		"select truncate, grant_id, created, policy from t", "select substring(a from 1 for 2) from t", "select a as call, b as execute from t",
	} {
		for d := range grammars {
			if v := Classify(d, text); v.Class != Read {
				t.Errorf("%s: %q is %+v, want read", d, text, v)
			}
		}
	}
}
