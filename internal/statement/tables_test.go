package statement

import (
	"strings"
	"testing"
)

// clickhouseCases are texts in which a word's place decides what it is. Behind a
// bar is what the text sets.
const clickhouseCases = `
run     with 1 as a from numbers(1) as x, file('/etc/hostname', 'LineAsString') as y select *
run     with 1 as a select * from (with 2 as b from numbers(1) as x, url('x') as y select *)
run     describe (with 1 as a from numbers(1) as x, file('x') as y select *)
run     with as from numbers(1) as x, file('x') as y select *
run     with 1 as a, file('x') as b select b
run     with file(a) as (select 1) select 1
read    with quantile(0.5)(x) as q, toDate(a) as b from t select q, b
write   with quantile(0.5)(x) as q insert into t select q
write   with as insert into t select 1
write   with from as (select 1) insert into t select 1
write   with insert as (select 1) insert into t select 1
run     with 1 as a insert into function python('x') select 1

read    with as as (select getSetting('max_execution_time') as q) select * from as settings max_execution_time = 7 | max_execution_time
read    select * from t as as where as settings max_execution_time = 7 | max_execution_time
read    select 1. settings max_execution_time = 7 | max_execution_time
unknown select as parallel with drop table t
run     select * from as into outfile 'x'
run     create table as engine = URL('x')
run     create table as engine EmbeddedRocksDB('x') order by a
run     create table exists engine = EmbeddedRocksDB order by a
run     create table table engine = EmbeddedRocksDB order by a
run     create table select engine = EmbeddedRocksDB order by a
define  create table engine (a Int) engine = Memory
define  create table t engine = Memory as select engine from system.tables
read    select 1 as into, 2 as format, 3 as engine from t

run     create dictionary d (a Int) primary key a source(clickhouse(host 'h' port 9000 table 't')) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(~host~ 'h' table 't')) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(name collection)) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(query 'select * from url(''x'')')) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(query "select * from filesystem('/')")) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(query 'select \'a\'')) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(query concat('a', 'b'))) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(query ~select 1~)) layout(flat())
run     create dictionary d (a Int) primary key a source(clickhouse(table 't' where 'x')) layout(flat())
run     create dictionary d (a Int) primary key a source(rabbitmq(table 't')) layout(flat())
run     create dictionary d (a Int) primary key a source(http(url 'x' format 'CSV')) layout(flat())
unknown create dictionary d (a Int) primary key a source(clickhouse(query 'frobnicate')) layout(flat())
define  create dictionary d (a Int) primary key a source(clickhouse(query 'select max(a) as a from t')) layout(flat())
define  create dictionary d (a Int) primary key a source(clickhouse(db "d" table 't' update_field 'u' update_lag 15)) layout(hashed(shards 2)) lifetime(min 0 max 9)
define  create dictionary d (a Int) primary key a source(null()) layout(flat())
run     create table t (a Int) engine = MergeTree order by a settings disk = disk(type = s3, endpoint = 'x')
run     alter table t modify setting disk = disk(type = s3, endpoint = 'x')
define  create table t (a Int) engine = MergeTree order by a settings disk = 'cold'
grant   create view v definer = x sql security definer as select 1
grant   create view v definer x as select 1
grant   create or replace view select definer = x as select 1
grant   create materialized view v to t sql security none as select 1
define  create view v sql security invoker as select definer, security from t

run     select * from filesystem('/')
run     select * from t left join eval('x') using a
run     select * from t, arrowstream('x')
run     select * from t as where, bigquery('x')
run     select * from where, bigquery('x')
run     select * from (numbers(3), python('x'))
run     select * from array join python('x')
run     select * from t array join a join python('x') using a
run     select * from cluster('c', prometheusQuery('x'))
run     select * from clusterAllReplicas(c, python('x'))
run     select * from ~python~('x')
run     describe python('x')
run     desc table python('x')
run     select * from t join u on where, python('x')
run     select * from t join u on a = limit, python('x')
run     select * from t join u on a * limit, python('x')
run     select * from t join u on a and order, python('x')
run     select * from t join u using group, python('x')
run     select * from t join u on select, python('x')
run     select * from t join u on a = with, python('x')
run     select * from select, python('x')
run     select * from (select, python('x'))
unknown insert into t select * from (with x, python('x'))
read    select * from (with f(1) as x, g(2) as y select x, y) union all select f(1), g(2) from t
read    from t select f(1), g(2)
run     from python('x')
run     (from python('x') select *)
run     ((with 1 as a from numbers(1) as b, python('x') as c select *))
run     explain from python('x') select *
run     explain select * from (describe (select * from python('x')))
run     insert into t select * from python('x')
run     create table t as python('x')
run     create view v as select * from python('x')
run     alter table v modify query select * from python('x')
run     delete from t where a in (select a from python('x'))
run     select * from frobnicate(1)
read    select * from d.parameterized(a = 1)
read    select * from numbers(toUInt64(10)) as a, generateSeries(1, 2) b, values('a Int', (toInt8(1))) c, view(select f(1), g(2)) d
read    select * from cluster('c', system.parts) where f(a) in (select g(b) from (select h(c), i(d) from t))
read    select a, f(b) from t final array join f(c) as x, g(d) as y prewhere h(1) group by i(1), j(2) order by k(1), l(2) limit 1 by m(1), n(2)
read    select extract(year from toDate(a)), substring(f(a) from g(b) for 2), trim(both 'x' from f(a)) from t
read    select * from t as a left array join f(b) as c inner join u on (f(a.x) = g(u.x)) and h(1)
read    select (select f(1), g(2)), (from t select f(1), g(2)) union all select f(1), g(2)
write   insert into t select * from input('a Int') settings max_threads = 1

admin   select 1 settings profile = 'x' | profile
admin   insert into t settings ~profile~ = 'x' select 1 | profile
unknown insert into t format CSV settings max_execution_time = 0
unknown insert into t format CSV /* */ SETTINGS profile = 'x'
write   insert into t format CSV 'settings'
`

func TestPlacesInClickHouse(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(strings.ReplaceAll(clickhouseCases, "~", "`")) {
		class, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		text, sets, _ := strings.Cut(strings.TrimSpace(rest), " | ")
		if v := Classify(ClickHouse, text); string(v.Class) != class || v.Sets != sets {
			t.Errorf("%q is %+v, want %s that sets %q", text, v, class, sets)
		}
	}
}
