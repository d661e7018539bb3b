{{ config(enabled=oidc_dbt_audit.reads('redshift')) }}

-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_CONNECTION_LOG.html (superusers only, seven days)
select
    {{ oidc_dbt_audit.text('session_id') }} || '@' || {{ oidc_dbt_audit.text('record_time') }} as login_id,
    {{ oidc_dbt_audit.utc('record_time') }} as logged_in_at,
    {{ oidc_dbt_audit.text('trim(user_name)') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('trim(auth_method)') }} as factor,
    {{ oidc_dbt_audit.text("nullif(trim(iam_auth_guid), '')") }} as factor_id,
    lower(trim(auth_method)) = 'password' and coalesce(trim(iam_auth_guid), '') = '' as is_secret,
    {{ oidc_dbt_audit.text('trim(remote_host)') }} as client_ip,
    {{ oidc_dbt_audit.text('trim(application_name)') }} as client
from {{ source('oidc_dbt_redshift', 'connection_log') }}
where trim(event) = 'authenticated' and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('record_time')) }}
