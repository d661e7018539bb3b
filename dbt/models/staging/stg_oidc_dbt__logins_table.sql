{{ config(enabled=oidc_dbt_audit.reads('table')) }}

-- A table of your own, for a warehouse whose log is not known here. Its times are in UTC.
select
    {{ oidc_dbt_audit.text('login_id') }} as login_id,
    logged_in_at,
    {{ oidc_dbt_audit.text('user_name') }} as user_name,
    {{ oidc_dbt_audit.text('session_name') }} as session_name,
    {{ oidc_dbt_audit.text('principal_subject') }} as principal_subject,
    {{ oidc_dbt_audit.text('run_id') }} as run_id,
    {{ oidc_dbt_audit.text('factor') }} as factor,
    {{ oidc_dbt_audit.text('factor_id') }} as factor_id,
    is_secret,
    {{ oidc_dbt_audit.text('client_ip') }} as client_ip,
    {{ oidc_dbt_audit.text('client') }} as client
from {{ source('oidc_dbt_own', 'logins') }}
where {{ oidc_dbt_audit.recent('logged_in_at') }}
