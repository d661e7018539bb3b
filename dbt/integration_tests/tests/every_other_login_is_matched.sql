-- A login of each run, matched with that run's own record.
select logins.log_kind, logins.login_id
from {{ ref('oidc_dbt__logins') }} as logins
left join (
    select distinct log_kind, login_id from {{ ref('oidc_dbt__login_matches') }} where factor_fits
) as matched on matched.log_kind = logins.log_kind and matched.login_id = logins.login_id
where logins.login_id like 'good-%' and nullif(matched.login_id, '') is null
