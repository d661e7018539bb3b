{{ config(severity='warn') }}
-- Users of the log whose logins are not looked at: they are in no record, in oidc_dbt_watched and in oidc_dbt_unwatched.
select * from {{ ref('oidc_dbt__unwatched_users') }}
