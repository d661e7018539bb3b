{#- moment turns a seed's text into the type that a log's times have. -#}
{% macro moment(column) %}{{ return(adapter.dispatch('moment', 'oidc_dbt_integration')(column)) }}{% endmacro %}
{% macro default__moment(column) %}cast({{ column }} as timestamp with time zone){% endmacro %}
{% macro trino__moment(column) %}from_iso8601_timestamp({{ column }}){% endmacro %}
{% macro snowflake__moment(column) %}cast({{ column }} as timestamp_tz){% endmacro %}
{% macro clickhouse__moment(column) %}parseDateTime64BestEffortOrNull({{ column }}, 6, 'UTC'){% endmacro %}

{#- json turns a seed's text into the type in which records are loaded. -#}
{% macro json(column) %}{{ return(adapter.dispatch('json', 'oidc_dbt_integration')(column)) }}{% endmacro %}
{% macro default__json(column) %}{{ column }}{% endmacro %}
{% macro postgres__json(column) %}cast({{ column }} as jsonb){% endmacro %}
{% macro redshift__json(column) %}json_parse({{ column }}){% endmacro %}
{% macro snowflake__json(column) %}parse_json({{ column }}){% endmacro %}

{#- structures says whether this warehouse builds the logs that have structures. -#}
{% macro structures() %}{{ return(target.type == 'duckdb') }}{% endmacro %}
