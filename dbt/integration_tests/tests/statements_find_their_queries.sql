-- The statements whose text is in a log that is read have their query, the others none.
{%- set found = ["''"] %}
{%- for kind, query in [('snowflake', 'select 1 as snow'), ('postgres', 'select 1 as pg'), ('trino', 'select 1 as trino'), ('clickhouse', 'select 1 as ch')] %}
  {%- if oidc_dbt_audit.reads(kind) %}{% do found.append("'" ~ query ~ "'") %}{% endif %}
{%- endfor %}
with statements as (
    select
        query_id,
        {{ dbt.split_part(dbt.split_part('statement_key', "'-statement-'", 2), "'@'", 1) }} as query
    from {{ ref('oidc_dbt__statements') }}
)

select * from statements where (query in ({{ found | join(', ') }})) <> (query_id is not null)
