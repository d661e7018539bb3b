package statement

import (
	"slices"
	"strings"
	"testing"
)

// dbtComment is what dbt puts in front of every statement.
const dbtComment = `/* {"app": "dbt", "dbt_version": "1.11.2", "profile_name": "jaffle", "target_name": "prod", "node_id": "model.jaffle.it's; drop"} */` + "\n"

// inventory is what dbt's adapters send, in the words of their macros, and
// what hooks and packages add. A line that begins with a class is of that class.
var inventory = map[Dialect]string{
	Postgres: `
read    select 1 as id
read    with a as (select 1), b (x) as not materialized (select * from a) select * from b order by 1 limit 5
read    with recursive t(n) as (values (1) union all select n+1 from t where n < 100) select sum(n) from t
read    select count(*) as failures, count(*) != 0 as should_warn from ( select * from ( with child as (select id from "db"."s"."t" where id is not null) select * from child ) dbt_internal_test
        ) as q
read    select * from (select a from "d"."s"."m") as model_limit_subq limit 5
read    select '{"a": 1}'::json ->> 'a', x #>> '{a,b}', y @> '{}' , z ? 'k', -1 - -2 from t
read    select $$it's; drop table x$$, $tag$ $$ drop $tag$, E'it\'s', U&'d\0061t\+000061', B'01', X'1F', 'a' 'b'
read    (select 1) union all (select 2)
read    ((with a as (select 1) select * from a))
read    values (1, 'a'), (2, 'b')
read    table t
read    show server_version
read    explain select 1
read    explain (costs off, format json) insert into t values (1)
read    explain analyze select 1
read    select nspname from pg_namespace where nspname ilike 'x' and not exists (select 1 from pg_tables)
read    select distinct 'db' as database, proname as name, ns.nspname as schema from pg_proc join pg_namespace as ns on pronamespace = ns.oid
read    fetch 100 from c
session begin
session BEGIN; COMMIT
session start transaction isolation level serializable read only
session commit work
session rollback to savepoint s
session savepoint s
session release savepoint s
session set statement_timeout = 0
session set local search_path to "a", public
session set time zone 'UTC'
session SET client_encoding TO 'UTF8'
session set session characteristics as transaction read only
session deallocate all
session prepare p (int) as select $1
session declare "c" cursor for select 1
session close c
session SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;
write   insert into "d"."s"."t" ("a", "b") ( select "a", "b" from "t__dbt_tmp" )
write   insert into t (a) values (%s),(%s)
write   with s as (select 1) insert into t select * from s
write   update t set x = 1 from s as DBT_INTERNAL_SOURCE where t.id = s.id; insert into t select 1
write   delete from t as DBT_INTERNAL_DEST where (id) in (select id from s)
write   merge into t as DBT_INTERNAL_DEST using s on (a = b) when matched then update set x = 1 when not matched then insert (x) values (1)
write   truncate table t
write   lock table t in share mode
write   select nextval('s')
write   select * from t for update
define  create table "d"."s"."t__dbt_tmp" as ( select 1 as delete, 'x' as "drop" );
define  create temporary table t as (with a as (select 1) select * from a)
define  create unlogged table t as (select 1)
define  create table t (id int, note text check (note <> '')) ; insert into t (id) ( select id from ( select 1 as id ) as q );
write   insert into t (id) select 1; select 1
define  create or replace view "d"."s"."v" as ( select 1 );
define  create materialized view if not exists v as select 1;
define  create unique index if not exists "i" on t using hash (a)
define  create schema if not exists "s"
define  drop schema if exists "s" cascade
define  drop table if exists t cascade
define  drop materialized view if exists v cascade
define  drop index if exists "s"."i"
define  alter table t rename to "u"
define  alter table if exists only "d"."s"."t" add column "policy" varchar(10), drop column x
define  alter table t add column "c__dbt_alter" text; update t set "c__dbt_alter" = "c"; alter table t drop column "c" cascade; alter table t rename column "a" to "c"
define  alter materialized view v rename to w
define  refresh materialized view v
define  comment on table t is $dbt_comment_literal_block$it's; grant all$dbt_comment_literal_block$;
define  comment on column t.c is null
define  vacuum analyze t
define  analyze t
define  reindex table t
grant   grant select on t to "reporter"
grant   revoke select on t from public
grant   alter table t owner to x
grant   alter default privileges in schema s grant select on tables to r
grant   create schema s authorization bob
run     create or replace function f(x int) returns int as $$ select 1; $$ language sql
run     create or replace procedure p() language plpgsql as $$ begin delete from t; end $$
run     do $$ begin execute 'drop table t'; end $$
run     call p()
run     execute p(1)
run     copy t from stdin
run     copy (select 1) to program 'curl x'
run     create extension dblink
run     create trigger x before insert on t execute function f()
run     select pg_terminate_backend(1)
admin   set role "transformer"
admin   create user x
admin   create role r; select 1
admin   alter system set x = 1
admin   create policy p on t
admin   alter table t enable row level security
admin   reset session authorization
admin   reassign owned by a to b
`,
	Redshift: `
read    select 1 as id
read    SHOW TABLES FROM SCHEMA "d"."s"
read    SHOW GRANTS ON TABLE "d"."s"."t"
read    SHOW COLUMNS FROM TABLE "d"."s"."t" LIKE 'a%'
read    with bound_views as (select ordinal_position from information_schema."columns") select * from bound_views
read    select pg_backend_pid()
read    select '\\', 'a\\b' from t
session SET query_group TO 'dbt'
session RESET query_group
session USE "d"
session RESET USE
session begin;
session set enable_case_sensitive_identifier to true
write   delete from t using s where t.id = s.id
write   merge into t using s on t.id = s.id remove duplicates
define  create table "d"."s"."t" backup no diststyle key distkey (id) compound sortkey(a, b) as (select 1);
define  create temporary table "t" as (select 1)
define  create view v as (select 1) with no schema binding;
define  create or replace view v as select 1
define  create materialized view v backup yes diststyle even auto refresh no as (select 1)
define  alter materialized view v auto refresh yes
define  alter table t alter column "c" type varchar(100)
define  alter table t append from s
define  drop table if exists t cascade
define  refresh materialized view v
define  vacuum full t to 99 percent
define  analyze t
grant   grant select on t to group x
run     unload ('select 1') to 's3://b/p' iam_role default
run     copy t from 's3://b/p' iam_role default
run     create external schema s from data catalog database 'd'
run     select pg_terminate_backend(1)
run     create model m from t
admin   create datashare d
admin   alter table t row level security on
admin   attach rls policy p on t to role r
`,
	Snowflake: `
read    select current_warehouse() as warehouse
read    show terse schemas in database d
read    show objects in "D"."S" limit 10000 from 'X';
read    show objects in d.s starts with 'T' limit 1
read    show user functions in d.s
read    show parameters like 'query_tag' in session
read    describe table d.s.t
read    desc view d.s.v
read    show grants on d.s.t
read    show dynamic tables like 'T' in schema d.s ->> select "name", 'it\'s' from $1
read    with tables as (select 1), columns as (select 2) select * from tables join columns using ("a") // drop
read    select $$it's; drop$$, a:b.c::string, v[0]:"x", 'a' || $var, {'k': 1}, t.$1 from t, lateral flatten(input => t.a) where x = :1
read    select * from table(result_scan(last_query_id()))
read    select system$typeof(1), identifier('a'), x -> x + 1
read    select delete, "drop", t.update from t
read    explain using text select 1
session BEGIN
session begin transaction name x
session commit;
session begin; commit;
session use warehouse w
session use schema d.s
session alter session set query_tag = 'it''s' timezone = 'UTC'
session alter session unset query_tag
session set x = (select max(a) from t)
session ALTER SESSION SET autocommit=False
write   begin; insert into t select 1; commit;
write   insert overwrite into t (a) values (%s)
write   insert all into a into b select 1
write   delete from t DBT_INTERNAL_TARGET using s where 1=1
write   merge into t as DBT_INTERNAL_DEST using s as DBT_INTERNAL_SOURCE on (a) when matched then update set x = 1
write   truncate table t
write   update t set a = 1
define  create or replace transient table d.s.t as (with a as (select 1) select * from a);
define  create or replace temporary table t as (select 1)
define  create or replace table t cluster by (a) copy grants as (select 1)
define  create or replace transient table t clone u copy grants
define  create or replace dynamic table t target_lag = '1 minute' warehouse = w refresh_mode = AUTO as (select 1)
define  create or replace dynamic iceberg table t target_lag = downstream warehouse = w external_volume = 'v' as (select 1)
define  create or replace iceberg table t external_volume = 'v' catalog = 'snowflake' as (select 1)
define  create or replace secure view v copy grants as (select 1);
define  create or replace materialized view v as select 1
define  create or replace table t (a int with masking policy p) with row access policy q on (a) as select 1
define  create schema if not exists d.s
define  create or replace file format f type = csv
define  drop dynamic table if exists t
define  drop view if exists v cascade
define  alter table t swap with u
define  alter table t cluster by (a); alter table t resume recluster;
define  alter dynamic table t set target_lag = '1 minute'
define  alter dynamic table t refresh
define  alter dynamic table t set immutable where (a < 1)
define  alter dynamic iceberg table t suspend
define  alter iceberg table t set comment = $$it's$$;
define  alter table t alter "A" COMMENT $$x$$, b COMMENT $$y$$;
define  alter table t add column policy varchar, owner int
define  alter table t drop column a, b
define  alter view v rename to d.s.w
define  comment on table t IS $$it's; drop$$;
define  undrop table t
grant   grant select on t to role r
grant   grant ownership on table t to role r copy grants
run     WITH m__dbt_sp AS PROCEDURE () RETURNS STRING LANGUAGE PYTHON HANDLER = 'main' EXECUTE AS CALLER AS $$ def main(session): pass $$ CALL m__dbt_sp();
run     CREATE OR REPLACE PROCEDURE d.s.m__dbt_sp () RETURNS STRING LANGUAGE PYTHON AS $$ x $$; CALL d.s.m__dbt_sp();
run     drop procedure if exists d.s.m__dbt_sp()
run     CREATE OR REPLACE FUNCTION f (a int) RETURNS int AS $$ a $$
run     execute immediate 'drop table t'
run     execute immediate $$ begin drop table t; end $$
run     begin let x := 1; return x; end;
run     declare x int
run     begin insert into t values (1); end;
run     copy into t from @s
run     put file:///etc/passwd @s
run     select $1 from @s/path
run     select system$cancel_all_queries(1)
run     select identifier('system$abort_session')(1)
run     create task t schedule = '1 minute' as select 1
run     create stage s url = 's3://b'
run     create external table t location = @s
run     list @s
admin   use role accountadmin
admin   use secondary roles all
admin   create user u
admin   create or replace network policy p
admin   create storage integration i
admin   alter account set x = 1
admin   alter warehouse w resume
admin   drop database d
admin   alter session set abort_detached_query = true
admin   alter table t add row access policy p on (a)
admin   alter table t modify column a unset masking policy
admin   alter table t set tag x = 'y'
`,
	Trino: `
read    select 1 as id
read    with rawdata as (select 1) select * from rawdata
read    values 1, 2
read    table t
read    show schemas from c like 'a'
read    show create table t
read    describe output p
read    explain select 1
read    explain (type distributed) delete from t
read    explain analyze verbose select 1
read    EXECUTE IMMEDIATE 'SELECT 1'
read    EXECUTE IMMEDIATE 'select ''it''''s; drop'' from t where a = ?' USING 'x', TIMESTAMP '2026-01-01 00:00:00'
read    select CHAR 'd', VARBINARY '65', JSON '{"a":1}', U&'d\0061', X'65', a -> a + 1, x[1], "a""b" from t /* /* */
session use c.s
session set session query_max_run_time = '30m'
session reset session query_max_run_time
session start transaction read only
session commit
session deallocate prepare p
session prepare p from select ? from t
write   prepare p from insert into t values (?)
write   EXECUTE IMMEDIATE 'INSERT INTO t VALUES (?, ?)' USING 1, 'a'
write   insert into "memory"."default"."t" ("a") values (1)
write   insert into t (select 1)
write   delete from t where (a) in (select a from s);
write   update t set a = CAST(a AS varchar);
write   merge into t as DBT_INTERNAL_DEST using s on ((a)) when matched then update set x = 1
write   truncate table t
define  create table if not exists t with (format = 'ORC', partitioned_by = ARRAY['a']) as ( select 1 );
define  create or replace table t as (select 1)
define  create or replace view v security invoker as select 1
define  create materialized view v grace period interval '1' hour with (x = 1) as select 1 ;
define  alter materialized view "v" rename to "w";
define  alter view v rename to w
define  alter table t add column "a" varchar
define  alter table t set properties x = 'y'
define  alter table t execute optimize(file_size_threshold => '10MB')
define  drop materialized view if exists v
define  create schema if not exists c.s with (location = 's3://b/p')
define  drop schema if exists s cascade
define  comment on table t is 'it''s';
define  refresh materialized view v
define  analyze t
define  EXECUTE IMMEDIATE 'drop table t'
grant   grant select on t to "r"
grant   deny select on t to user x
grant   alter table t set authorization x
run     call system.sync_partition_metadata('s', 't', 'FULL')
run     execute p using 1
run     alter table t execute add_files(location => 's3://b')
run     select * from table(pg.system.query(query => 'delete from t'))
run     create function f(x int) returns int return x
run     with function f(x int) returns int return x select f(1)
run     insert into t with function f(x int) returns int return x select f(1)
run     create table t as with function f(x int) returns int return x select f(1)
admin   set role admin
admin   set session authorization bob
admin   create role r
admin   create catalog c using memory
admin   with session query_max_run_time = '9h' select 1
`,
	ClickHouse: "" +
		"read    SELECT 1 FORMAT JSON\n" +
		"read    select name, value, readonly as readonly from system.settings where readonly = 1\n" +
		"read    with 1 as x, (select 2) as y, z as (select 3) select x, y from z settings max_threads = 1 # drop\n" +
		"read    WITH quantile(0.9)(x) AS q SELECT q FROM t\n" +
		"read    FROM t SELECT a\n" +
		"read    EXISTS DATABASE `d`\n" +
		"read    DESCRIBE TABLE (select 1)\n" +
		"read    show create table d.t\n" +
		"read    explain plan indexes = 1, actions = 1 select 1\n" +
		"read    explain ast insert into t select 1\n" +
		"read    SELECT DISTINCT partition_id FROM cluster('c', system.parts) WHERE active\n" +
		"read    select 'it\\'s', \"a\\\"b\", `c\\`d`, [1, 2], {'k': 1}, {p:String}, x -> x + 1, t.1.2, 1e5 from t // drop\n" +
		"read    select 1 as delete, insert from t\n" +
		"session use d\n" +
		"session SET allow_nondeterministic_mutations = 1, mutations_sync = 2\n" +
		"write   insert into `d`.`t` (\"a\") settings async_insert = 1 format CSV\n1,'; drop table x\n" +
		"write   insert into d.t select a from d.u settings max_threads = 1\n" +
		"write   INSERT INTO t VALUES (1, 'a;b', [1])\n" +
		"write   insert into t with a as (select 1) select * from a\n" +
		"write   insert into d.url (a) values (1)\n" +
		"write   delete from `d`.`t` where (a) in (select a from `d`.`u`)\n" +
		"write   truncate table t\n" +
		"define  CREATE TABLE IF NOT EXISTS `__dbt_exchange_test_0` (test String) ENGINE MergeTree() ORDER BY tuple()\n" +
		"define  create table `d`.`t` ON CLUSTER \"c\" engine = ReplicatedMergeTree('/a/{uuid}', '{r}') order by (a) settings index_granularity = 1 empty as ( select engine, format from system.tables )\n" +
		"define  create or replace table `d`.`t` as `d`.`u`\n" +
		"define  CREATE OR REPLACE TABLE t CLONE AS u\n" +
		"define  create temporary table t engine = Memory as (select 1)\n" +
		"grant   create or replace view `d`.`v` DEFINER = x SQL SECURITY DEFINER as ( select 1 settings a = 1 )\n" +
		"define  create or replace view `d`.`v` SQL SECURITY INVOKER as ( select 1 settings a = 1 )\n" +
		"define  create materialized view if not exists v to t as select 1\n" +
		"define  create materialized view v REFRESH EVERY 1 DAY to t as select 1\n" +
		"define  CREATE OR REPLACE DICTIONARY d (a Int) primary key a SOURCE(CLICKHOUSE(user 'u' password 'p' db 'd' query \"select 1\")) LAYOUT(FLAT()) LIFETIME(1)\n" +
		"define  CREATE DATABASE IF NOT EXISTS `d` ON CLUSTER \"c\" ENGINE Atomic\n" +
		"define  EXCHANGE TABLES a AND b ON CLUSTER \"c\"\n" +
		"define  rename table a to b\n" +
		"define  drop table if exists t on cluster \"c\" SYNC\n" +
		"define  drop dictionary if exists d\n" +
		"define  alter table `d`.`t` on cluster \"c\" delete where (a) in (select 1)\n" +
		"define  ALTER TABLE t DROP COLUMN IF EXISTS `a`, ADD COLUMN IF NOT EXISTS `b` String\n" +
		"define  alter table t modify column a String\n" +
		"define  alter table t replace partition id 'x' from u, replace partition id 'y' from u\n" +
		"define  alter table t modify comment 'it\\'s'\n" +
		"define  alter table v modify query select 1\n" +
		"define  alter table v modify refresh every 1 day\n" +
		"define  SYSTEM SYNC REPLICA  on cluster \"c\" d.t\n" +
		"define  OPTIMIZE TABLE t FINAL\n" +
		"grant   grant on cluster \"c\" select on d.t to r\n" +
		"grant   revoke select on d.t from r\n" +
		"run     select * from s3('https://b/x', 'CSV')\n" +
		"run     select file('/etc/passwd')\n" +
		"run     SELECT * FROM url('http://x', CSV, 'a String')\n" +
		"run     insert into function remote('h', d.t) values (1)\n" +
		"run     insert into function null('a Int') values (1)\n" +
		"run     create table t (a Int) engine = PostgreSQL('h', 'd', 't', 'u', 'p')\n" +
		"run     create table t as s3('https://b/x')\n" +
		"run     create database d engine = MySQL('h', 'd', 'u', 'p')\n" +
		"run     create dictionary d (a Int) primary key a source(executable(command 'id' format 'CSV')) layout(flat())\n" +
		"run     select 1 into outfile 'x'\n" +
		"run     create function f as (x) -> x + 1\n" +
		"run     backup table t to Disk('d', 'x')\n" +
		"run     alter table t freeze\n" +
		"run     attach table t from '/x' (a Int) engine = MergeTree order by a\n" +
		"admin   create user u\n" +
		"admin   create row policy p on t\n" +
		"admin   SYSTEM SHUTDOWN\n" +
		"admin   kill query where 1\n" +
		"admin   set role r\n" +
		"admin   set readonly = 0\n" +
		"admin   set max_threads = 1, allow_ddl = 1\n" +
		"admin   select 1 settings readonly = 0\n",
}

// statements returns the lines of the inventory, by class.
func statements(d Dialect) (list []struct {
	class Class
	text  string
}) {
	for line := range strings.Lines(inventory[d]) {
		first, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case slices.Contains(classes[:], Class(first)):
			list = append(list, struct {
				class Class
				text  string
			}{Class(first), strings.TrimLeft(rest, " ")})
		case len(list) > 0:
			list[len(list)-1].text += "\n" + strings.TrimSuffix(line, "\n")
		}
	}
	return list
}

func TestWhatDbtSends(t *testing.T) {
	t.Parallel()
	for d := range grammars {
		for _, c := range statements(d) {
			for _, text := range []string{c.text, dbtComment + c.text, "\n\n  " + c.text + "\n"} {
				if v := Classify(d, text); v.Class != c.class || v.Head == "" || v.Why != "" {
					t.Errorf("%s: %q is %+v, want class %s", d, text, v, c.class)
				}
			}
		}
	}
}
