{#- All times of the package are in UTC, in a type without a zone. -#}

{#- from_ms turns milliseconds since 1970 into a time. -#}
{% macro from_ms(expression) %}{{ return(adapter.dispatch('from_ms', 'oidc_dbt_audit')(expression)) }}{% endmacro %}
{% macro duckdb__from_ms(expression) %}epoch_ms({{ expression }}){% endmacro %}
{% macro postgres__from_ms(expression) %}(to_timestamp(({{ expression }}) / 1000.0) at time zone 'UTC'){% endmacro %}
{% macro redshift__from_ms(expression) %}(timestamp 'epoch' + ({{ expression }}) * interval '0.001 second'){% endmacro %}
{% macro snowflake__from_ms(expression) %}to_timestamp_ntz({{ expression }}, 3){% endmacro %}
{% macro bigquery__from_ms(expression) %}datetime(timestamp_millis({{ expression }}), 'UTC'){% endmacro %}
{% macro spark__from_ms(expression) %}timestamp_millis({{ expression }}){% endmacro %}
{% macro trino__from_ms(expression) %}cast(from_unixtime(({{ expression }}) / 1e3, 'UTC') as timestamp(3)){% endmacro %}
{% macro athena__from_ms(expression) %}{{ return(oidc_dbt_audit.trino__from_ms(expression)) }}{% endmacro %}
{% macro clickhouse__from_ms(expression) %}fromUnixTimestamp64Milli({{ expression }}, 'UTC'){% endmacro %}

{#- utc takes the zone from a time that has one. -#}
{% macro utc(expression) %}{{ return(adapter.dispatch('utc', 'oidc_dbt_audit')(expression)) }}{% endmacro %}
{% macro duckdb__utc(expression) %}cast(cast({{ expression }} as timestamptz) at time zone 'UTC' as timestamp){% endmacro %}
{% macro postgres__utc(expression) %}(cast({{ expression }} as timestamptz) at time zone 'UTC'){% endmacro %}
{% macro redshift__utc(expression) %}cast({{ expression }} as timestamp){% endmacro %}
{% macro snowflake__utc(expression) %}cast(convert_timezone('UTC', {{ expression }}) as timestamp_ntz){% endmacro %}
{% macro bigquery__utc(expression) %}datetime({{ expression }}, 'UTC'){% endmacro %}
{% macro spark__utc(expression) %}cast({{ expression }} as timestamp){% endmacro %}
{% macro trino__utc(expression) %}cast({{ expression }} at time zone 'UTC' as timestamp(3)){% endmacro %}
{% macro athena__utc(expression) %}{{ return(oidc_dbt_audit.trino__utc(expression)) }}{% endmacro %}
{% macro clickhouse__utc(expression) %}toDateTime64({{ expression }}, 3, 'UTC'){% endmacro %}

{#- from_iso turns text such as 2026-11-02T12:00:00.123Z into a time. -#}
{% macro from_iso(expression) %}{{ return(adapter.dispatch('from_iso', 'oidc_dbt_audit')(expression)) }}{% endmacro %}
{% macro duckdb__from_iso(expression) %}{{ return(oidc_dbt_audit.duckdb__utc(expression)) }}{% endmacro %}
{% macro postgres__from_iso(expression) %}{{ return(oidc_dbt_audit.postgres__utc(expression)) }}{% endmacro %}
{% macro redshift__from_iso(expression) %}(cast({{ expression }} as timestamptz) at time zone 'UTC'){% endmacro %}
{% macro snowflake__from_iso(expression) %}cast(convert_timezone('UTC', cast({{ expression }} as timestamp_tz)) as timestamp_ntz){% endmacro %}
{% macro bigquery__from_iso(expression) %}datetime(timestamp({{ expression }}), 'UTC'){% endmacro %}
{% macro spark__from_iso(expression) %}to_timestamp({{ expression }}){% endmacro %}
{% macro trino__from_iso(expression) %}cast(from_iso8601_timestamp({{ expression }}) at time zone 'UTC' as timestamp(3)){% endmacro %}
{% macro athena__from_iso(expression) %}{{ return(oidc_dbt_audit.trino__from_iso(expression)) }}{% endmacro %}
{% macro clickhouse__from_iso(expression) %}parseDateTime64BestEffortOrNull({{ expression }}, 3, 'UTC'){% endmacro %}

{#- ago is the time a number of seconds before now. -#}
{% macro ago(seconds) %}{{ return(adapter.dispatch('ago', 'oidc_dbt_audit')(seconds | int)) }}{% endmacro %}
{% macro duckdb__ago(seconds) %}(cast(now() at time zone 'UTC' as timestamp) - to_seconds({{ seconds }})){% endmacro %}
{% macro postgres__ago(seconds) %}((now() at time zone 'UTC') - interval '1 second' * {{ seconds }}){% endmacro %}
{% macro redshift__ago(seconds) %}dateadd(second, -{{ seconds }}, getdate()){% endmacro %}
{% macro snowflake__ago(seconds) %}dateadd(second, -{{ seconds }}, sysdate()){% endmacro %}
{% macro bigquery__ago(seconds) %}datetime_sub(current_datetime('UTC'), interval {{ seconds }} second){% endmacro %}
{% macro spark__ago(seconds) %}timestamp_seconds(unix_timestamp() - {{ seconds }}){% endmacro %}
{% macro trino__ago(seconds) %}cast(date_add('second', -{{ seconds }}, current_timestamp at time zone 'UTC') as timestamp(3)){% endmacro %}
{% macro athena__ago(seconds) %}{{ return(oidc_dbt_audit.trino__ago(seconds)) }}{% endmacro %}
{% macro clickhouse__ago(seconds) %}(now64(3, 'UTC') - toIntervalSecond({{ seconds }})){% endmacro %}
