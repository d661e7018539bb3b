{{ config(enabled=oidc_dbt_audit.reads('cloudtrail')) }}

-- https://docs.aws.amazon.com/athena/latest/ug/create-cloudtrail-table-partition-projection.html
-- The first call of each access key and session in a day.
with calls as (
    select
        useridentity.arn as caller_arn,
        useridentity.accesskeyid as access_key_id,
        case when useridentity.type = 'AssumedRole' then useridentity.sessioncontext.sessionissuer.arn else useridentity.arn end as user_name,
        eventtime,
        sourceipaddress,
        useragent
    from {{ source('oidc_dbt_cloudtrail', 'events') }}
    where useridentity.accesskeyid is not null and useridentity.arn is not null
        and coalesce(errorcode, '') = ''
        and {{ oidc_dbt_audit.recent(oidc_dbt_audit.from_iso('eventtime')) }}
)

select
    {{ oidc_dbt_audit.text('access_key_id') }} || '/' || caller_arn || '@' || min(eventtime) as login_id,
    {{ oidc_dbt_audit.from_iso('min(eventtime)') }} as logged_in_at,
    {{ oidc_dbt_audit.text('min(user_name)') }} as user_name,
    {{ oidc_dbt_audit.text('caller_arn') }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    -- AKIA: a stored key; ASIA: that of a session
    case when access_key_id like 'AKIA%' then 'access_key' else 'session' end as factor,
    {{ oidc_dbt_audit.text('access_key_id') }} as factor_id,
    access_key_id like 'AKIA%' as is_secret,
    {{ oidc_dbt_audit.text('min(sourceipaddress)') }} as client_ip,
    {{ oidc_dbt_audit.text('min(useragent)') }} as client
from calls
group by access_key_id, caller_arn, substr(eventtime, 1, 10)
