{{ config(severity=var('oidc_dbt_severity')) }}
-- No unmatched login means nothing if records or logs have stopped.
with newest as (
    select 'records' as part, max(event_at) as newest_at from {{ ref('stg_oidc_dbt__events') }}
    union all
    select 'logins' as part, max(logged_in_at) as newest_at from {{ ref('oidc_dbt__logins') }}
)

select * from newest
where newest_at is null or newest_at < {{ oidc_dbt_audit.ago(var('oidc_dbt_fresh_hours') | int * 3600) }}
