{{ config(enabled=oidc_dbt_audit.reads('postgres')) }}

-- The same csvlog, with log_statement or log_min_duration_statement.
select
    {{ oidc_dbt_audit.text('session_id') }} || ':' || {{ oidc_dbt_audit.text('session_line_num') }} as query_id,
    {{ oidc_dbt_audit.utc('log_time') }} as started_at,
    {{ oidc_dbt_audit.text('user_name') }} as user_name,
    {{ oidc_dbt_audit.text('session_id') }} as login_id,
    {{ oidc_dbt_audit.text(oidc_dbt_audit.between_marks('application_name', 'oidc-dbt target=', ' ')) }} as target,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('command_tag') }} as query_type,
    {{ oidc_dbt_audit.sha256("substr(message, " ~ dbt.position("'statement: '", 'message') ~ " + 11)") }} as query_sha256
from {{ source('oidc_dbt_postgres', 'log') }}
where (message like 'statement: %' or message like 'duration: % statement: %') and error_severity = 'LOG'
    and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('log_time')) }}
