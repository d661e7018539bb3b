{{ config(enabled=oidc_dbt_audit.reads('table')) }}

-- A table of your own. Its times are in UTC.
select
    {{ oidc_dbt_audit.text('query_id') }} as query_id,
    started_at,
    {{ oidc_dbt_audit.text('user_name') }} as user_name,
    {{ oidc_dbt_audit.text('login_id') }} as login_id,
    {{ oidc_dbt_audit.text('target') }} as target,
    {{ oidc_dbt_audit.text('run_id') }} as run_id,
    {{ oidc_dbt_audit.text('query_type') }} as query_type,
    {{ oidc_dbt_audit.text('query_sha256') }} as query_sha256
from {{ source('oidc_dbt_own', 'queries') }}
where {{ oidc_dbt_audit.recent('started_at') }}
