with first_record as (
    select min(event_at) as recorded_since from {{ ref('stg_oidc_dbt__events') }}
),

logins as (
    select logins.*
    from {{ ref('oidc_dbt__logins') }} as logins
    cross join first_record
    where logins.logged_in_at >= first_record.recorded_since
        -- Records and logs are late: what is new may still be matched.
        and logins.logged_in_at <= {{ oidc_dbt_audit.ago(var('oidc_dbt_delay_minutes') | int * 60) }}
        {%- for client in var('oidc_dbt_ignored_clients') or [] %}
        and not {{ oidc_dbt_audit.like_user("lower(coalesce(logins.client, ''))", oidc_dbt_audit.literal(client | lower)) }}
        {%- endfor %}
),

-- Users of the vars, and those that credentials were issued for.
watched as (
    select distinct log_kind, login_id from (
        select logins.log_kind as log_kind, logins.login_id as login_id
        from logins
        cross join {{ ref('stg_oidc_dbt__users') }} as users
        where {{ oidc_dbt_audit.like_user('lower(logins.user_name)', 'users.user_pattern') }}
        union all
        select logins.log_kind as log_kind, logins.login_id as login_id
        from logins
        inner join {{ ref('oidc_dbt__credentials') }} as credentials on lower(credentials.warehouse_user) = lower(logins.user_name)
        union all
        select logins.log_kind as log_kind, logins.login_id as login_id
        from logins
        inner join {{ ref('oidc_dbt__credentials') }} as credentials on lower(credentials.warehouse_principal) = lower(logins.user_name)
        union all
        select logins.log_kind as log_kind, logins.login_id as login_id
        from logins
        inner join {{ ref('oidc_dbt__credentials') }} as credentials on credentials.warehouse_principal = logins.principal_subject
        union all
        -- Every session of a role of which one has a record.
        select logins.log_kind as log_kind, logins.login_id as login_id
        from (
            select log_kind, login_id, {{ dbt.split_part('session_name', "'/'", 1) }} || '/' || {{ dbt.split_part('session_name', "'/'", 2) }} as role_name
            from logins
            where session_name like '%:assumed-role/%'
        ) as logins
        inner join (
            select distinct {{ dbt.split_part('warehouse_session', "'/'", 1) }} || '/' || {{ dbt.split_part('warehouse_session', "'/'", 2) }} as role_name
            from {{ ref('oidc_dbt__credentials') }}
            where warehouse_session like '%:assumed-role/%'
        ) as roles on roles.role_name = logins.role_name
    ) as every_watched
),

matched as (
    select log_kind, login_id, max(case when factor_fits then 1 else 0 end) as fits
    from {{ ref('oidc_dbt__login_matches') }}
    group by log_kind, login_id
)

select
    logins.login_key as login_key,
    logins.log_kind as log_kind,
    logins.login_id as login_id,
    logins.logged_in_at as logged_in_at,
    logins.user_name as user_name,
    logins.factor as factor,
    logins.factor_id as factor_id,
    logins.is_secret as is_secret,
    logins.session_name as session_name,
    logins.principal_subject as principal_subject,
    logins.run_id as run_id,
    logins.client_ip as client_ip,
    logins.client as client,
    case
        when nullif(matched.login_id, '') is not null then 'another_factor'
        when logins.run_id = '' then 'no_run'
        else 'no_credential'
    end as reason
from logins
inner join watched on watched.log_kind = logins.log_kind and watched.login_id = logins.login_id
left join matched on matched.log_kind = logins.log_kind and matched.login_id = logins.login_id
where nullif(matched.login_id, '') is null or matched.fits = 0
