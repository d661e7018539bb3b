{{ config(enabled=oidc_dbt_audit.reads('clickhouse')) }}

-- https://clickhouse.com/docs/operations/system-tables/query_log
select
    {{ oidc_dbt_audit.text('query_id') }} as query_id,
    {{ oidc_dbt_audit.utc('event_time_microseconds') }} as started_at,
    {{ oidc_dbt_audit.text(adapter.quote('user')) }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as login_id,
    {{ oidc_dbt_audit.text_null() }} as target,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('query_kind') }} as query_type,
    {{ oidc_dbt_audit.sha256('query') }} as query_sha256
from {{ source('oidc_dbt_clickhouse', 'query_log') }}
where {{ adapter.quote('type') }} = 'QueryStart' and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('event_time_microseconds')) }}
