package setup

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
)

// A Company is a dbt project of many models, in the layers and with the
// features that projects of that size have.
type Company struct {
	Workspace string
	Env       map[string]string // for dbt

	models int
	style  style
}

// A shape is how some models of a layer are configured: its config, and what
// its text has more than the others of the layer.
type shape struct{ name, config, before, after string }

// A style is how projects of one adapter are written.
type style struct {
	integer, text, instant string   // types
	project                string   // further lines of dbt_project.yml
	hook                   string   // the columns of the table that hooks write to, and its options
	second                 []string // arguments of dbt for the second build
	noConstraints          bool
	plainComments          bool // none of columns, and none with quotes, which fakesnow does not read
	noUnitTests            bool
	staging, intermediate  []shape
	marts                  []shape
}

// newer has an incremental model read what is new only.
const newer = "{% if is_incremental() %}where placed_at > (" +
	"select coalesce(max(placed_at), cast('2026-01-01 00:00:00' as @instant)) from {{ this }}){% endif %}"

// later has one read what may have changed, too.
const later = "{% if is_incremental() %}where placed_at >= (select min(placed_at) from {{ this }}) /* again */{% endif %}"

// changing are the columns of a model whose schema changes with the second build.
const changing = ", {% if var('second', false) %}customer_id + 1 as added{% else %}customer_id + 2 as dropped{% endif %}"

// asking has a model run queries while it is compiled, and log what they gave.
const asking = `{% set newest = newest_of(ref('@up')) %}{% do log('newest is ' ~ newest) %}
{%- set statuses = dbt_utils_like_values(ref('raw_orders'), 'status') %}
-- newest: {{ newest }}; {% for s in statuses %}{{ s }} {% endfor %}
`

// common are the shapes that every adapter has.
var (
	views  = shape{name: "view", config: "materialized='view'"}
	tables = shape{name: "table", config: "materialized='table'"}
	within = shape{name: "ephemeral", config: "materialized='ephemeral'"}
	asks   = shape{name: "asks", config: "materialized='table', tags=['nightly', 'it''s']", before: asking}
	hooked = shape{name: "hooked", config: `materialized='table',
	pre_hook=["{{ note('before', this) }}"],
	post_hook=[{"sql": "{{ note('after', this) }}", "transaction": true}, "{{ note('last', this) }}"]`}
)

