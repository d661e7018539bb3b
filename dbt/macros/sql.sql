{#- text_null is null, of the type of text. -#}
{% macro text_null() %}{{ return(adapter.dispatch('text_null', 'oidc_dbt_audit')()) }}{% endmacro %}
{% macro default__text_null() %}cast(null as {{ dbt.type_string() }}){% endmacro %}
{% macro clickhouse__text_null() %}cast(null as Nullable(String)){% endmacro %}

{#- text casts to text; null stays null. -#}
{% macro text(expression) %}{{ return(adapter.dispatch('text', 'oidc_dbt_audit')(expression)) }}{% endmacro %}
{% macro default__text(expression) %}cast({{ expression }} as {{ dbt.type_string() }}){% endmacro %}
{% macro clickhouse__text(expression) %}cast({{ expression }} as Nullable(String)){% endmacro %}

{#- literal is a string of a variable as SQL. -#}
{% macro literal(value) %}'{{ dbt.escape_single_quotes(value | string) }}'{% endmacro %}

{#- sha256 is the hash of a text in hexadecimal. -#}
{% macro sha256(expression) %}{{ return(adapter.dispatch('sha256', 'oidc_dbt_audit')(expression)) }}{% endmacro %}
{% macro duckdb__sha256(expression) %}sha256({{ expression }}){% endmacro %}
{% macro postgres__sha256(expression) %}encode(sha256(convert_to({{ expression }}, 'UTF8')), 'hex'){% endmacro %}
{% macro redshift__sha256(expression) %}sha2({{ expression }}, 256){% endmacro %}
{% macro snowflake__sha256(expression) %}sha2({{ expression }}, 256){% endmacro %}
{% macro bigquery__sha256(expression) %}to_hex(sha256({{ expression }})){% endmacro %}
{% macro spark__sha256(expression) %}sha2({{ expression }}, 256){% endmacro %}
{% macro trino__sha256(expression) %}lower(to_hex(sha256(to_utf8({{ expression }})))){% endmacro %}
{% macro athena__sha256(expression) %}{{ return(oidc_dbt_audit.trino__sha256(expression)) }}{% endmacro %}
{% macro clickhouse__sha256(expression) %}lower(hex(SHA256({{ expression }}))){% endmacro %}

{#- like_user compares a user with a pattern of the vars, whose last character may be `*`. Both are in lower case. -#}
{% macro like_user(user, pattern) -%}
  ({{ user }} = {{ pattern }}
   or (substr({{ pattern }}, length({{ pattern }}), 1) = '*'
       and substr({{ user }}, 1, length({{ pattern }}) - 1) = substr({{ pattern }}, 1, length({{ pattern }}) - 1)))
{%- endmacro %}

{#- between_marks is the part of a text between two marks, null where there is no first mark. -#}
{% macro between_marks(text, first, second) -%}
  case when {{ text }} like '%{{ first }}%'
    then {{ dbt.split_part(dbt.split_part(text, "'" ~ first ~ "'", 2), "'" ~ second ~ "'", 1) }} end
{%- endmacro %}

{#- label is the value of one of BigQuery's labels. -#}
{% macro label(labels, key) %}{{ return(adapter.dispatch('label', 'oidc_dbt_audit')(labels, key)) }}{% endmacro %}
{% macro default__label(labels, key) %}(select max(l.value) from unnest({{ labels }}) as l where l.key = '{{ key }}'){% endmacro %}
{% macro duckdb__label(labels, key) %}list_filter({{ labels }}, lambda l: l.key = '{{ key }}')[1].value{% endmacro %}
