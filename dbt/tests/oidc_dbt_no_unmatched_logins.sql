{{ config(severity=var('oidc_dbt_severity')) }}
-- Logins that no recorded credential explains.
select * from {{ ref('oidc_dbt__unmatched_logins') }}
