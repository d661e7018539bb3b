{{ config(enabled=oidc_dbt_audit.reads('databricks')) }}

-- https://docs.databricks.com/aws/en/admin/system-tables/query-history
select
    {{ oidc_dbt_audit.text('statement_id') }} as query_id,
    {{ oidc_dbt_audit.utc('start_time') }} as started_at,
    {{ oidc_dbt_audit.text('executed_by') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as login_id,
    {{ oidc_dbt_audit.text("query_tags['oidc_dbt_target']") }} as target,
    {{ oidc_dbt_audit.text("query_tags['oidc_dbt_run_id']") }} as run_id,
    {{ oidc_dbt_audit.text('statement_type') }} as query_type,
    {{ oidc_dbt_audit.sha256('statement_text') }} as query_sha256
from {{ source('oidc_dbt_databricks_queries', 'history') }}
where {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('start_time')) }}
