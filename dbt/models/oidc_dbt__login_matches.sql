-- A login and a recorded credential belong together if they have a key in common and the login is within the
-- credential's time. The keys from the most exact to the least: access key, session, principal, run, user, target.
with logins as (
    select * from {{ ref('oidc_dbt__logins') }}
),

credentials as (
    select * from {{ ref('oidc_dbt__credentials') }}
),

login_targets as (
    select logins.log_kind as log_kind, logins.login_id as login_id, users.target as target
    from logins
    cross join {{ ref('stg_oidc_dbt__users') }} as users
    where users.target is not null and {{ oidc_dbt_audit.like_user('lower(logins.user_name)', 'users.user_pattern') }}
),

login_keys as (
    select
        log_kind, login_id,
        case
            when session_name is not null then 'session:' || session_name
            when principal_subject is not null then 'principal:' || principal_subject
            when run_id is not null and log_kind = 'table' then 'own run:' || run_id
            when run_id is not null then 'run:' || run_id
            else 'user:' || lower(user_name)
        end as match_key
    from logins
    union all
    select log_kind, login_id, 'access key:' || factor_id as match_key
    from logins
    where session_name is not null and factor_id is not null
    union all
    select logins.log_kind as log_kind, logins.login_id as login_id, 'target:' || login_targets.target as match_key
    from logins
    inner join login_targets on login_targets.log_kind = logins.log_kind and login_targets.login_id = logins.login_id
    where logins.session_name is null and logins.principal_subject is null and logins.run_id is null
),

credential_keys as (
    -- A record that has the access key is not for other keys of the session, one that has the user not for the target's others.
    select credential_key, 'access key:' || access_key_id as match_key from credentials
    union all
    select credential_key, 'session:' || warehouse_session as match_key from credentials where access_key_id is null
    union all
    select credential_key, 'principal:' || warehouse_principal as match_key from credentials
    union all
    -- Not the run's credentials for other targets, which have no tag.
    select credential_key, 'run:' || run_tag as match_key from credentials
    union all
    select credential_key, 'own run:' || coalesce(run_tag, run_id) as match_key from credentials
    union all
    select credential_key, 'user:' || lower(warehouse_user) as match_key from credentials
    union all
    select credential_key, 'user:' || lower(warehouse_principal) as match_key from credentials
    union all
    select credential_key, 'target:' || target as match_key from credentials where warehouse_user is null
)

select distinct
    logins.login_key || '/' || credentials.credential_key as match_id,
    logins.login_key as login_key,
    logins.log_kind as log_kind,
    logins.login_id as login_id,
    logins.logged_in_at as logged_in_at,
    logins.user_name as user_name,
    credentials.credential_key as credential_key,
    credentials.correlation_uid as correlation_uid,
    credentials.target as target,
    credentials.repository as repository,
    credentials.run_id as run_id,
    -- A login by password or key needs a credential that is one.
    credentials.is_secret or not logins.is_secret as factor_fits
from logins
inner join login_keys on login_keys.log_kind = logins.log_kind and login_keys.login_id = logins.login_id
inner join credential_keys on credential_keys.match_key = login_keys.match_key
inner join credentials on credentials.credential_key = credential_keys.credential_key
where logins.logged_in_at >= credentials.login_from and logins.logged_in_at <= credentials.login_until