var styles = map[string]style{
	"postgres": {
		integer: "integer", text: "varchar(256)", instant: "timestamp",
		hook:    "(node varchar(256), moment varchar(32), noted_at timestamp)",
		project: "  +grants: {select: ['reporter']}\n",
		staging: []shape{views, within, {name: "granted", config: "materialized='view', " +
			"grants={'select': ['reporter', 'auditor']}"}, tables},
		intermediate: []shape{
			views, within, asks,
			{name: "unlogged", config: "materialized='table', unlogged=true, indexes=[{'columns': ['id'], 'unique': true}]"},
		},
		marts: []shape{
			hooked,
			{name: "indexed", config: "materialized='table', " +
				"indexes=[{'columns': ['id'], 'type': 'hash'}, {'columns': ['customer_id', 'placed_at']}]"},
			{name: "contract", config: "materialized='table'"},
			{name: "contract_incremental", config: "materialized='incremental', " +
				"on_schema_change='append_new_columns'", after: newer},
			{name: "materialized_view", config: "materialized='materialized_view', " +
				"indexes=[{'columns': ['id']}], on_configuration_change='apply'"},
			{name: "append", config: "materialized='incremental', incremental_strategy='append'", after: newer},
			{name: "delete_insert", config: "materialized='incremental', " +
				"incremental_strategy='delete+insert', unique_key='id'", after: later},
			{name: "delete_insert_keys", config: "materialized='incremental', incremental_strategy='delete+insert', " +
				"unique_key=['id', 'customer_id'], incremental_predicates=[\"amount > 0\"]", after: later},
			{name: "merge", config: "materialized='incremental', incremental_strategy='merge', " +
				"unique_key='id', merge_exclude_columns=['customer_id']", after: later},
			{name: "microbatch", config: "materialized='incremental', incremental_strategy='microbatch', " +
				"unique_key='id', event_time='placed_at', begin='2026-01-01', batch_size='year'"},
			{name: "changing", config: "materialized='incremental', " +
				"on_schema_change='sync_all_columns', unique_key='id'", after: later},
			{name: "analyzed", config: `materialized='table', post_hook=["analyze {{ this }}", "comment on table {{ this }} is 'it''s; analysed'",
	"create index if not exists \"{{ this.name }}_by\" on {{ this }} (amount)", "grant select on {{ this }} to auditor"]`},
		},
	},
	"trino": {
		integer: "bigint", text: "varchar", instant: "timestamp(6)",
		hook: "(node varchar, moment varchar, noted_at timestamp(6))", noConstraints: true,
		staging: []shape{views, within, tables, {name: "invoker", config: "materialized='view', " +
			"view_security='invoker'"}},
		intermediate: []shape{views, within, asks, {name: "format", config: "materialized='table', " +
			"properties={'format': \"'PARQUET'\", 'partitioning': \"ARRAY['customer_id']\"}"}},
		marts: []shape{
			hooked,
			{name: "contract", config: "materialized='table'"},
			{name: "replaced", config: "materialized='table', on_table_exists='replace'"},
			{name: "dropped", config: "materialized='table', on_table_exists='drop'"},
			{name: "materialized_view", config: "materialized='materialized_view', " +
				"persist_docs={'relation': false, 'columns': false}"},
			{name: "append", config: "materialized='incremental', " +
				"incremental_strategy='append', views_enabled=false", after: newer},
			{name: "delete_insert", config: "materialized='incremental', " +
				"incremental_strategy='delete+insert', unique_key='id'", after: later},
			{name: "merge", config: "materialized='incremental', incremental_strategy='merge', unique_key='id'", after: later},
			{name: "microbatch", config: "materialized='incremental', incremental_strategy='microbatch', " +
				"event_time='placed_at', begin='2026-01-01', batch_size='year'"},
			{name: "changing", config: "materialized='incremental', on_schema_change='sync_all_columns'", after: later},
			{name: "analyzed", config: `materialized='table', post_hook=["analyze {{ this }}", "comment on table {{ this }} is 'it''s; analysed'"]`},
		},
	},
	"clickhouse": {
		integer: "Int64", text: "String", instant: "DateTime",
		hook:    "(node String, moment String, noted_at DateTime) engine = MergeTree order by noted_at",
		staging: []shape{views, within, {name: "ordered", config: "materialized='table', order_by='id'"}},
		intermediate: []shape{views, within, asks, {name: "engine", config: "materialized='table', " +
			"engine='ReplacingMergeTree()', order_by=['customer_id', 'id'], partition_by='toYYYYMM(placed_at)'"}},
		marts: []shape{
			hooked,
			{name: "contract", config: "materialized='table', order_by='id'"},
			{name: "indexed", config: "materialized='table', order_by='id', " +
				"indexes=[{'name': 'by_amount', 'definition': 'amount type minmax granularity 2'}]"},
			{name: "projected", config: "materialized='table', order_by='id', " +
				"projections=[{'name': 'sums', 'query': 'select customer_id, sum(amount) group by customer_id'}]"},
			{name: "append", config: "materialized='incremental', incremental_strategy='append', order_by='id'", after: newer},
			{name: "legacy", config: "materialized='incremental', unique_key='id', order_by='id'", after: later},
			{name: "delete_insert", config: "materialized='incremental', " +
				"incremental_strategy='delete_insert', unique_key='id', order_by='id'", after: later},
			{name: "overwrite", config: "materialized='incremental', incremental_strategy='insert_overwrite', " +
				"partition_by='toYYYYMM(placed_at)', order_by='id'", after: later},
			{name: "microbatch", config: "materialized='incremental', incremental_strategy='microbatch', " +
				"event_time='placed_at', begin='2026-01-01', batch_size='year', unique_key='id', order_by='id'"},
			{name: "changing", config: "materialized='incremental', " +
				"on_schema_change='sync_all_columns', order_by='id'", after: later},
			{name: "settings", config: `materialized='table', order_by='id',
	settings={'index_granularity': 4096}, ttl='placed_at + interval 100 year',
	post_hook=["optimize table {{ this }} final", "alter table {{ this }} modify comment 'it''s; optimised'"]`},
		},
	},
	"snowflake": {
		plainComments: true, noUnitTests: true, // fakesnow does not do what these, and what follows, need
		second:  []string{"--exclude", "resource_type:snapshot", "config.materialized:incremental"},
		integer: "integer", text: "varchar", instant: "timestamp_ntz",
		hook:         "(node varchar, moment varchar, noted_at timestamp_ntz)",
		staging:      []shape{views, within, tables, {name: "secure", config: "materialized='view', secure=true"}},
		intermediate: []shape{views, within, asks, {name: "permanent", config: "materialized='table', transient=false"}},
		marts: []shape{
			hooked,
			{name: "contract", config: "materialized='table'"},
			{name: "copied", config: "materialized='table', copy_grants=true"},
			{name: "append", config: "materialized='incremental', " +
				"incremental_strategy='append', tmp_relation_type='table'", after: newer},
			{name: "delete_insert", config: "materialized='incremental', " +
				"incremental_strategy='delete+insert', unique_key='id', tmp_relation_type='table'", after: later},
			{name: "merge", config: "materialized='incremental', incremental_strategy='merge', " +
				"unique_key='id', tmp_relation_type='table'", after: later},
		},
	},
}

