{{ config(enabled=oidc_dbt_audit.reads('bigquery')) }}

-- https://docs.cloud.google.com/bigquery/docs/information-schema-jobs
select
    {{ oidc_dbt_audit.text('job_id') }} as query_id,
    {{ oidc_dbt_audit.utc('creation_time') }} as started_at,
    {{ oidc_dbt_audit.text('user_email') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as login_id,
    {{ oidc_dbt_audit.text_null() }} as target,
    {{ oidc_dbt_audit.text(oidc_dbt_audit.label('labels', 'oidc_run_id')) }} as run_id,
    {{ oidc_dbt_audit.text('statement_type') }} as query_type,
    {{ oidc_dbt_audit.sha256('query') }} as query_sha256
from {{ source('oidc_dbt_bigquery_jobs', 'jobs') }}
where {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('creation_time')) }}
