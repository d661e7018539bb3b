{{ config(severity=var('oidc_dbt_severity'), enabled=(var('oidc_dbt_reviews') is not none)) }}
select * from {{ ref('oidc_dbt__access_review') }} where is_review_due
