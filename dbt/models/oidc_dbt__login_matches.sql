-- A login and a recorded credential belong together if they have a key in common and the login is within the
-- credential's time. The keys from the most exact to the least: the session's name, the subject, the run, the user.
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
            when principal_subject is not null then 'subject:' || principal_subject
            when run_id is not null then 'run:' || run_id
            else 'user:' || lower(user_name)
        end as match_key
    from logins
    union all
    select logins.log_kind as log_kind, logins.login_id as login_id, 'target:' || login_targets.target as match_key
    from logins
    inner join login_targets on login_targets.log_kind = logins.log_kind and login_targets.login_id = logins.login_id
    where logins.session_name is null and logins.principal_subject is null and logins.run_id is null
),

credential_keys as (
    select credential_key, 'session:' || coalesce(warehouse_session, session_uid) as match_key from credentials
    union all
    select credential_key, 'subject:' || coalesce(warehouse_principal, subject) as match_key from credentials
    union all
    select credential_key, 'run:' || run_id as match_key from credentials
    union all
    select credential_key, 'user:' || lower(coalesce(warehouse_user, session_uid)) as match_key from credentials
    union all
    -- The record that names the user is not for the target's other users.
    select credential_key, 'target:' || target as match_key from credentials where warehouse_user is null
)

select distinct
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
