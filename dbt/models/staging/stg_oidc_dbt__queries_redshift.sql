{{ config(enabled=oidc_dbt_audit.reads('redshift')) }}

-- https://docs.aws.amazon.com/redshift/latest/dg/SYS_QUERY_HISTORY.html; query_text ends after 4,000 characters
select
    {{ oidc_dbt_audit.text('query_id') }} as query_id,
    {{ oidc_dbt_audit.utc('start_time') }} as started_at,
    {{ oidc_dbt_audit.text('trim(username)') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as login_id,
    {{ oidc_dbt_audit.text(oidc_dbt_audit.between_marks('trim(query_label)', 'oidc-dbt target=', ' ')) }} as target,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('trim(query_type)') }} as query_type,
    {{ oidc_dbt_audit.sha256('trim(query_text)') }} as query_sha256
from {{ source('oidc_dbt_redshift', 'query_history') }}
where {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('start_time')) }}
