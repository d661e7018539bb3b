with watched as (
    select distinct logins.log_kind as log_kind, logins.user_name as user_name
    from {{ ref('oidc_dbt__logins') }} as logins
    inner join {{ ref('stg_oidc_dbt__watched_logins') }} as watched on watched.log_kind = logins.log_kind and watched.login_id = logins.login_id
)

select
    logins.log_kind || '/' || logins.user_name as user_key,
    logins.log_kind as log_kind,
    logins.user_name as user_name,
    count(*) as logins,
    max(case when logins.is_secret then 1 else 0 end) = 1 as by_secret,
    min(logins.logged_in_at) as first_login_at,
    max(logins.logged_in_at) as last_login_at
from {{ ref('oidc_dbt__logins') }} as logins
left join watched on watched.log_kind = logins.log_kind and watched.user_name = logins.user_name
where nullif(watched.user_name, '') is null and logins.user_name is not null
    {%- for user in var('oidc_dbt_unwatched') or [] %}
    and not {{ oidc_dbt_audit.like_user('lower(logins.user_name)', oidc_dbt_audit.literal(user | lower)) }}
    {%- endfor %}
group by logins.log_kind, logins.user_name
