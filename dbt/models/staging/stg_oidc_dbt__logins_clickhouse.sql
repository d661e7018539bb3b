{{ config(enabled=oidc_dbt_audit.reads('clickhouse')) }}

-- https://clickhouse.com/docs/operations/system-tables/session_log
select
    {{ oidc_dbt_audit.text('auth_id') }} as login_id,
    {{ oidc_dbt_audit.utc('event_time_microseconds') }} as logged_in_at,
    {{ oidc_dbt_audit.text(adapter.quote('user')) }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('auth_type') }} as factor,
    {{ oidc_dbt_audit.text_null() }} as factor_id,
    upper({{ oidc_dbt_audit.text('auth_type') }}) like '%PASSWORD' as is_secret,
    {{ oidc_dbt_audit.text('client_address') }} as client_ip,
    {{ oidc_dbt_audit.text('interface') }} as client
from {{ source('oidc_dbt_clickhouse', 'session_log') }}
where {{ adapter.quote('type') }} = 'LoginSuccess' and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('event_time_microseconds')) }}
