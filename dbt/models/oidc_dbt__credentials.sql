{%- set end_of_time = 4102444800000 -%} {#- 2100: not every warehouse can add to the year 9999 -#}
with issued as (
    select * from {{ ref('stg_oidc_dbt__events') }}
    where outcome in ('issued', 'renewed') and event_status = 'Success'
),

revoked as (
    select provider as revoked_provider, session_uid as revoked_session, max(event_ms) as revoked_ms
    from {{ ref('stg_oidc_dbt__events') }}
    where outcome = 'revoked' and session_uid is not null
    group by provider, session_uid
),

windows as (
    select
        issued.*,
        case
            when is_static then event_ms + {{ var('oidc_dbt_static_minutes') | int * 60000 }}
            when coalesce(expires_ms, 0) = 0 or expires_ms > {{ end_of_time }} then {{ end_of_time }}
            else expires_ms
        end as ends_ms,
        coalesce(revoked.revoked_ms, 0) as revoked_ms
    from issued
    left join revoked on revoked.revoked_provider = issued.provider and revoked.revoked_session = issued.session_uid
),

bounded as (
    select
        windows.*,
        case when revoked_ms >= event_ms and revoked_ms < ends_ms then revoked_ms else ends_ms end as valid_until_ms
    from windows
)

select
    event_key as credential_key,
    correlation_uid,
    outcome,
    target,
    provider,
    credential_kind,
    credential_sha256,
    session_uid,
    is_static,
    -- Of the others, no login can look like one by password or key.
    credential_kind in ('database_login', 'key_pair', 'service_principal') as is_secret,
    event_at as valid_from,
    {{ oidc_dbt_audit.from_ms('valid_until_ms') }} as valid_until,
    {{ oidc_dbt_audit.from_ms('event_ms - ' ~ (var('oidc_dbt_skew_seconds') | int * 1000)) }} as login_from,
    {{ oidc_dbt_audit.from_ms('valid_until_ms + ' ~ (var('oidc_dbt_skew_seconds') | int * 1000)) }} as login_until,
    revoked_ms > 0 and valid_until_ms = revoked_ms as is_revoked,
    warehouse_user,
    warehouse_principal,
    coalesce(warehouse_session, case when session_uid like 'arn:%' then session_uid end) as warehouse_session,
    access_key_id,
    run_tag,
    identity_name,
    identity_kind,
    subject,
    repository,
    run_id,
    run_attempt,
    actor,
    actor_kind
from bounded
