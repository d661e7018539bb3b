{#- json_text returns a member of a JSON column as text, null where there is none. path is a list of keys. -#}
{% macro json_text(column, path) %}{{ return(adapter.dispatch('json_text', 'oidc_dbt_audit')(column, path)) }}{% endmacro %}

{% macro default__json_text(column, path) %}
  {{- exceptions.raise_compiler_error("oidc_dbt_audit does not support the adapter " ~ target.type ~ ": it reads records on "
      ~ "athena, bigquery, clickhouse, databricks, duckdb, postgres, redshift, snowflake, spark and trino") -}}
{% endmacro %}

{% macro duckdb__json_text(column, path) -%}
  json_extract_string({{ column }}, '$."{{ path | join('"."') }}"')
{%- endmacro %}

{% macro postgres__json_text(column, path) -%}
  (cast({{ column }} as jsonb) #>> array['{{ path | join("', '") }}'])
{%- endmacro %}

{% macro redshift__json_text(column, path) -%}
  cast({{ column }}."{{ path | join('"."') }}" as varchar)
{%- endmacro %}

{% macro snowflake__json_text(column, path) -%}
  cast({{ column }}['{{ path | join("']['") }}'] as varchar)
{%- endmacro %}

{% macro bigquery__json_text(column, path) -%}
  json_value({{ column }}, '$."{{ path | join('"."') }}"')
{%- endmacro %}

{% macro spark__json_text(column, path) -%}
  get_json_object({{ column }}, '$["{{ path | join('"]["') }}"]')
{%- endmacro %}

{% macro trino__json_text(column, path) -%}
  json_extract_scalar({{ column }}, '$["{{ path | join('"]["') }}"]')
{%- endmacro %}

{% macro athena__json_text(column, path) %}{{ return(oidc_dbt_audit.trino__json_text(column, path)) }}{% endmacro %}

{% macro clickhouse__json_text(column, path) -%}
  JSONExtract({{ column }}, '{{ path | join("', '") }}', 'Nullable(String)')
{%- endmacro %}


{#- json_number is json_text for a whole number. -#}
{% macro json_number(column, path) %}{{ return(adapter.dispatch('json_number', 'oidc_dbt_audit')(column, path)) }}{% endmacro %}

{% macro default__json_number(column, path) -%}
  cast({{ oidc_dbt_audit.json_text(column, path) }} as {{ dbt.type_bigint() }})
{%- endmacro %}

{% macro redshift__json_number(column, path) -%}
  cast({{ column }}."{{ path | join('"."') }}" as bigint)
{%- endmacro %}

{% macro clickhouse__json_number(column, path) -%}
  JSONExtract({{ column }}, '{{ path | join("', '") }}', 'Nullable(Int64)')
{%- endmacro %}


{#- json_part returns a member that is a list or an object, as JSON text. -#}
{% macro json_part(column, path) %}{{ return(adapter.dispatch('json_part', 'oidc_dbt_audit')(column, path)) }}{% endmacro %}

{% macro default__json_part(column, path) %}{{ return(oidc_dbt_audit.json_text(column, path)) }}{% endmacro %}

{% macro duckdb__json_part(column, path) -%}
  cast(json_extract({{ column }}, '$."{{ path | join('"."') }}"') as varchar)
{%- endmacro %}

{% macro redshift__json_part(column, path) -%}
  json_serialize({{ column }}."{{ path | join('"."') }}")
{%- endmacro %}

{% macro bigquery__json_part(column, path) -%}
  json_query({{ column }}, '$."{{ path | join('"."') }}"')
{%- endmacro %}

{% macro trino__json_part(column, path) -%}
  json_format(json_extract({{ column }}, '$["{{ path | join('"]["') }}"]'))
{%- endmacro %}

{% macro athena__json_part(column, path) %}{{ return(oidc_dbt_audit.trino__json_part(column, path)) }}{% endmacro %}

{% macro clickhouse__json_part(column, path) -%}
  nullIf(JSONExtractRaw({{ column }}, '{{ path | join("', '") }}'), '')
{%- endmacro %}
