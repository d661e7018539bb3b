{{ config(enabled=oidc_dbt_audit.reads('snowflake')) }}

-- https://docs.snowflake.com/en/sql-reference/account-usage/login_history
select
    {{ oidc_dbt_audit.text('event_id') }} as login_id,
    {{ oidc_dbt_audit.utc('event_timestamp') }} as logged_in_at,
    {{ oidc_dbt_audit.text('user_name') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('first_authentication_factor') }} as factor,
    {{ oidc_dbt_audit.text('first_authentication_factor_id') }} as factor_id,
    -- A service user logs in by a token of its workload, or by OAuth; a person by single sign-on.
    not (
        upper(coalesce(first_authentication_factor, '')) like 'WORKLOAD_IDENTITY%'
        or upper(coalesce(first_authentication_factor, '')) like 'OAUTH%'
        or upper(coalesce(first_authentication_factor, '')) in ('SAML2_ASSERTION', 'ID_TOKEN', 'WEB_SESSION')
    ) as is_secret,
    {{ oidc_dbt_audit.text('client_ip') }} as client_ip,
    {{ oidc_dbt_audit.text('reported_client_type') }} as client
from {{ source('oidc_dbt_snowflake', 'login_history') }}
where is_success = 'YES' and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('event_timestamp')) }}
