{{ config(severity=var('oidc_dbt_severity')) }}
-- An allowed request whose outcome has no record: a credential may exist.
select * from {{ ref('oidc_dbt__decisions') }} where outcome = 'unknown'
