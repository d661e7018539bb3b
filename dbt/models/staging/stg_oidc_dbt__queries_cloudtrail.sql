{{ config(enabled=oidc_dbt_audit.reads('cloudtrail')) }}

-- Athena's calls; CloudTrail leaves out the text of a query.
select
    {{ oidc_dbt_audit.text("coalesce(" ~ oidc_dbt_audit.json_text('responseelements', ['queryExecutionId']) ~ ", eventid)") }} as query_id,
    {{ oidc_dbt_audit.from_iso('eventtime') }} as started_at,
    {{ oidc_dbt_audit.text('useridentity.arn') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as login_id,
    {{ oidc_dbt_audit.text_null() }} as target,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    {{ oidc_dbt_audit.text('eventname') }} as query_type,
    {{ oidc_dbt_audit.text_null() }} as query_sha256
from {{ source('oidc_dbt_cloudtrail', 'events') }}
where eventsource = 'athena.amazonaws.com' and eventname = 'StartQueryExecution'
    and {{ oidc_dbt_audit.recent(oidc_dbt_audit.from_iso('eventtime')) }}
