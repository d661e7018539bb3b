{#- logs returns the kinds of log that are read: var oidc_dbt_logs, or the warehouse's own. -#}
{% macro logs() %}
  {%- set own = {
    'snowflake': 'snowflake', 'bigquery': 'bigquery', 'redshift': 'redshift', 'databricks': 'databricks',
    'athena': 'cloudtrail', 'postgres': 'postgres', 'trino': 'trino', 'clickhouse': 'clickhouse',
  } -%}
  {%- set kinds = var('oidc_dbt_logs', none) or [own.get(target.type, 'table')] -%}
  {{- return(kinds if kinds is not string else [kinds]) -}}
{% endmacro %}

{% macro reads(kind) %}{{ return(kind in oidc_dbt_audit.logs()) }}{% endmacro %}

{#- recent limits a log to the days that are looked at. -#}
{% macro recent(time) -%}
  {{ time }} >= {{ oidc_dbt_audit.ago(var('oidc_dbt_lookback_days') | int * 86400) }}
{%- endmacro %}

{#- union_of_logs selects from each staging model of a part: logins or queries. -#}
{% macro union_of_logs(part, columns) %}
  {%- set known = ['snowflake', 'bigquery', 'redshift', 'databricks', 'cloudtrail', 'postgres', 'trino', 'clickhouse', 'table'] -%}
  {%- for kind in oidc_dbt_audit.logs() -%}
    {%- if kind not in known -%}
      {{- exceptions.raise_compiler_error("var oidc_dbt_logs has " ~ kind ~ ", want any of " ~ known | join(", ")) -}}
    {%- endif %}
    {%- if not loop.first %}

union all
    {% endif %}
select '{{ kind }}' as log_kind, '{{ kind }}:' || {{ columns[0] }} as {{ 'login' if part == 'logins' else 'query' }}_key, {{ columns | join(', ') }} from {{ ref('stg_oidc_dbt__' ~ part ~ '_' ~ kind) }}
  {%- endfor %}
{% endmacro %}