// Models is how many models a project has: n, and OIDC_DBT_MODELS in a round
// that has the time.
func Models(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv("OIDC_DBT_MODELS")
	if text == "" {
		return n
	}
	const least = 36 // each layer has each of its shapes
	many, err := strconv.Atoi(text)
	if err != nil || many < least {
		t.Fatalf("OIDC_DBT_MODELS is %q, want %d or more", text, least)
	}
	return many
}

// NewCompany writes a project of so many models, whose profile has the output.
func NewCompany(t testing.TB, adapter string, models int, output string) *Company {
	t.Helper()
	s, ok := styles[adapter]
	if !ok {
		t.Fatalf("no style for %q", adapter)
	}
	c := &Company{Workspace: t.TempDir(), models: models, style: s}
	c.Env = map[string]string{"DBT_PROFILES_DIR": c.Workspace + "/profiles", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
	c.write(t, "profiles/profiles.yml", "company:\n  target: prod\n  outputs:\n    prod: "+output+"\n")
	c.write(t, "dbt_project.yml", strings.Replace(projectFile, "columns: true", fmt.Sprintf("columns: %t", !s.plainComments), 1)+s.project)
	c.write(t, "macros/company.sql", macros)
	c.Grow(t, 40)
	yaml := &strings.Builder{}
	yaml.WriteString("models:\n")
	perLayer := models / 3
	for i := range perLayer {
		c.model(t, yaml, "staging", "stg", i, s.staging, "raw_orders")
		c.model(t, yaml, "intermediate", "int", i, s.intermediate, name("stg", i))
	}
	for i := range models - 2*perLayer {
		c.model(t, yaml, "marts", "mart", i, s.marts, name("int", i%perLayer))
	}
	text := yaml.String()
	if s.plainComments {
		text = strings.NewReplacer("it's; ", "", "'\"\n        data_type", "\"\n        data_type", "\"the '", "\"the ").Replace(text)
	}
	c.write(t, "models/models.yml", text)
	c.rest(t)
	return c
}

func name(layer string, i int) string { return fmt.Sprintf("%s_%03d", layer, i) }

func (c *Company) write(t testing.TB, path, text string) {
	t.Helper()
	types := strings.NewReplacer("@integer", c.style.integer, "@text", c.style.text, "@instant", c.style.instant, "@hook", c.style.hook)
	Write(t, c.Workspace, path, types.Replace(text))
}

// model writes one model and what its tests are.
func (c *Company) model(t testing.TB, yaml *strings.Builder, layer, prefix string, i int, shapes []shape, up string) {
	t.Helper()
	s, me := shapes[i%len(shapes)], name(prefix, i)
	body := bodies[layer]
	if s.name == "changing" {
		body = strings.Replace(body, "@columns", "@columns"+changing, 1)
	}
	other := up
	if layer != "staging" { // of the same layer, and never ephemeral by chance alone
		other = name(map[string]string{"intermediate": "stg", "marts": "int"}[layer], (i*7+3)%(c.models/3))
	}
	text := "{{ config(" + s.config + ") }}\n" + s.before + body + s.after + "\n"
	names := strings.NewReplacer("@columns", "id, customer_id, amount, status, placed_at", "@up", up, "@other", other, "@n", fmt.Sprint(i%11))
	c.write(t, "models/"+layer+"/"+me+".sql", names.Replace(text))
	fmt.Fprintf(yaml, "  - name: %s\n    description: \"%s %d: it's; drop table x -- {{ target.name }}\"\n", me, layer, i)
	if s.name == "ephemeral" {
		return
	}
	if strings.HasPrefix(s.name, "contract") {
		yaml.WriteString("    config: {contract: {enforced: true}}\n")
		if !c.style.noConstraints {
			yaml.WriteString("    constraints: [{type: check, expression: \"id > 0\", name: " + me + "_positive}]\n")
		}
	}
	yaml.WriteString("    columns:\n")
	for j, column := range strings.Fields("id customer_id amount status placed_at") {
		kind := []string{"@integer", "@integer", "@integer", "@text", "@instant"}[j]
		fmt.Fprintf(yaml, "      - name: %s\n        description: \"the '%s'\"\n        data_type: %s\n", column, column, c.typed(kind))
		if tests := testsOf(s, column, i); tests != "" {
			yaml.WriteString("        data_tests: [" + tests + "]\n")
		}
	}
}

func (c *Company) typed(kind string) string {
	return map[string]string{"@integer": c.style.integer, "@text": c.style.text, "@instant": c.style.instant}[kind]
}

// testsOf returns the tests of a column.
func testsOf(s shape, column string, i int) string {
	adds := strings.Contains(s.config, "'incremental'")
	for _, word := range []string{"unique_key", "overwrite", "microbatch"} {
		adds = adds && !strings.Contains(s.config, word)
	}
	switch {
	case column == "id" && adds:
		return "not_null"
	case column == "id":
		return "not_null, unique"
	case column == "status" && i%5 == 0:
		return "{accepted_values: {arguments: {values: [placed, shipped, \"it''s\"]}, config: {severity: warn}}}"
	case column == "customer_id" && i%7 == 0:
		return "{relationships: {arguments: {to: ref('raw_customers'), field: customer_id}, config: {where: \"amount > 0\"}}}"
	case column == "amount" && i%9 == 0:
		return "{positive: {config: {store_failures: true}}}"
	}
	return ""
}

const projectFile = `name: company
version: "1.0"
profile: company
flags: {send_anonymous_usage_stats: false}
on-run-start: ["create table if not exists {{ target.schema }}.hook_log @hook", "{{ note('start') }}"]
on-run-end: ["{{ note('end') }}", "{% for r in results %}{% do log(r.node.name) %}{% endfor %}"]
snapshots: {company: {+schema: history}}
seeds: {company: {raw_customers: {+quote_columns: false}}}
models:
  +persist_docs: {relation: true, columns: true}
  company: {staging: {+schema: staging}}
`

const macros = `{% macro note(moment, node=none) %}
insert into {{ target.schema }}.hook_log select '{{ node or "run" }}', '{{ moment }}; it''s', cast('2026-01-01 00:00:00' as @instant)
{% endmacro %}

{% macro newest_of(relation) %}
  {% set sql = 'select max(placed_at) as newest from (select * from ' ~ ref('raw_orders') ~ ') t' %}
  {% if execute %}{% do return(run_query(sql).columns[0][0]) %}{% endif %}
{% endmacro %}

{% macro dbt_utils_like_values(relation, column) %}
  {% call statement('values', fetch_result=true) %}
    -- the distinct values
    select {{ column }} as value, count(*) as n from {{ relation }} group by {{ column }} order by 2 desc
  {% endcall %}
  {% do return(load_result('values')['table'].columns[0].values() if execute else []) %}
{% endmacro %}

{% test positive(model, column_name) %}
  with broken as (select {{ column_name }} from {{ model }} where {{ column_name }} < 0) select * from broken
{% endtest %}
`

// bodies are the models' texts, by layer.
var bodies = map[string]string{
	"staging": `with raw as (
    select * from {{ ref('@up') }} -- it's all of it; drop table x
), renamed as (
    select cast(order_id as @integer) as id, cast(customer_id as @integer) as customer_id, cast(amount as @integer) as amount,
        cast(status as @text) as status, cast(placed_at as @instant) as placed_at
    from raw /* delete from raw; "quoted */
)
select @columns from renamed where status <> 'x; drop table @n --'
`,
	"intermediate": `with orders as (select * from {{ ref('@up') }}), others as (select id as other, amount as more from {{ ref('@other') }}),
ranked as (
    select orders.id, orders.customer_id, orders.amount + coalesce(others.more, 0) as amount, orders.status, orders.placed_at,
        row_number() over (partition by orders.id order by orders.placed_at desc) as n
    from orders left join others on orders.id = others.other
), "update" as (select @columns from ranked where n = 1)
select id, customer_id, cast(case when amount > 1000000 then 1000000 when status = 'it''s' then 1 else amount end as @integer) as amount,
    cast(status as @text) as status, placed_at
from "update"
`,
	"marts": `{%- set columns = ['id', 'customer_id'] %}
select @columns from (
    select {% for c in columns %}{{ c }}, {% endfor %}cast(amount as @integer) as amount,
        cast(status as @text) as status, cast(placed_at as @instant) as placed_at
    from {{ ref('@up') }} where id in (select id from {{ ref('@other') }})
) as "set"
`,
}

// Grow writes seeds of so many orders; those that were there before have changed.
func (c *Company) Grow(t testing.TB, orders int) {
	t.Helper()
	seed := &strings.Builder{}
	seed.WriteString("order_id,customer_id,amount,status,placed_at\n")
	for i := 1; i <= orders; i++ {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i*orders) * time.Hour)
		fmt.Fprintf(seed, "%d,%d,%d,%s,%s\n", i, 1+i%5, i*orders, []string{"placed", "shipped", "it's"}[i%3], at.Format(time.DateTime))
	}
	c.write(t, "seeds/raw_orders.csv", seed.String())
	c.write(t, "seeds/raw_customers.csv", "customer_id,name\n1,ada\n2,gra'ce; --\n3,a\\da\n4,\"o\"\"q\"\n5,é\n")
}

