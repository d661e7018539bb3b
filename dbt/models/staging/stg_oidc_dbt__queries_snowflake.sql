{{ config(enabled=oidc_dbt_audit.reads('snowflake')) }}

-- https://docs.snowflake.com/en/sql-reference/account-usage/query_history, and sessions for the login
select
    {{ oidc_dbt_audit.text('q.query_id') }} as query_id,
    {{ oidc_dbt_audit.utc('q.start_time') }} as started_at,
    {{ oidc_dbt_audit.text('q.user_name') }} as user_name,
    {{ oidc_dbt_audit.text('s.login_event_id') }} as login_id,
    {{ oidc_dbt_audit.text(oidc_dbt_audit.between_marks('q.query_tag', 'oidc-dbt target=', ' ')) }} as target,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('q.query_type') }} as query_type,
    {{ oidc_dbt_audit.sha256('q.query_text') }} as query_sha256
from {{ source('oidc_dbt_snowflake', 'query_history') }} as q
left join {{ source('oidc_dbt_snowflake', 'sessions') }} as s on s.session_id = q.session_id
where {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('q.start_time')) }}
