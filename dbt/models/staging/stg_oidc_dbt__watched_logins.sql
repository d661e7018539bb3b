-- Logins of watched users: those of the vars, and those that credentials were issued for.
select distinct log_kind, login_id from (
    select logins.log_kind as log_kind, logins.login_id as login_id
    from {{ ref('oidc_dbt__logins') }} as logins
    cross join {{ ref('stg_oidc_dbt__users') }} as users
    where {{ oidc_dbt_audit.like_user('lower(logins.user_name)', 'users.user_pattern') }}
    union all
    select logins.log_kind as log_kind, logins.login_id as login_id
    from {{ ref('oidc_dbt__logins') }} as logins
    inner join {{ ref('oidc_dbt__credentials') }} as credentials on lower(credentials.warehouse_user) = lower(logins.user_name)
    union all
    select logins.log_kind as log_kind, logins.login_id as login_id
    from {{ ref('oidc_dbt__logins') }} as logins
    inner join {{ ref('oidc_dbt__credentials') }} as credentials on lower(credentials.warehouse_principal) = lower(logins.user_name)
    union all
    select logins.log_kind as log_kind, logins.login_id as login_id
    from {{ ref('oidc_dbt__logins') }} as logins
    inner join {{ ref('oidc_dbt__credentials') }} as credentials on credentials.warehouse_principal = logins.principal_subject
    union all
    -- Every session of a role of which one has a record.
    select logins.log_kind as log_kind, logins.login_id as login_id
    from (
        select log_kind, login_id, {{ dbt.split_part('session_name', "'/'", 1) }} || '/' || {{ dbt.split_part('session_name', "'/'", 2) }} as role_name
        from {{ ref('oidc_dbt__logins') }} as logins
        where session_name like '%:assumed-role/%'
    ) as logins
    inner join (
        select distinct {{ dbt.split_part('warehouse_session', "'/'", 1) }} || '/' || {{ dbt.split_part('warehouse_session', "'/'", 2) }} as role_name
        from {{ ref('oidc_dbt__credentials') }}
        where warehouse_session like '%:assumed-role/%'
    ) as roles on roles.role_name = logins.role_name
) as every_watched