// rest writes what is not a model.
func (c *Company) rest(t testing.TB) {
	t.Helper()
	c.write(t, "tests/no_order_without_a_customer.sql", "select o.order_id from {{ ref('raw_orders') }} o "+
		"left join {{ ref('raw_customers') }} c on o.customer_id = c.customer_id where c.customer_id is null\n")
	c.write(t, "analyses/totals.sql", "select status, sum(amount) from {{ ref('raw_orders') }} group by status\n")
	c.write(t, "models/rest.yml", `sources:
  - name: raw
    schema: marts
    config:
      loaded_at_field: placed_at
      freshness: {error_after: {count: 100000, period: day}}
    tables: [{name: raw_orders}]
exposures:
  - name: dashboard
    type: dashboard
    owner: {name: ada}
    depends_on: [ref('mart_000')]
`)
	c.write(t, "snapshots/history.yml", `snapshots:
  - name: orders_by_time
    relation: ref('stg_000')
    config: {unique_key: id, strategy: timestamp, updated_at: placed_at, hard_deletes: invalidate}
  - name: orders_by_columns
    relation: ref('raw_orders')
    config: {unique_key: order_id, strategy: check, check_cols: [amount, status]}
  - name: orders_by_all
    relation: ref('raw_orders')
    config: {unique_key: order_id, strategy: check, check_cols: all, hard_deletes: new_record}
`)
	if !c.style.noUnitTests {
		c.unitTests(t)
	}
}

