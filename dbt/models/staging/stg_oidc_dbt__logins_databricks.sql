{{ config(enabled=oidc_dbt_audit.reads('databricks')) }}

-- https://docs.databricks.com/aws/en/admin/account-settings/audit-logs
select
    {{ oidc_dbt_audit.text('event_id') }} as login_id,
    {{ oidc_dbt_audit.utc('event_time') }} as logged_in_at,
    {{ oidc_dbt_audit.text('coalesce(user_identity.email, user_identity.subject_name)') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('action_name') }} as factor,
    {{ oidc_dbt_audit.text_null() }} as factor_id,
    action_name in ('tokenLogin', 'login') as is_secret, -- a personal access token, or a password
    {{ oidc_dbt_audit.text('source_ip_address') }} as client_ip,
    {{ oidc_dbt_audit.text('user_agent') }} as client
from {{ source('oidc_dbt_databricks_logins', 'audit') }}
where service_name = 'accounts'
    and (action_name like '%Login' or action_name in ('login', 'oidcTokenAuthorization', 'accountInHouseOAuthClientAuthentication'))
    and response.status_code = 200
    and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('event_time')) }}
