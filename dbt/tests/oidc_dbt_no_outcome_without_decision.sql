{{ config(severity=var('oidc_dbt_severity')) }}
-- A credential whose decision has no record: a line was lost, or never written.
select * from {{ ref('oidc_dbt__decisions') }} where recorded_outcome in ('issued', 'renewed', 'skipped') and decision is null