// unitTests writes tests of models that read other models' tables.
func (c *Company) unitTests(t testing.TB) {
	t.Helper()
	text := &strings.Builder{}
	text.WriteString("unit_tests:\n")
	for i := 0; i < c.models/3; i += len(c.style.staging) {
		fmt.Fprintf(text, "  - name: status_of_%d\n    model: %s\n    given:\n"+
			"      - input: ref('raw_orders')\n        rows: [{order_id: 1, customer_id: 2, amount: 3, "+
			"status: \"it's; drop\", placed_at: \"2026-01-01 00:00:00\"}]\n"+
			"    expect: {rows: [{id: 1, status: \"it's; drop\"}]}\n", i, name("stg", i))
	}
	c.write(t, "models/unit_tests.yml", text.String())
}

// ExpectCompanyBuilt builds a project, and again with data and columns that have
// changed, and expects that nothing is denied. It returns what was sent.
func (g *Guarded) ExpectCompanyBuilt(t testing.TB, c *Company) []guard.Entry {
	t.Helper()
	var all []guard.Entry
	again := append([]string{"build", "--vars", "{second: true}", "--exclude-resource-type", "unit_test"}, c.style.second...)
	for _, args := range [][]string{{"build"}, again} {
		began := time.Now()
		out, err := dbtWithin(time.Hour, Python(t), c.Workspace, c.Env, args...)
		sent := g.Entries()
		denied, allowed := g.Denied()
		if err != nil || !strings.Contains(out, "Completed successfully") || len(denied) > 0 || allowed < 3*c.models {
			t.Fatalf("dbt %q: %v; %d statements, denied %q\n%s", args, err, allowed, denied, out)
		}
		t.Logf("dbt %q: %d models, %d statements in %s", args, c.models, allowed, time.Since(began).Round(time.Second))
		all = append(all, sent...)
		c.Grow(t, 60)
	}
	return all
}
