{{ config(enabled=oidc_dbt_audit.reads('postgres')) }}

-- The server's csvlog, with log_connections: https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG
-- A session has two lines: how the login was authenticated (from PostgreSQL 14 on), and that it was authorized.
with connections as (
    select
        session_id,
        min(case when message like 'connection authorized:%' then log_time end) as authorized_at,
        min(case when message like 'connection authorized:%' then user_name end) as authorized_user,
        min(case when message like 'connection authorized:%' then connection_from end) as authorized_from,
        min(case when message like 'connection authorized:%' then {{ oidc_dbt_audit.between_marks('message', 'application_name=', ' SSL') }} end) as application_name,
        min(case when message like 'connection authenticated:%' then {{ oidc_dbt_audit.between_marks('message', ' method=', ' ') }} end) as method
    from {{ source('oidc_dbt_postgres', 'log') }}
    where message like 'connection auth%' and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('log_time')) }}
    group by session_id
)

select
    {{ oidc_dbt_audit.text('session_id') }} as login_id,
    {{ oidc_dbt_audit.utc('authorized_at') }} as logged_in_at,
    {{ oidc_dbt_audit.text('authorized_user') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('method') }} as factor,
    {{ oidc_dbt_audit.text_null() }} as factor_id,
    -- A managed service takes tokens by the method "password" or "pam", too.
    coalesce(method, '') in ('scram-sha-256', 'md5', 'trust') as is_secret,
    {{ oidc_dbt_audit.text('authorized_from') }} as client_ip,
    {{ oidc_dbt_audit.text('application_name') }} as client
from connections
where authorized_at is not null
